"""Faces to learn from: drawn ones, folders, Hub data sets and CelebA, prepared once and cached."""

from halfface_pipeline.data.images import ImageSet, load_images

__all__ = ["ImageSet", "load_images"]
