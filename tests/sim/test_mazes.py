"""The mazes of AntMaze: their walls, where episodes begin, where goals are, and what pictures show of it."""

import math
from collections import deque

import mujoco
import numpy as np
import pytest

from sim.antmaze import TASKS

# D4RL's mazes, and for ultra TAP's: rows, columns, row and column of the goal, free cells, cells walked from r to g, and the
# range of goals past the middle of their cell, m.
FACTS = {
    "umaze": (5, 5, 3, 1, 7, 6, (0.0, 1.5)),
    "medium": (8, 8, 6, 6, 26, 10, (0.0, 1.5)),
    "large": (9, 12, 7, 9, 46, 14, (0.0, 1.5)),
    "ultra": (12, 16, 10, 14, 89, 22, (-1.0, 0.5)),
}


def facts(task):
    return FACTS[task.name.split("-")[1]]


def middle(row: int, column: int) -> np.ndarray:
    """Of a cell; the ant begins in row 1, column 1."""
    return 4.0 * (np.array([column, row]) - 1.0)


@pytest.fixture(params=TASKS[::2], ids=lambda task: task.name)
def env(request):
    made = request.param.make()
    yield made
    made.close()


def test_walls_stand_where_the_map_has_them(env):
    """Rays from above, at the middle and near the edges of every cell: 2 m high on `#`, the floor elsewhere."""
    rows = env.maze.rows
    data = mujoco.MjData(env.model)
    data.qpos[2] = 100.0  # the ant is out of the way
    mujoco.mj_forward(env.model, data)
    for row, line in enumerate(rows):
        for column, sign in enumerate(line):
            for shift in ((0.0, 0.0), (1.99, 1.99), (-1.99, 1.99), (1.99, -1.99), (-1.99, -1.99)):
                start = np.array([*(middle(row, column) + shift), 10.0])
                down = mujoco.mj_ray(
                    env.model, data, start, np.array([0.0, 0.0, -1.0]), None, 1, -1, np.zeros(1, np.int32)
                )
                assert down == pytest.approx(8.0 if sign == "#" else 10.0)


def test_the_map_has_d4rls_size_and_way(env):
    height, width, goal_row, goal_column, free, far, _ = facts(env.task)
    rows = env.maze.rows
    assert (len(rows), {len(line) for line in rows}) == (height, {width})
    cells = {(i, j): sign for i, line in enumerate(rows) for j, sign in enumerate(line) if sign != "#"}
    assert cells[1, 1] == "r"
    assert cells[goal_row, goal_column] == "g"
    assert len(cells) == free
    steps, ahead = {(1, 1): 0}, deque([(1, 1)])
    while ahead:
        i, j = ahead.popleft()
        for cell in {(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)} & cells.keys() - steps.keys():
            steps[cell] = steps[i, j] + 1
            ahead.append(cell)
    assert steps.keys() == cells.keys()
    assert steps[goal_row, goal_column] == far


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_the_ant_cannot_be_pushed_through_a_wall(x, y):
    umaze = TASKS[0].make()
    umaze.reset(seed=1)
    torso = umaze.data.body("torso")
    for _ in range(80):
        torso.xfrc_applied[:2] = 6.0 * np.array([x, y])
        umaze.step(np.zeros(8))
    east, north = umaze.data.qpos[:2]
    if (x, y) == (1.0, 0.0):  # two free cells, then a wall at 10 m
        assert 6.0 < east < 10.0 - 0.2
    else:  # the walls of the first cell are 2 m off
        assert 0.5 < abs(east * x + north * y) < 2.0 - 0.2


def test_it_begins_in_the_middle_of_r_at_rest_but_for_noise(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(200)])
    rest = np.array([0.0, 0.0, 0.75] + [0.0] * 8)
    placed = np.delete(starts[:, :15], [3, 4, 5, 6], axis=1)
    assert np.abs(placed - rest[None, :]).max() <= 0.1
    assert (np.abs(placed - rest[None, :]).max(axis=0) > 0.09).all()
    assert np.abs(placed.mean(axis=0) - rest).max() < 0.02
    np.testing.assert_allclose(np.linalg.norm(starts[:, 3:7], axis=1), 1.0, atol=1e-12)
    assert 0.08 < np.abs(starts[:, 4:7]).max() < 0.1 / 0.9
    assert starts[:, 15:].std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(starts[:, 15:].mean(axis=0)).max() < 0.03


def test_goals_lie_past_the_middle_of_g(env):
    _, _, row, column, _, _, (low, high) = facts(env.task)
    env.reset(seed=0)
    goals = np.array([env.goal for _ in range(200) if env.reset()]) - middle(row, column)[None, :]
    assert goals.min() >= low
    assert goals.max() <= high
    assert np.ptp(goals, axis=0).min() > 1.2
    assert np.abs(goals.mean(axis=0) - (low + high) / 2.0).max() < 0.1
    two_draws = math.sqrt((1.0 + 0.25) / 12.0)  # standard deviation of the sum of uniform draws 1 m and 0.5 m wide
    np.testing.assert_allclose(goals.std(axis=0), two_draws, rtol=0.2)
    assert abs(np.corrcoef(goals.T)[0, 1]) < 0.25


@pytest.mark.parametrize("task", TASKS[::2], ids=lambda task: task.name)
def test_a_picture_shows_the_whole_maze_and_the_goal(task):
    env = task.make("rgb_array")
    env.reset(seed=0)
    picture = env.render().astype(int)
    env.close()
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert border.max() < 100  # nothing but the sky
    red, green, blue = np.moveaxis(picture, -1, 0)
    assert ((red > 180) & (green > 140)).mean() > 0.1  # walls
    rows, columns = np.nonzero((red > 120) & (green < 80) & (blue < 80))
    assert len(rows) > 10  # the goal, which is in the upper half: y points up, x to the right
    assert rows.mean() < 360 / 2
    assert (columns.mean() > 480 / 2) == (task.name != "antmaze-umaze")
