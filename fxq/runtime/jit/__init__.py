"""The compiled runtime: int8 regions as machine code for this CPU, generated through llvmlite."""

from fxq.runtime.jit.compile import assembly
from fxq.runtime.jit.execute import unavailable
from fxq.runtime.jit.isa import find_isa
from fxq.runtime.jit.operator import register, run_region
from fxq.runtime.jit.peak import peak_macs
from fxq.runtime.jit.region import CompiledRegion, accepts

__all__ = ["CompiledRegion", "accepts", "assembly", "find_isa", "peak_macs", "register", "run_region", "unavailable"]
