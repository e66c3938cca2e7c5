"""Renders the procedural portraits: flat arrays, first axis colour channel, then face, row and column.

Only arithmetic and square roots touch pixels, so that a face is bit-identical in any batch. What the top half must not
show is drawn below the cut only, or multiplied by `Scene.onset`, which is 0 above it.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from .canvas import (
    SHADOW_TINT,
    Scene,
    band,
    blob,
    build_scene,
    darken,
    fill,
    flag,
    mix,
    one_colour,
    oval,
    ramp,
    squared,
    wave,
)
from .factors import Factors

EYE_X = 0.115
IRIS_ROW = -0.006
MOUTH_Y = 0.262
ROSE, RED = (0.80, 0.50, 0.50), (0.78, 0.10, 0.20)
METAL, BLACK, SHELL = (0.62, 0.52, 0.34), (0.09, 0.09, 0.11), (0.36, 0.17, 0.08)


def draw_faces(factors: Factors, height: int, width: int) -> np.ndarray:
    """Draw N faces at once, uint8 (N, height, width, 3)."""
    scene = build_scene(factors, height, width)
    image = np.empty((3, len(factors), height, width), np.float32)
    head = _head_distance(scene)
    hair, hair_reach = _hair_distance(scene)
    _background(image, scene)
    _hair_behind(image, scene, hair)
    _ears(image, scene)
    _body(image, scene, head)
    _face(image, scene, head)
    _nose(image, scene)
    _eyes(image, scene)
    _beard(image, scene, head)
    _mouth(image, scene)
    _hair_in_front(image, scene, hair, hair_reach)
    _brows(image, scene)
    _glasses(image, scene)
    np.clip(image, 0.0, 1.0, out=image)
    image *= 255.0
    image += 0.5
    return np.moveaxis(image, 0, -1).astype(np.uint8)


def _skin(f: SimpleNamespace, level: np.ndarray) -> np.ndarray:
    """Skin under a light level of 0 (shadow) to 1 (lit) and a little over (highlight)."""
    tint = one_colour(SHADOW_TINT)
    return f.skin * (tint + (1.0 - tint) * level)


def _background(image: np.ndarray, scene: Scene) -> None:
    along = scene.v + scene.f.background_slope * scene.u
    glow = 1.0 - 0.55 * (squared(scene.u) + squared(scene.v - 0.45))
    image[:] = (scene.f.background_top + (scene.f.background_bottom - scene.f.background_top) * along) * glow


def _head_distance(scene: Scene) -> np.ndarray:
    """Signed distance to the head's outline; the jaw's shape enters below the cut alone."""
    y = scene.y - 0.02
    lower = np.maximum(y, 0.0) * (1.0 / 0.38)
    x = scene.x * (1.0 + 0.11 * squared(lower))
    y = np.where(y > 0.0, y, y * (0.38 / 0.34))
    return oval(x, y, scene.f.head_width, 0.38, (0.40 * scene.f.jaw - 0.10) * scene.onset)


def _hair_distance(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to the hair's outline, falling straight down from the temples, and how far out a point lies."""
    f = scene.f
    y = np.minimum(scene.y + 0.06, 0.0)
    fall = np.maximum(scene.y + 0.06, 0.0)
    x = scene.x + 0.10 * f.parting * f.hair_volume * y
    close = (0.014 + 0.020 * f.hair_volume) * np.maximum(1.0 - 15.0 * fall, 0.0) + 0.002
    hanging = 0.030 + 0.040 * f.hair_volume + 0.10 * fall * (1.0 - fall)
    bumps = -0.048 * wave(scene.x * 9.0) * y
    curl = np.where(f.long_hair > 0.5, 0.010 * wave(scene.y * 6.0), bumps)
    across = f.head_width + np.where(f.long_hair > 0.5, hanging, close) + f.hair_wave * curl
    down = 0.300 + 0.075 * f.hair_volume
    reach = np.sqrt(squared(x / across) + squared(y / down))
    outline = oval(x, y, across, down, -0.22)
    end = scene.v - f.hair_end - 0.006 * wave(scene.x * 7.0) + 0.07
    rounded = np.sqrt(squared(np.maximum(outline + 0.07, 0.0)) + squared(np.maximum(end, 0.0))) - 0.07
    sideburn = scene.y - 0.005 - 0.3 * (np.abs(scene.x) - f.head_width)
    return np.where(f.long_hair > 0.5, rounded, np.maximum(outline, sideburn)), reach


def _hair_behind(image: np.ndarray, scene: Scene, hair: np.ndarray) -> None:
    mix(image, scene.f.hair * 0.48, fill(hair, scene.pixel))


