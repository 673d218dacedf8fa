"""How ops are planned whose result is pieces of their operand in another order, and borders: roll, repeat, index_select, pad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from fxq.graph import movement
from fxq.runtime.jit.kernels.copy import plan_copy, plan_fill
from fxq.runtime.jit.planner import KernelCall, Site, Unplannable
from fxq.runtime.jit.views import Border, View
from fxq.runtime.region import fill_in

# copies of one op: more are not worth planning
_MOST = 1024


@dataclass(frozen=True)
class Piece:
    """A part of one dimension of the operand."""

    start: int
    count: int


Pieces = list[list[Piece]]  # of each dimension of the result, in order


def plan_pieces(site: Site) -> None:
    """Every combination of the dimensions' pieces is one copy."""
    source, planner, rank = site.view(0), site.planner, len(site.kind.shape)
    whole = source.moved(lambda tensor: tensor[(None,) * (rank - tensor.ndim)])
    assert whole is not None, "dimensions of length 1 in front have any stride"
    pieces = PIECES[site.step.function](whole.shape, fill_in(site.step.kwargs, planner.values))
    _place_pieces(site, whole, pieces, planner.place(site.value))


def bordered(site: Site, border: Border, mode: str) -> View:
    """A copy of the first operand with a border of its own elements around it; the view is of what is inside."""
    source = site.view(0)
    pieces = [[Piece(0, length)] for length in source.shape[:2]]
    pieces += [_BORDERS[mode](length, *pair) for length, pair in zip(source.shape[2:], border, strict=True)]
    target = site.planner.room(site.step.name, tuple(sum(piece.count for piece in along) for along in pieces))
    _place_pieces(site, source, pieces, target)
    for dim, (before, _) in enumerate(border, 2):
        target = target.part(dim, before, source.shape[dim])
    return target


def _place_pieces(site: Site, whole: View, pieces: Pieces, target: View) -> None:
    planner, copies = site.planner, []
    if prod(map(len, pieces)) > _MOST:
        raise Unplannable(f"takes its operand to {prod(map(len, pieces))} pieces")
    for chosen in product(*map(_placed, pieces)):
        part, place = whole, target
        for dim, (piece, start) in enumerate(chosen):
            part, place = part.part(dim, piece.start, piece.count), place.part(dim, start, piece.count)
        copies.append(KernelCall(plan_copy(part, place, planner.isa), {"x": part, "y": place}))
    planner.call_together(site.step.name, copies)


def plan_pad(site: Site) -> None:
    """A border of other elements is pieces of the operand, one of a constant is written around a copy."""
    if site.step.kwargs.get("mode", "constant") != "constant":
        plan_pieces(site)
        return
    planner, source, calls = site.planner, site.view(0), []
    borders = _borders(source.shape, fill_in(site.step.kwargs, planner.values))
    if not any(map(any, borders)) and site.value not in (*planner.homes, *planner.frames):
        planner.views[site.value] = source
        return
    inside, byte = planner.place(site.value), (site.step.kwargs.get("value") or 0) + 128 * site.kind.signed
    for dim, (before, after) in enumerate(borders):
        source = source.part(dim, max(0, -before), source.shape[dim] + min(0, before) + min(0, after))
        start = max(0, before)
        ends = (inside.part(dim, 0, start), inside.part(dim, start + source.shape[dim], after))
        calls += [KernelCall(plan_fill(end, byte, planner.isa), {"y": end}) for end in ends if end.shape[dim] > 0]
        inside = inside.part(dim, start, source.shape[dim])
    calls.append(KernelCall(plan_copy(source, inside, planner.isa), {"x": source, "y": inside}))
    planner.call_together(site.step.name, calls)


def _borders(shape: Sequence[int], options: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(before, after) of each dimension; pad speaks of the last ones, and of the last one first."""
    pad = options["pad"]
    given = list(zip(pad[::2], pad[1::2], strict=True))
    return [(0, 0)] * (len(shape) - len(given)) + given[::-1]


def _placed(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    """Each piece, and where it begins in the result."""
    return [(piece, sum(before.count for before in pieces[:number])) for number, piece in enumerate(pieces)]


def _rolled(shape: Sequence[int], options: Mapping[str, Any]) -> Pieces:
    """What leaves at the end enters in front."""
    shifts, dims = (value if isinstance(value, tuple) else (value,) for value in (options["shifts"], options["dims"]))
    by_dim = dict.fromkeys(range(len(shape)), 0)
    for shift, dim in zip(shifts, dims, strict=True):
        by_dim[dim % len(shape)] += shift
    return [_turned(length, by_dim[dim] % length) for dim, length in enumerate(shape)]


def _turned(length: int, shift: int) -> list[Piece]:
    return [Piece(length - shift, shift), Piece(0, length - shift)] if shift else [Piece(0, length)]


def _repeated(shape: Sequence[int], options: Mapping[str, Any]) -> Pieces:
    return [[Piece(0, length)] * times for length, times in zip(shape, options["repeats"], strict=True)]


def _selected(shape: Sequence[int], options: Mapping[str, Any]) -> Pieces:
    """Neighbours that stay neighbours are one piece."""
    chosen: list[Piece] = []
    for place in options["index"].tolist():
        last = chosen[-1] if chosen else None
        if last is not None and place == last.start + last.count:
            chosen[-1] = Piece(last.start, last.count + 1)
        else:
            chosen.append(Piece(place, 1))
    return [chosen if dim == options["dim"] % len(shape) else [Piece(0, length)] for dim, length in enumerate(shape)]


def _bordered(shape: Sequence[int], options: Mapping[str, Any]) -> Pieces:
    border_of = _BORDERS[options["mode"]]
    return [border_of(length, before, after) for length, (before, after) in zip(shape, _borders(shape, options), strict=True)]


def _reflected(length: int, before: int, after: int) -> list[Piece]:
    front, back = range(before, 0, -1), range(length - 2, length - 2 - after, -1)
    return [*(Piece(place, 1) for place in front), Piece(0, length), *(Piece(place, 1) for place in back)]


def _replicated(length: int, before: int, after: int) -> list[Piece]:
    return [*[Piece(0, 1)] * before, Piece(0, length), *[Piece(length - 1, 1)] * after]


def _circular(length: int, before: int, after: int) -> list[Piece]:
    return [piece for piece in (Piece(length - before, before), Piece(0, length), Piece(0, after)) if piece.count]


_BORDERS = {"reflect": _reflected, "replicate": _replicated, "circular": _circular}

PIECES: Mapping[Any, Callable[[Sequence[int], Mapping[str, Any]], Pieces]] = {
    movement.roll: _rolled,
    movement.repeat: _repeated,
    movement.index_select: _selected,
    movement.pad: _bordered,
}
