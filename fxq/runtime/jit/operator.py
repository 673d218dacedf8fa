"""torch.ops.fxq.region: a compiled region as an operator of torch, which torch.compile calls as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.numbered import Numbered

# by the number that the operator is called with
_REGIONS: Numbered[CompiledRegion] = Numbered()
register = _REGIONS.register


@torch.library.custom_op("fxq::region", mutates_args=(), schema="(Tensor[] inputs, int number) -> Tensor[]")
def run_region(inputs: list[Tensor], number: int) -> list[Tensor]:
    """The outputs of a registered region: contiguous, in memory of their own."""
    return list(_own(_REGIONS[number](inputs), inputs))


def _own(outputs: Iterable[Tensor], inputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Copies of what is no dense tensor, or shares memory with a tensor before it."""
    taken = {x.untyped_storage().data_ptr() for x in inputs}
    for y in outputs:
        place = y.untyped_storage().data_ptr()
        yield y if y.is_contiguous() and place not in taken else y.clone(memory_format=torch.contiguous_format)
        taken.add(place)


@run_region.register_fake
def _shapes(inputs: list[FakeTensor], number: int) -> list[Tensor]:
    """Tensors without values, as the integer ops would give them."""
    outer = inputs[0].fake_mode
    with FakeTensorMode(shape_env=outer.shape_env, allow_non_fake_inputs=True):
        given = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype) for x in inputs]
        found = [(y.shape, y.dtype) for y in _REGIONS[number].region.run(given)]
    return [torch.empty(shape, dtype=dtype) for shape, dtype in found]
