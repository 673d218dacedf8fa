"""Ops whose weights are stored in few bits, and read as the float32 that these stand for: what they multiply with stays float32."""
