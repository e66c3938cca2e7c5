"""The diffusion process, the networks and the loss."""
