"""What runs: the quantized tensor and the executors of int8 programs."""
