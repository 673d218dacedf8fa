"""The compiled runtime: int8 regions as machine code for this CPU, generated through llvmlite."""

from fxq.runtime.jit.execute import CompiledRegion, accepts, unavailable

__all__ = ["CompiledRegion", "accepts", "unavailable"]
