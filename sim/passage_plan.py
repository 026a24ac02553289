"""Where things are in the narrow passage, m: x from left to right, y upwards, 0 in the middle."""

ARENA_M = 1.0  # half its width and height
WALL_HALF_M = 0.05  # half its thickness, around x = 0
GAP_M = (0.42, 0.58)  # y of its lower and upper edge
GOAL_M = (0.7, -0.35)
GOAL_RADIUS_M = 0.1
START_LOW_M, START_HIGH_M = (-0.9, -0.6), (-0.6, 0.2)  # corners of where episodes begin
