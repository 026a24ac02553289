"""The narrow passage as a picture, drawn with numpy alone."""

from itertools import pairwise

import numpy as np

from sim.passage_plan import ARENA_M, GAP_M, GOAL_M, GOAL_RADIUS_M, START_HIGH_M, START_LOW_M, WALL_HALF_M

WIDTH_PX, HEIGHT_PX = 480, 360
PX_PER_M = 160.0  # 20 pixels are left above and below
GROUND, PLANE, START, WALL = (203, 208, 214), (246, 247, 249), (221, 229, 240), (72, 79, 89)  # RGB
GOAL, TRAIL, POINT = (45, 160, 120), (120, 160, 215), (24, 84, 170)
TRAIL_HALF_M, POINT_RADIUS_M = 0.007, 0.03


def paint(trail_m: np.ndarray) -> np.ndarray:
    """The plane with the places `(T, 2)` that a point has been to, of which it is at the last; `(360, 480, 3)` uint8."""
    picture = np.empty((HEIGHT_PX, WIDTH_PX, 3))
    picture[:] = GROUND
    _box(picture, (-ARENA_M, -ARENA_M), (ARENA_M, ARENA_M), PLANE)
    _box(picture, START_LOW_M, START_HIGH_M, START)
    _box(picture, (-WALL_HALF_M, -ARENA_M), (WALL_HALF_M, GAP_M[0]), WALL)
    _box(picture, (-WALL_HALF_M, GAP_M[1]), (WALL_HALF_M, ARENA_M), WALL)
    _stroke(picture, np.array(GOAL_M), np.array(GOAL_M), GOAL_RADIUS_M, GOAL)
    for here, there in pairwise(trail_m):
        _stroke(picture, here, there, TRAIL_HALF_M, TRAIL)
    _stroke(picture, trail_m[-1], trail_m[-1], POINT_RADIUS_M, POINT)
    return picture.round().astype(np.uint8)


def _pixel(place_m: np.ndarray) -> np.ndarray:
    """Column and row of places `(..., 2)`."""
    return np.array([WIDTH_PX, HEIGHT_PX]) / 2.0 + np.asarray(place_m) * np.array([PX_PER_M, -PX_PER_M])


def _box(picture: np.ndarray, low_m: tuple[float, float], high_m: tuple[float, float], colour: tuple) -> None:
    (left, bottom), (right, top) = _pixel(np.array([low_m, high_m])).round().astype(int)
    picture[top:bottom, left:right] = colour


def _stroke(picture: np.ndarray, here_m: np.ndarray, there_m: np.ndarray, half_m: float, colour: tuple) -> None:
    """A line with round ends, or a disc where both ends are one; its edge is smooth."""
    here, there, half = _pixel(here_m), _pixel(there_m), half_m * PX_PER_M
    left, top = np.maximum(np.minimum(here, there) - half - 1.0, 0.0).astype(int)
    right, bottom = (np.maximum(here, there) + half + 2.0).astype(int)
    part = picture[top:bottom, left:right]
    rows, columns = np.indices(part.shape[:2])
    away = np.stack([columns + left + 0.5, rows + top + 0.5], axis=-1) - here
    along = there - here
    share = np.clip(away @ along / max(along @ along, 1e-12), 0.0, 1.0)
    distance = np.linalg.norm(away - share[..., None] * along, axis=-1)
    cover = np.clip(half + 0.5 - distance, 0.0, 1.0)[..., None]
    part += cover * (np.array(colour) - part)
