"""Whose eyes lie where they are: the face finder, and Haar cascades where OpenCV 4 is installed.

Pictures: portraits and selfies of the package `openpeople`, and aligned faces of 178x218 laid into scenes of noise, all
turned by several angles. The eyes were marked by hand, at the centres of the irises. Prints JSON.

    python benchmarks/face_finder.py [--aligned FOLDER]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image
from timing import one_thread

ANGLES = (-30, -15, 0, 15, 30)
WITHIN = 0.06
"""Of the distance between the eyes: how far a found eye may lie from the marked one."""
MARKS = json.loads(Path(__file__).with_suffix(".json").read_text())
SIDE = 1200
"""Side of a scene in pixels."""

Eyes = np.ndarray
