"""The files of a run folder and how they are written atomically."""
