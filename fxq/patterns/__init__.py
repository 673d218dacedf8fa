"""Pattern expressions over canonical ops, the matcher, the rewriter, and the rule tables."""
