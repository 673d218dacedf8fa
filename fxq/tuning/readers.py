"""Which linear layers of a running model read the same values, which module makes these, and whether anything else reads them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, eq=False)
class Producer:
    """A module whose result nothing but some linear layers reads, and something that it was called with."""

    module: nn.Module
    args: tuple[Any, ...]

    def takes(self, factors: Tensor) -> bool:
        """Whether its result is multiplied with the factors where all that it has itself is: so it is with norms and linear layers."""
        vectors = list(self.module.parameters())
        if not vectors or any(vector.shape[:1] != factors.shape for vector in vectors):
            return False
        scaled = copy.deepcopy(self.module)
        with torch.no_grad():
            scale(scaled, factors)
            wanted, found = self.module(*self.args) * factors, scaled(*self.args)
        return bool(torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())))


@torch.no_grad()
def scale(module: nn.Module, factors: Tensor) -> None:
    """Multiplies all that the module has itself with the factors, along the first dimension."""
    for vector in module.parameters():
        vector.mul_(factors.reshape(-1, *[1] * (vector.ndim - 1)))


class Readers(TorchFunctionMode):
    """What is found out while a model runs.

    Args:
        layers: linear layers.
        makers: modules without others inside, whose parameters are theirs alone.
        seen: called with a layer, and with what it reads.
    """

    def __init__(self, layers: Iterable[nn.Module], makers: Iterable[nn.Module], seen: Callable[[nn.Module, Tensor], None]) -> None:
        super().__init__()
        self._layers, self._makers, self._seen = tuple(layers), tuple(makers), seen
        self._reads: dict[nn.Module, set[int]] = {layer: set() for layer in self._layers}
        self._made: dict[nn.Module, set[int]] = {maker: set() for maker in self._makers}
        self._called_with: dict[nn.Module, tuple[Any, ...]] = {}
        self._elsewhere: set[int] = set()
        self._alive: dict[int, tuple[int, Tensor]] = {}
        self._count = self._inside = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Whatever runs inside is watched."""
        hooks: list[RemovableHandle] = []
        hooks += [layer.register_forward_pre_hook(self._enter) for layer in self._layers]
        hooks += [layer.register_forward_hook(self._leave) for layer in self._layers]
        hooks += [maker.register_forward_hook(self._make) for maker in self._makers]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Calls what is called, and notes what it reads."""
        result = func(*args, **(kwargs or {}))
        reads_sizes = not any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)) and _is_of_form(func)
        if not self._inside and not reads_sizes:
            self.read_elsewhere((args, kwargs))
        return result

    def read_elsewhere(self, values: Any) -> None:
        """Something that is no linear layer has these values."""
        self._elsewhere.update(self._alive[id(leaf)][0] for leaf in tree_leaves(values) if id(leaf) in self._alive)

    def forget_values(self) -> None:
        """The end of a run: its tensors need not be told from others any more."""
        self._alive.clear()

    def groups(self) -> dict[tuple[nn.Module, ...], Producer | None]:
        """Layers that always read the same values → what makes these for them alone."""
        found: defaultdict[frozenset[int], list[nn.Module]] = defaultdict(list)
        for layer, read in self._reads.items():
            if read:
                found[frozenset(read)].append(layer)
        makers = {frozenset(made): maker for maker, made in self._made.items() if made and made.isdisjoint(self._elsewhere)}
        producers = {read: Producer(makers[read], self._called_with[makers[read]]) for read in found if read in makers}
        return {tuple(layers): producers.get(read) for read, layers in found.items()}

    def _enter(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self._inside += 1
        self._reads[layer].add(self._number(args[0]))
        self._seen(layer, args[0])

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self._inside -= 1

    def _make(self, maker: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        if isinstance(result, Tensor):
            self._made[maker].add(self._number(result))
            self._called_with[maker] = args

    def _number(self, tensor: Tensor) -> int:
        """Of a tensor, which is kept until the end of the run: another one would get its id."""
        if id(tensor) not in self._alive:
            self._count += 1
            self._alive[id(tensor)] = (self._count, tensor)
        return self._alive[id(tensor)][0]


def _is_of_form(func: Any) -> bool:
    """Whether it says something of a tensor's form, and nothing of its elements: an attribute, or a size."""
    return getattr(func, "__name__", "") == "__get__" or func in (Tensor.size, Tensor.dim, Tensor.stride, Tensor.numel)
