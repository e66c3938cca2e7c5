"""Completing photos with a trained model."""
