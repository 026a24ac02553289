"""torchvision's networks with random weights and random running statistics: what ours are compared with."""

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import nn

from encoders.trunk import MEAN, STD

DEPTHS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
_libraries = []  # what is defined is gone with the object


@cache
def torchvision() -> ModuleType:
    """The module. One built for CUDA cannot load its compiled operators beside a torch that is not; no network needs them."""
    torch.set_num_threads(1)
    try:
        import torchvision as module
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        import torchvision as module
    return module


def torch_model(architecture: str, seed: int = 0) -> nn.Module:
    """In inference mode; every batch norm's weight, bias, mean and variance are drawn, so that none of them can be left out."""
    resnet = torchvision().models.resnet
    torch.manual_seed(seed)
    block = resnet.Bottleneck if architecture == "resnet50" else resnet.BasicBlock
    model = resnet.ResNet(block, list(DEPTHS[architecture]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 3.0)
    return model.eval()


def torch_features(model: nn.Module, frames: np.ndarray) -> np.ndarray:
    """What goes into `avgpool`, `(N, h, w, C)`, of frames `(N, H, W, 3)` uint8, prepared by torchvision itself."""
    transforms = torchvision().transforms.functional
    maps = []
    model.get_submodule("layer4").register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    pictures = torch.stack(
        [transforms.normalize(transforms.to_tensor(frame), list(MEAN), list(STD)) for frame in frames]
    )
    with torch.inference_mode():
        model(pictures)
    return maps[-1].permute(0, 2, 3, 1).numpy()
