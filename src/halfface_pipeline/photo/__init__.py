"""From any photo into a model's frame, and back into the photo."""
