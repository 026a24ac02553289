"""`segue encoder ...`: image networks brought in and looked at."""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from encoders.trunk import Trunk, flattened, load_trunk, save_trunk
from launch.formats.source import written_whole
from launch.options import Json
from launch.show import show
from launch.weights import import_trunk

SUMMARY = "Bring pretrained image networks in, and look at them."
SIDE = 128  # pixels of the frames that it is measured with, as SERL's
encoder = tyro.extras.SubcommandApp()


@encoder.command(name="import")
def import_(
    architecture: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ARCH")],
    weights: Annotated[str, tyro.conf.arg(metavar="FILE|NAME")],
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.safetensors")] = None,
    json: Json = False,
) -> None:
    """Make a trunk of published weights: once, so that nothing needs PyTorch afterwards.

    Args:
        architecture: resnet10, resnet18, resnet34, resnet50, or resnet10_serl.
        weights: FILE.pth that torch.save wrote, or FILE.safetensors, with torchvision's names; SERL's resnet10_params.pkl;
            or what torchvision calls its weights, such as IMAGENET1K_V1, which it then downloads.
        out: The new file; by default ARCH.safetensors in this folder.
    """
    path = out or Path(f"{architecture}.safetensors")
    with written_whole(path, "trunk") as part:
        trunk = import_trunk(architecture, weights)
        save_trunk(trunk, part)
    show(json, {"file": str(path), **_facts(trunk, json)})


@encoder.command
def info(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    json: Json = False,
) -> None:
    """Say what a trunk is, where its weights are from, and how fast it is on this machine.

    Args:
        file: What `segue encoder import` wrote.
    """
    trunk = load_trunk(file)
    show(json, {"file": str(file), **_facts(trunk, json), **_speed(trunk)})


def _facts(trunk: Trunk, json: bool) -> dict[str, Any]:
    shapes = {"frame": (SIDE, SIDE, 3), "features": trunk.feature_shape((SIDE, SIDE, 3))}
    parameters = sum(x.size for x in flattened(trunk.params).values())
    return {
        "architecture": trunk.architecture,
        "fingerprint": trunk.fingerprint,
        "source": trunk.source,
        "parameters": parameters,
        "bytes": 4 * parameters,
        **{name: list(shape) if json else " x ".join(map(str, shape)) for name, shape in shapes.items()},
    }


def _speed(trunk: Trunk, at_least_s: float = 1.0) -> dict[str, float]:
    """Frames per second, many at once, and the time that one observation of two cameras takes."""
    seconds = {}
    for count in (2, 16):
        frames = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        trunk.encode(frames)  # compiled here
        times: list[float] = []
        while sum(times) < at_least_s or len(times) < 3:
            begin = time.perf_counter()
            trunk.encode(frames)
            times.append(time.perf_counter() - begin)
        seconds[count] = float(np.median(times))
    return {"frames_per_s": 16 / seconds[16], "two_frames_ms": 1000 * seconds[2]}
