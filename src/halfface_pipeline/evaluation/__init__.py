"""How good completions are: measures on tensors, and the command that takes them of a model."""
