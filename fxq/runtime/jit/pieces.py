"""How ops are planned whose result is pieces of their operand in another order: roll, repeat and flip are copies of the pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from fxq.graph import movement
from fxq.runtime.jit.planner import Site, Unplannable
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
    if prod(map(len, pieces)) > _MOST:
        raise Unplannable(f"{site.step.name} takes its operand to {prod(map(len, pieces))} pieces")
    target = planner.place(site.value)
    for chosen in product(*map(_placed, pieces)):
        part, place = whole, target
        for dim, (piece, start) in enumerate(chosen):
            part, place = part.part(dim, piece.start, piece.count), place.part(dim, start, piece.count)
        planner.copy(site.step.name, part, place)


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


def _flipped(shape: Sequence[int], options: Mapping[str, Any]) -> Pieces:
    flipped = {dim % len(shape) for dim in options["dims"]}
    return [
        [Piece(place, 1) for place in reversed(range(length))] if dim in flipped else [Piece(0, length)] for dim, length in enumerate(shape)
    ]


PIECES: Mapping[Any, Callable[[Sequence[int], Mapping[str, Any]], Pieces]] = {
    movement.roll: _rolled,
    movement.repeat: _repeated,
    movement.flip: _flipped,
}
