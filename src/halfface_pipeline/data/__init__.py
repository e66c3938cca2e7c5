"""Faces to learn from: drawn ones, folders, Hub data sets and CelebA, prepared once and cached."""

from halfface_pipeline.data.dataset import ImageSet, load_images, resize_to

__all__ = ["ImageSet", "load_images", "resize_to"]
