"""torchvision's detectors: forward stays Python, and everything that multiplies is int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from benchmarks.architectures import import_models
from fxq.graph.islands import graphs_of
from fxq.graph.reasons import Why


@dataclass(frozen=True)
class Case:
    """A detector.

    Attributes:
        name: torchvision's.
        graphs: what it calls, as far as that can be traced.
        islands: what in it stays Python.
        options: that make it quick.
    """

    name: str
    graphs: frozenset[str]
    islands: frozenset[str]
    options: tuple[tuple[str, int], ...]


_SMALL = (("min_size", 64), ("max_size", 80))
_FEW = (*_SMALL, ("rpn_pre_nms_top_n_test", 20), ("rpn_post_nms_top_n_test", 8), ("box_detections_per_img", 4))
_SSD = (("topk_candidates", 4), ("detections_per_img", 4))
_ROIS = frozenset({"backbone", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"})
_TWO_STAGES = frozenset({"", "rpn", "roi_heads"})

CASES = (
    Case("fasterrcnn_resnet50_fpn", _ROIS, _TWO_STAGES, _FEW),
    Case("maskrcnn_resnet50_fpn", _ROIS | {"roi_heads.mask_head", "roi_heads.mask_predictor"}, _TWO_STAGES, _FEW),
    Case("keypointrcnn_resnet50_fpn", _ROIS | {"roi_heads.keypoint_head", "roi_heads.keypoint_predictor"}, _TWO_STAGES, _FEW),
    Case("retinanet_resnet50_fpn", frozenset({"backbone", "head"}), frozenset({""}), (*_SMALL, *_SSD)),
    Case("fcos_resnet50_fpn", frozenset({"backbone", "head"}), frozenset({""}), (*_SMALL, *_SSD)),
    Case("ssd300_vgg16", frozenset({"backbone", "head"}), frozenset({""}), _SSD),
    Case("ssdlite320_mobilenet_v3_large", frozenset({"backbone", "head"}), frozenset({""}), _SSD),
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indexes of the boxes that are kept, best first: none overlaps a better one by more than the threshold."""
    from torchvision.ops import box_iou

    order, found = scores.argsort(descending=True), []
    while order.numel():
        found.append(order[0])
        order = order[box_iou(boxes[order[:1]], boxes[order])[0] <= iou_threshold]
    return torch.stack(found) if found else order


def roi_align(values: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int) -> Tensor:
    """[N, C, H, W] and rows of (image, x1, y1, x2, y2) → [K, C, *output_size]: one sample in the middle of every cell."""
    boxes, (height, width) = rois[:, 1:] * spatial_scale, values.shape[2:]
    ys, xs = ((torch.arange(size) + 0.5) / size for size in output_size)
    x = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * xs
    y = boxes[:, 1, None] + (boxes[:, 3] - boxes[:, 1])[:, None] * ys
    grid = torch.stack(torch.broadcast_tensors(2 * x[:, None] / width - 1, 2 * y[:, :, None] / height - 1), -1)
    return F.grid_sample(values[rois[:, 0].long()], grid, align_corners=False)


@pytest.fixture(scope="module", autouse=True)
def detection() -> Iterator[Any]:
    """torchvision's detectors, with ops in Python where its own are not compiled."""
    try:
        import_models()
        from torchvision.models import detection as models
        from torchvision.ops import boxes, poolers
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "nms", nms)
        patch.setattr(poolers, "roi_align", roi_align)
        yield models


def build(models: Any, case: Case) -> nn.Module:
    torch.manual_seed(0)
    make: Callable[..., nn.Module] = getattr(models, case.name)
    model = make(weights=None, weights_backbone=None, num_classes=4, **dict(case.options))
    for module in model.modules():  # nothing of an untrained network is certain
        if hasattr(module, "score_thresh"):
            module.score_thresh = 0.0
    return model.eval()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_products_are_int8(detection: Any, case: Case) -> None:
    model = build(detection, case)
    images = [torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    int8 = fxq.quantize(model, [(images,)], progress=False)
    with torch.no_grad():
        exact, found = model(images), int8(images)
        assert [sorted(each) for each in found] == [sorted(each) for each in exact]
        assert len(int8(images[:1])) == 1
    assert {graph.path for graph in graphs_of(int8)} == {"", *case.graphs}
    report = fxq.report(int8)
    islands = {
        "" if row.name == "model" else row.name for row in report.rows if row.reason is not None and row.reason.why is Why.UNTRACEABLE
    }
    assert islands == case.islands
    assert report.totals.macs_share_int8 == 1.0 and not report.totals.not_counted
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) for module in model.modules())
    assert report.totals.heavy_int8 == report.totals.heavy >= layers
