"""The papers' presets."""

from launch.preset import Preset

PAPER_PRESETS: tuple[Preset, ...] = ()
