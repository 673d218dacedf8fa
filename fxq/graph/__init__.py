"""The IR: torch.fx plus one typed annotation."""
