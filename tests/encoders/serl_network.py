"""SERL's ResNet-10 in plain numpy, read from the parameters as SERL names and arranges them.

`serl_launcher/vision/resnet_v1.py`, `resnetv1-10-frozen`: nothing here is shared with `encoders`.
"""

import numpy as np

WIDTHS = (64, 128, 256, 512)


def serl_params(seed: int = 0) -> dict:
    """As the published file nests them; the classifier of ImageNet comes along, with fewer classes here."""
    rng = np.random.default_rng(seed)

    def conv(size: int, inside: int, outside: int) -> dict:
        kernel = rng.standard_normal((size, size, inside, outside)) * np.sqrt(2.0 / (size * size * inside))
        return {"kernel": kernel.astype(np.float32)}

    def norm(width: int) -> dict:
        return {
            "scale": rng.uniform(0.5, 1.5, width).astype(np.float32),
            "bias": rng.normal(0.0, 0.3, width).astype(np.float32),
        }

    params = {"conv_init": conv(7, 3, 64), "norm_init": norm(64)}
    inside = 64
    for i, width in enumerate(WIDTHS):
        block = {"Conv_0": conv(3, inside, width), "MyGroupNorm_0": norm(width)}
        block |= {"Conv_1": conv(3, width, width), "MyGroupNorm_1": norm(width)}
        if i > 0:
            block |= {"conv_proj": conv(1, inside, width), "norm_proj": norm(width)}
        params[f"ResNetBlock_{i}"], inside = block, width
    head = {"kernel": rng.standard_normal((512, 10)).astype(np.float32), "bias": np.zeros(10, np.float32)}
    return {**params, "output_head": head}


def serl_features(params: dict, frame: np.ndarray) -> np.ndarray:
    """`(h, w, 512)` of a frame `(H, W, 3)` uint8, in float64."""
    x = (frame.astype(np.float64) / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = _conv(x, params["conv_init"], 2, [(3, 3), (3, 3)])
    x = np.maximum(_group_norm(x, params["norm_init"]), 0.0)
    x = _windows(x, 3, 2, _same(x, 3, 2), -np.inf).max((-2, -1))
    for i in range(4):
        block, stride = params[f"ResNetBlock_{i}"], 2 if i > 0 else 1
        y = _conv(x, block["Conv_0"], stride, _same(x, 3, stride))
        y = np.maximum(_group_norm(y, block["MyGroupNorm_0"]), 0.0)
        y = _group_norm(_conv(y, block["Conv_1"], 1, _same(y, 3, 1)), block["MyGroupNorm_1"])
        if i > 0:
            x = _group_norm(_conv(x, block["conv_proj"], 2, _same(x, 1, 2)), block["norm_proj"])
        x = np.maximum(x + y, 0.0)
    return x


def _same(x: np.ndarray, size: int, stride: int) -> list[tuple[int, int]]:
    """XLA's `SAME`: just enough for `ceil(n / stride)`, and where that is odd, one more at the end."""
    edges = []
    for n in x.shape[:2]:
        total = max((-(-n // stride) - 1) * stride + size - n, 0)
        edges.append((total // 2, total - total // 2))
    return edges


def _windows(x: np.ndarray, size: int, stride: int, edges: list[tuple[int, int]], fill: float) -> np.ndarray:
    """`(h, w, C, size, size)`."""
    padded = np.pad(x, [*edges, (0, 0)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (0, 1))[::stride, ::stride]


def _conv(x: np.ndarray, params: dict, stride: int, edges: list[tuple[int, int]]) -> np.ndarray:
    kernel = params["kernel"].astype(np.float64)
    return np.tensordot(_windows(x, kernel.shape[0], stride, edges, 0.0), kernel, ([3, 4, 2], [0, 1, 2]))


def _group_norm(x: np.ndarray, params: dict) -> np.ndarray:
    groups = x.reshape(*x.shape[:2], 4, -1)
    mean, variance = (statistic(groups, (0, 1, 3), keepdims=True) for statistic in (np.mean, np.var))
    normed = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return normed * params["scale"] + params["bias"]
