"""What is known of the values in a graph while it is being traced: what follows from the shapes of the example inputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map_only

from fxq.graph.copies import copy_inputs, copy_module


class ExampleValues:
    """Node → its value for the example inputs, where tensors have shape, dtype and device, but no elements.

    Nothing is computed before the first value is asked for; then every node up to that one is, in order, once.

    Args:
        root: the module that is traced.
        outside: the context to compute in, as if there were no trace.
    """

    def __init__(self, root: nn.Module, outside: Callable[[], AbstractContextManager[None]]) -> None:
        self._root, self._outside = root, outside
        self._given: dict[Node, Any] = {}
        self._known: dict[Node, Any] = {}
        self._pending: list[Node] = []
        self._mode: FakeTensorMode | None = None
        self.is_computing = False  # what is called now is no part of the trace

    def give(self, node: Node, value: Any) -> None:
        """The value of a placeholder; objects are copied, as what is called may change them."""
        self._given[node] = copy_inputs(value, lambda tensor: tensor)

    def follow(self, node: Node) -> None:
        """A node that was added to the graph. A tensor of the model is read at once: forward may put something else in its place."""
        if node.op == "get_attr":
            self._known[node] = self._tensor(str(node.target))
        else:
            self._pending.append(node)

    def knows(self, node: Node) -> bool:
        """Whether the value follows from shapes."""
        self._catch_up()
        return node in self._known

    def value(self, node: Node) -> Any:
        """Of a node that `knows` is true of."""
        return self._known[node]

    def _tensor(self, path: str) -> Any:
        owner, _, name = path.rpartition(".")
        self.is_computing = True  # else a parameter would be a stand-in
        try:
            return getattr(self._root.get_submodule(owner), name)
        finally:
            self.is_computing = False

    def _catch_up(self) -> None:
        pending, self._pending = self._pending, []
        self.is_computing = True
        try:
            with self._outside(), torch.no_grad(), self._fake_mode():
                for node in pending:
                    self._compute(node)
        finally:
            self.is_computing = False

    def _fake_mode(self) -> FakeTensorMode:
        if self._mode is None:
            self._mode = FakeTensorMode(allow_non_fake_inputs=True)  # imports half of torch
        return self._mode

    def _compute(self, node: Node) -> None:
        with suppress(Exception):  # then it is not known; whoever asks for it gets an error that says so
            self._known[node] = self._run(node)

    def _run(self, node: Node) -> Any:
        assert self._mode is not None
        if node.op == "placeholder":
            return tree_map_only(Tensor, self._mode.from_tensor, self._given[node])
        args, kwargs = map_arg(node.args, self._known.__getitem__), map_arg(node.kwargs, self._known.__getitem__)
        if node.op == "call_module":
            return self._called(node)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _called(self, node: Node) -> nn.Module:
        """A module of torch's; a copy of one of the user's, which may keep what it is called with."""
        module = self._root.get_submodule(str(node.target))
        return module if type(module).__module__.startswith("torch.") else copy_module(module)
