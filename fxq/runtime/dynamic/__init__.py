"""Ops that read float32 and quantize it as it arrives: their weights are int8, their results float32."""