def _ears(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.34, 0.62)
    f = scene.f
    x = np.abs(scene.x + 0.02 * f.yaw) - f.head_width - 0.004
    y = scene.y - 0.035 + 0.3 * x
    ear = fill(oval(x, y, 0.036, 0.066), scene.pixel) * (1.0 - f.long_hair)
    level = 0.55 + 0.5 * scene.light[0] * np.sign(scene.x) - 0.6 * blob(x - 0.006, y + 0.005, 0.024, 0.045)
    mix(image[:, :, rows], _skin(f, level), ear)


def _body(image: np.ndarray, scene: Scene, head: np.ndarray) -> None:
    rows, scene = scene.rows(0.5, 1.0)
    part, head = image[:, :, rows], head[:, rows]
    f, side, pixel = scene.f, np.abs(scene.body_x), scene.pixel
    lift = scene.v - f.shift_y
    neck_x = scene.x + (scene.body_x - scene.x) * ramp(scene.v, 0.72, 0.9)
    neck_width = 0.46 * f.head_width + 0.9 * squared(np.maximum(lift - 0.78, 0.0))
    under_chin = np.maximum(1.0 - np.maximum(head, 0.0) * (1.0 / 0.075), 0.0)
    level = 0.72 + 0.9 * scene.light[0] * neck_x / f.head_width - 0.85 * under_chin
    shoulder = 0.872 + 0.16 * np.maximum(side - 0.11, 0.0) + 0.9 * squared(np.maximum(side - 0.24, 0.0)) - lift
    chest = np.maximum(shoulder, side - 0.15)
    skin = fill(np.minimum(np.abs(neck_x) - neck_width, chest), pixel) * ramp(scene.v, 0.58, 0.62)
    mix(part, _skin(f, np.maximum(level, 0.0)), skin)

    crew = oval(scene.body_x, lift - 0.865, 0.135, 0.062)
    v_shape = (side + 0.62 * (lift - 1.03)) * 0.85
    collar = (side + 0.75 * (lift - 0.985)) * 0.8
    high = np.maximum(0.835 + 0.3 * squared(side) - lift, side - 0.128)
    kind = f.neckline
    opening = np.where(kind < 0.5, crew, np.where(kind < 1.5, v_shape, collar))
    plain = np.maximum(shoulder, -opening)
    distance = np.where(kind > 2.5, np.minimum(high, shoulder), plain)
    cloth_level = 0.86 + scene.light[0] * scene.body_x - 0.5 * squared(side) - 0.25 * under_chin
    fold = 0.05 * wave(side * 5.0 - lift * 3.0) * ramp(side, 0.14, 0.3)
    mix(part, f.clothing * (cloth_level + fold), fill(distance, pixel))
    trim = np.where(kind > 2.5, np.abs(lift - 0.875) - 0.006, np.abs(opening - 0.016) - 0.004)
    flap = flag((kind > 1.5) & (kind < 2.5)) * fill(np.maximum(opening - 0.06, shoulder), pixel)
    darken(part, 0.45 * fill(np.maximum(trim, distance), 2.0 * pixel) * flag(kind < 1.5))
    mix(part, f.clothing * 0.45 + 0.5 * cloth_level, flap * fill(-opening, pixel))
    darken(part, 0.5 * flap * fill(np.abs(opening - 0.06) - 0.004, 2.0 * pixel))


def _face(image: np.ndarray, scene: Scene, head: np.ndarray) -> None:
    f = scene.f
    x, y = scene.x / f.head_width, (scene.y - 0.02) * (1.0 / 0.39)
    depth = np.sqrt(np.maximum(1.0 - 0.75 * (squared(x) + squared(y)), 0.04))
    level = 0.21 + 0.86 * (scene.light[0] * x * 0.9 + scene.light[1] * y * 1.1 + scene.light[2] * depth)
    side = np.abs(scene.face_x)
    level -= 0.20 * blob(side - 0.10, scene.y + 0.012, 0.095, 0.07)
    level += 0.10 * blob(side - 0.125, scene.y - 0.095, 0.09, 0.06)
    level += 0.09 * blob(scene.face_x, scene.y - 0.36, 0.06, 0.05)
    coverage = fill(head, scene.pixel)
    mix(image, _skin(f, np.maximum(level, 0.0)), coverage)
    shine = blob(scene.x - 0.13 * scene.light[0], scene.y + 0.13, 0.11, 0.09)
    mix(image, f.skin * 0.7 + 0.34, 0.22 * shine * coverage)
    rows, scene = scene.rows(0.44, 0.72)
    blush = blob(side[:, rows] - 0.135, scene.y - 0.13, 0.095, 0.075)
    darken(image[:, :, rows], 0.36 * blush * coverage[:, rows], (1.04, 0.74, 0.74))


