"""From quantized float graphs to calls into the integer runtime."""
