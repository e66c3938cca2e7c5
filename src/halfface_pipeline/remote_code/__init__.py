"""What ships beside the weights of a model."""