def _nose(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.36, 0.70)
    part, light_x = image[:, :, rows], scene.light[0]
    x, y = scene.nose_x, scene.y
    darken(part, (0.22 + 0.45 * np.abs(light_x)) * blob(x + 0.10 * light_x, y - 0.09, 0.055, 0.14))
    darken(part, 0.55 * blob(x + 0.02 * light_x, y - 0.182, 0.075, 0.028))
    darken(part, 0.30 * blob(np.abs(x) - 0.047, y - 0.150, 0.018, 0.030))
    ridge = blob(x - 0.012 * light_x, y - 0.055, 0.020, 0.12)
    tip = blob(x - 0.02 * light_x, y - 0.14, 0.032, 0.028)
    mix(part, scene.f.skin * 0.7 + 0.36, 0.40 * np.maximum(ridge, tip))
    nostrils = fill(oval(np.abs(x) - 0.022, y - 0.171, 0.013, 0.007), 1.5 * scene.pixel)
    darken(part, 0.60 * nostrils, (0.35, 0.22, 0.2))


def _eyes(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.34, 0.56)
    part, f, pixel, y = image[:, :, rows], scene.f, scene.pixel, scene.y
    outward = np.abs(scene.face_x) - EYE_X
    along = outward * (1.0 / 0.061)
    arch = 1.0 - squared(along)
    upper = -0.036 * arch - 0.006 * along
    lower = 0.024 * arch - 0.006 * along
    inside = band(y, upper, lower, pixel)
    white = 0.91 - 0.32 * ramp(upper - y + 0.02, 0.0, 0.02)
    mix(part, np.stack([white, white * 0.985, white * 0.97]), inside)
    centre_x, centre_y = outward, y - IRIS_ROW
    distance = np.sqrt(squared(centre_x) + squared(centre_y))
    mix(part, f.iris * (0.55 + 14.0 * np.maximum(centre_y + 0.012, 0.0)), inside * fill(distance - 0.0285, pixel))
    mix(part, (0.04, 0.03, 0.03), inside * fill(distance - 0.0130, pixel))
    sign = np.sign(scene.face_x)
    glint = oval(centre_x - 0.010 * sign * (2.0 * flag(f.light_x > 0.0) - 1.0), centre_y + 0.010, 0.0075, 0.0075)
    mix(part, (1.0, 1.0, 1.0), 0.95 * inside * fill(glint, pixel))
    reach = fill(np.abs(along) - 1.06, 0.15)
    lash = (0.007 + 0.004 * f.long_hair) * (1.0 + 0.5 * along)
    mix(part, f.hair * 0.25 + 0.03, 0.92 * reach * band(y, upper - lash, upper + 0.003, pixel))
    darken(part, 0.45 * reach * band(y, upper - 0.026, upper - 0.019, 1.5 * pixel))
    darken(part, 0.30 * reach * band(y, lower - 0.002, lower + 0.004, 1.5 * pixel))


def _brows(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.24, 0.47)
    f = scene.f
    along = (np.abs(scene.face_x) - 0.118) * (1.0 / 0.076)
    middle = -0.080 - (0.007 + 0.016 * f.brow_arch) * (1.0 - squared(along - 0.15)) - 0.003 * along
    half = (0.007 + 0.008 * f.brow_thickness) * np.maximum(1.0 - 0.30 * (along + 0.8), 0.2)
    coverage = band(scene.y, middle - half, middle + half, 1.3 * scene.pixel) * fill(np.abs(along) - 1.0, 0.3)
    mix(image[:, :, rows], f.hair * 0.62 + f.skin * 0.06, 0.88 * coverage)


def _beard(image: np.ndarray, scene: Scene, head: np.ndarray) -> None:
    rows, scene = scene.rows(0.5, 1.0)
    f = scene.f
    bare = oval(scene.face_x, scene.y - 0.005, 0.205, 0.205)
    shape = ramp(bare, -0.01, 0.03) * ramp(scene.y, 0.03, 0.12) * fill(head[:, rows], scene.pixel)
    coverage = (0.25 + 0.70 * f.beard) * ramp(f.beard, 0.0, 0.3) * shape * scene.onset
    lit = 0.78 + 1.8 * scene.light[0] * scene.x - 1.2 * np.maximum(scene.y - 0.3, 0.0)
    mix(image[:, :, rows], f.hair * 0.85 * (lit + 0.06 * wave(scene.face_x * 9.0)), coverage)


