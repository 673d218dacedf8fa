"""The compiled runtime: int8 regions as machine code for this CPU, generated through llvmlite."""
