"""One file per pass, named by its verb, and the pipelines they make."""

from fxq.graph.stages import Stage
from fxq.passes.annotate import annotate
from fxq.passes.arguments import split_inputs
from fxq.passes.cancel_qdq import cancel_qdq
from fxq.passes.canonicalize import canonicalize
from fxq.passes.decompose import decompose, decompose_trainable
from fxq.passes.expand_products import expand_products
from fxq.passes.fold_constants import fold_buffers, fold_constants
from fxq.passes.freeze_qparams import freeze_qparams
from fxq.passes.fuse import attach, fuse
from fxq.passes.insert_fake_quantizes import insert_fake_quantizes
from fxq.passes.insert_moments import insert_moments
from fxq.passes.insert_observers import insert_observers
from fxq.passes.interface import expose_integers
from fxq.passes.make_trainable import make_trainable
from fxq.passes.pipeline import Context, Pass, pipeline, require_stage, run_pipeline
from fxq.passes.quantize_constants import quantize_constants
from fxq.passes.resolve_qconfigs import resolve_qconfigs
from fxq.passes.share_qparams import share_qparams
from fxq.passes.shrink_weights import shrink_weights
from fxq.passes.swap_modules import swap_modules
from fxq.passes.trace import trace

FUSE = pipeline(
    Pass("canonicalize", Stage.TRACED, Stage.TRACED, canonicalize),
    Pass("resolve_qconfigs", Stage.TRACED, Stage.TRACED, resolve_qconfigs, annotates=True),  # before fusion: every op is asked about
    Pass("fuse", Stage.TRACED, Stage.FUSED, fuse),
)

PREPARE = pipeline(
    *FUSE[:-1],
    Pass("expand_products", Stage.TRACED, Stage.TRACED, expand_products),  # a weight that it permutes is folded next
    Pass("fold_constants", Stage.TRACED, Stage.TRACED, fold_constants),  # before fusion: a batch norm folds into constants only
    FUSE[-1],
    Pass("decompose", Stage.FUSED, Stage.FUSED, decompose),
    Pass("annotate", Stage.FUSED, Stage.ANNOTATED, annotate, annotates=True),
    Pass("share_qparams", Stage.ANNOTATED, Stage.ANNOTATED, share_qparams, annotates=True),
    Pass("insert_observers", Stage.ANNOTATED, Stage.OBSERVED, insert_observers),
    Pass("insert_moments", Stage.OBSERVED, Stage.OBSERVED, insert_moments),
)

# batch norms are trained behind the ops that PREPARE folds them into; everything else is decided in the same way
PREPARE_QAT = pipeline(
    *PREPARE[:3],
    Pass("fold_buffers", Stage.TRACED, Stage.TRACED, fold_buffers),  # what is computed from parameters changes with them
    Pass("attach", Stage.TRACED, Stage.FUSED, attach),
    Pass("decompose", Stage.FUSED, Stage.FUSED, decompose_trainable),
    *PREPARE[-4:-2],
    Pass("insert_fake_quantizes", Stage.ANNOTATED, Stage.OBSERVED, insert_fake_quantizes),
    Pass("make_trainable", Stage.OBSERVED, Stage.OBSERVED, make_trainable),
)

CONVERT = pipeline(
    Pass("freeze_qparams", Stage.OBSERVED, Stage.REFERENCE, freeze_qparams),
    Pass("swap_modules", Stage.REFERENCE, Stage.REFERENCE, swap_modules),
    Pass("shrink_weights", Stage.REFERENCE, Stage.REFERENCE, shrink_weights),
    Pass("expose_integers", Stage.REFERENCE, Stage.REFERENCE, expose_integers),
    Pass("quantize_constants", Stage.REFERENCE, Stage.REFERENCE, quantize_constants),
    Pass("cancel_qdq", Stage.REFERENCE, Stage.REFERENCE, cancel_qdq),  # after the constants: their q is gone
)

__all__ = [
    "CONVERT",
    "FUSE",
    "PREPARE",
    "PREPARE_QAT",
    "Context",
    "Pass",
    "pipeline",
    "require_stage",
    "run_pipeline",
    "split_inputs",
    "trace",
]