def _mouth(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.56, 0.88)
    part, f, pixel = image[:, :, rows], scene.f, scene.pixel
    half = 0.080 + 0.026 * f.smile
    along = scene.face_x / half
    square = np.minimum(squared(along), 2.0)
    arch = 1.0 - square
    y = scene.y - MOUTH_Y + (0.013 + 0.036 * f.smile) * (square - 0.45)
    gap = 0.052 * f.mouth_gap * arch
    top, bottom = -0.35 * gap - 0.0025, 0.65 * gap + 0.0025
    dent = 1.0 - 0.30 * np.maximum(1.0 - 16.0 * square, 0.0)
    upper, lower = top - 0.022 * arch * dent, bottom + 0.029 * arch
    rose = f.skin * one_colour(ROSE) + 0.06
    red = one_colour(RED) * (0.55 + 0.45 * f.skin[:1])
    lips = rose + (red - rose) * f.lipstick
    inside = fill(np.abs(along) - 1.04, 0.12)
    darken(part, 0.40 * blob(scene.face_x, y - 0.055 - 0.65 * gap, 0.075, 0.03))
    mix(part, lips * 0.80, 0.95 * inside * band(y, upper, 0.5 * (top + bottom), pixel))
    shine = 1.0 + 0.22 * blob(along - 0.3 * scene.light[0], y - bottom - 0.011, 0.5, 0.014)
    mix(part, lips * shine, 0.95 * inside * band(y, 0.5 * (top + bottom), lower, pixel))
    opening = inside * band(y, top, bottom, pixel)
    mix(part, lips * 0.30, opening)
    teeth = top + 0.55 * (bottom - top)
    mix(part, (0.95, 0.93, 0.89), opening * ramp(f.mouth_gap, 0.0, 0.3) * band(y, top + 0.001, teeth, pixel))


def _hair_in_front(image: np.ndarray, scene: Scene, hair: np.ndarray, reach: np.ndarray) -> None:
    f, pixel = scene.f, scene.pixel
    x = scene.x - 0.4 * (scene.x - scene.face_x)
    from_part = x - 0.13 * f.parting
    across = squared(x / f.head_width)
    gap = squared(from_part) / (squared(from_part) + 0.0016)
    line = -0.225 + 1.1 * squared(from_part) + 0.115 * squared(across) - 0.02 * f.hair_volume
    line = line + f.fringe * 0.115 * np.maximum(1.0 - across, 0.0) * (0.35 + 0.65 * gap)
    forehead = (scene.y - line) * 0.8
    lock_edge = f.head_width * (0.97 - 0.03 * f.long_hair - 0.18 * np.maximum(scene.y, 0.0))
    locks = lock_edge + 0.007 * f.long_hair * f.hair_wave * wave(scene.y * 6.0 + 0.3) - np.abs(x)
    inner = np.minimum(forehead, locks)
    outline = fill(hair, pixel)
    head_shadow = outline * np.maximum(1.0 - np.maximum(inner, 0.0) * (1.0 / 0.045), 0.0)
    darken(image, 0.55 * head_shadow)
    flow = from_part / (np.minimum(scene.y, 0.0) + 0.52)
    side = np.clip(scene.light[0] * scene.x * 3.0, -0.5, 0.5)
    gloss = squared(np.maximum(1.0 - squared((reach - 0.78) * 4.5), 0.0)) * (0.55 + side)
    strands = 0.10 * wave(flow * 4.5 + 0.3 * f.hair_wave * wave(scene.y * 6.0))
    level = 0.74 + 0.55 * side + strands - 0.35 * np.maximum(scene.y, 0.0) - 0.25 * ramp(reach, 0.85, 1.05)
    colour = f.hair * level + (0.30 * f.hair + 0.11) * gloss
    mix(image, colour, outline * fill(inner, pixel))


def _glasses(image: np.ndarray, scene: Scene) -> None:
    rows, scene = scene.rows(0.32, 0.62)
    part, f, pixel = image[:, :, rows], scene.f, scene.pixel
    worn = flag(f.glasses > 0.5)
    thick = flag(f.glasses > 1.5)
    side, y = np.abs(scene.face_x), scene.y - 0.012
    corner = 0.058 - 0.028 * thick
    box_x, box_y = np.abs(side - 0.120) - 0.080 + corner, np.abs(y) - 0.060 + corner
    past_edge = np.sqrt(squared(np.maximum(box_x, 0.0)) + squared(np.maximum(box_y, 0.0)))
    lens = past_edge + np.minimum(np.maximum(box_x, box_y), 0.0) - corner
    half = 0.005 + 0.003 * thick
    rim = band(lens, -half, half, pixel)
    bridge = band(y, -0.022 - half, -0.022 + half, pixel) * fill(side - 0.033, pixel)
    arm = band(y, -0.022 - half, -0.022 + half, pixel) * fill(0.2 - side, pixel) * fill(side - f.head_width, pixel)
    frame = np.maximum(np.maximum(rim, bridge), arm)
    colour = np.where(
        f.glasses < 1.5, one_colour(METAL), np.where(f.glasses < 2.5, one_colour(BLACK), one_colour(SHELL))
    )
    glass = fill(lens, pixel) * worn
    mix(part, (0.9, 0.95, 1.0), glass * (0.05 + 0.16 * ramp(-(y + 0.5 * (side - 0.118)), 0.0, 0.05)))
    mix(part, colour, 0.95 * worn * frame)
