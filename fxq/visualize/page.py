"""visualize(model): one HTML file that shows every stage of a model's compilation, and opens without a network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from fxq.errors import DataError
from fxq.graph.module import FxqModule
from fxq.passes.garbage import without_cycle_collection
from fxq.report import Comparison, TimeProfile
from fxq.report.wording import describe_origin, short_type
from fxq.visualize.cards import Card
from fxq.visualize.changes import Changes, changes_between
from fxq.visualize.costs import Costs, Measured, make_costs
from fxq.visualize.hierarchy import Frame, make_frames
from fxq.visualize.kernels import kernels_of
from fxq.visualize.picture import require_model
from fxq.visualize.stages import MEANINGS, StageView, known_values, stages_of

_SCRIPTS = ("model.js", "geometry.js", "draw.js", "panel.js", "app.js")


def visualize(
    model: FxqModule, path: str | Path = "graph.html", *, profile: TimeProfile | None = None, comparison: Comparison | None = None
) -> Path:
    """Writes an interactive picture of a model: every stage of its compilation, what each pass changed, and why.

    The file has all that it needs inside and opens in any browser. Call a converted model once before, or profile it, and the
    picture has its compiled kernels.

    Args:
        model: from prepare_fx, convert_fx, quantize or fuse_fx. A prepared model shows the stages up to that.
        path: of the HTML file.
        profile: what fxq.profile has measured: nodes can be coloured by latency.
        comparison: what fxq.compare has found: nodes can be coloured by what int8 costs them.

    Returns:
        the path of the file.

    Raises:
        StageError: the model is not one of fxq's.
        DataError: the file cannot be written.
    """
    require_model(model)
    target = Path(path)
    try:
        target.write_text(page(model, Measured(profile, comparison)), encoding="utf-8")
    except OSError as error:
        raise DataError(str(target), expected="a file that can be written", found=str(error), remedy="choose another place") from error
    return target


@without_cycle_collection()
def page(model: FxqModule, measured: Measured) -> str:
    """The HTML text of `visualize`."""
    assets = files("fxq.visualize").joinpath("assets")
    data = _data(model, measured)
    parts = {
        "title": f"{data['title']} in fxq",
        "style": assets.joinpath("style.css").read_text(encoding="utf-8"),
        "script": "\n".join(assets.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "data": _packed(data),
    }
    text = assets.joinpath("page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"/*{name}*/", part, 1)
    return text


def _packed(data: Mapping[str, Any]) -> str:
    """JSON, compressed, in letters: a tenth of its size, and nothing in it can end the element that it is in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=asdict)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _title(cards: Iterable[Card]) -> str:
    """The class of the model, where a call in its own forward tells it: a GraphModule's class is another one."""
    own = (origin.module_type for card in cards for origin in card.origins if not origin.module)
    return short_type(next(filter(None, own), "model"))


def _data(model: FxqModule, measured: Measured) -> dict[str, Any]:
    known = known_values(model)
    stages = stages_of(model, known)
    kernels = kernels_of(model)
    changes = [Changes(), *(changes_between(before.cards, after.cards) for before, after in pairwise(stages))]
    return {
        "title": _title(stages[0].cards),
        "profile": model.profile.name if model.profile is not None else "",
        "first": model.stage.name.lower(),
        "stages": [_stage(stage, change) for stage, change in zip(stages, changes, strict=True)],
        "groups": {group: asdict(seen) for group, seen in known.seen.items()},
        "costs": {name: _filled(costs) for name, costs in make_costs(model, measured, kernels.calls).items()},
        "codes": list(map(asdict, kernels.codes)),
    }


def _stage(stage: StageView, changes: Changes) -> dict[str, Any]:
    numbers = {card.id: number for number, card in enumerate(stage.cards)}
    return {
        "name": stage.name,
        "meaning": MEANINGS[stage.name],
        "runs": [(run.name, run.changes) for run in stage.runs],
        "cards": [_card(card, numbers) for card in stage.cards],
        "frames": [_frame(frame) for frame in make_frames(stage.cards)],
        "changes": asdict(changes),
    }


def _card(card: Card, numbers: Mapping[str, int]) -> dict[str, Any]:
    """What is not known is left out; operands are numbers, as constants are no cards."""
    found = _filled(card)
    found.pop("origins", None)
    found["kind"] = card.kind.name.lower()
    found["reads"] = [numbers[name] for name in card.reads if name in numbers]
    found["calls"] = list(map(describe_origin, card.origins))
    return found


def _filled(value: Card | Costs) -> dict[str, Any]:
    """Dataclasses in it become dictionaries when they are written."""
    return {name: field for name, field in vars(value).items() if field not in (None, "", ())}


def _frame(frame: Frame) -> dict[str, Any]:
    layout = frame.layout
    return {
        "path": frame.path,
        "type": frame.type,
        "boxes": frame.boxes,
        "layers": layout.layers,
        "columns": [round(x, 3) for x in layout.columns],
        "lines": {box: [round(x, 3) for x in line] for box, line in layout.lines.items()},
    }
