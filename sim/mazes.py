"""The mazes of AntMaze, cell by cell: `#` wall, `.` free, `r` where the ant begins, `g` where the goal is.

A cell is 4 m wide. The origin is the middle of `r`; x grows with the column and y with the row.
"""

from dataclasses import dataclass

import numpy as np

CELL_M = 4.0
WALL_HEIGHT_M = 2.0  # D4RL's maze_height 0.5, times the cell
GOAL_NOISE_M = (1.0, 0.5)  # the goal is two uniform draws of these widths, towards +x and +y, off its cell's middle


@dataclass(frozen=True)
class Maze:
    """A map, and how far the range of its goals is moved, in x and in y alike."""

    rows: tuple[str, ...]
    goal_shift_m: float = 0.0

    @property
    def size_m(self) -> np.ndarray:
        """Widths in x and y, outer walls included, `(2,)`."""
        return CELL_M * np.array([len(self.rows[0]), len(self.rows)])

    @property
    def centre(self) -> np.ndarray:
        """The middle of the whole map, m, `(2,)`."""
        return (self.cells("#").min(axis=0) + self.cells("#").max(axis=0)) / 2.0

    @property
    def goal_cell(self) -> np.ndarray:
        """The middle of the goal's cell, m, `(2,)`."""
        return self.cells("g")[0]

    def cells(self, letter: str) -> np.ndarray:
        """Middles of all cells with that letter, m, `(n, 2)`."""
        found = {sign: [] for sign in "#.rg"}
        for row, line in enumerate(self.rows):
            for column, sign in enumerate(line):
                found[sign].append((column, row))
        return CELL_M * (np.array(found[letter], float) - np.array(found["r"][0], float)[None, :])

    def draw_goal(self, rng: np.random.Generator) -> np.ndarray:
        """A goal as D4RL's evaluation draws it, m, `(2,)`."""
        return self.goal_cell + self.goal_shift_m + sum(rng.uniform(0.0, width, 2) for width in GOAL_NOISE_M)


UMAZE = Maze(
    (
        "#####",
        "#r..#",
        "###.#",
        "#g..#",
        "#####",
    )
)
MEDIUM = Maze(
    (
        "########",
        "#r.##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#.g#",
        "########",
    )
)
LARGE = Maze(
    (
        "############",
        "#r...#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#.g.#",
        "############",
    )
)
# Of the authors of TAP, who draw goals around another point of the cell than D4RL does.
ULTRA = Maze(
    (
        "################",
        "#r......#......#",
        "#.###.#.#.##.#.#",
        "#.###.#....#.#.#",
        "#...#.##.###.#.#",
        "#.#...#........#",
        "#...#...#.###.##",
        "#.#.###.#...#.##",
        "#.......#.#....#",
        "##.##.#...####.#",
        "##.#..#.#.....g#",
        "################",
    ),
    goal_shift_m=-1.0,
)
