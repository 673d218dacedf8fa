"""The meaning of the integer ops: torch ops on plain uint8, int8 and int32 tensors, on any machine where torch runs."""
