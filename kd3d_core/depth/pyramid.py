"""A light depth network: EfficientNet-Lite0, and a decoder of bilinear steps and fusions.

Depth is made at half the image's size, as a logarithm, and each pixel of the full size is a learnt
mean of nine of its neighbours there (Teed and Deng, 2020, section 3.3), so that edges stay edges.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.efficientnet import EfficientNetLite0, load_imagenet
from kd3d_core.depth.model import DepthModel
from kd3d_core.errors import WeightsError, listed
from kd3d_core.files import write_whole
from kd3d_core.weights.tensors import read_tensors

_TYPE = "kd3d_pyramid"
_WIDTHS = (32, 64, 96, 128, 160)  # of the decoder, from half of the image's size to a 32nd
_MIN_DEPTH_M = 1.0
_TYPICAL_DEPTH_M = 15.0  # what an untrained network answers


class PyramidDepth(nn.Module):
    """Images `(B, 3, H, W)`, RGB in [0, 1], to depth `(B, H, W)` in metres, 1 to `max_depth`.

    Height and width are multiples of 32.
    """

    def __init__(self, max_depth: float) -> None:
        super().__init__()
        self.max_depth = max_depth
        self.encoder = EfficientNetLite0()
        self.inputs = nn.ModuleList(
            nn.Conv2d(channels, width, 1)
            for channels, width in zip(self.encoder.channels, _WIDTHS, strict=True)
        )
        # Where in the image a pixel is: with the horizon, that is how far the ground is there.
        self.places = nn.ModuleList(nn.Conv2d(2, width, 1, bias=False) for width in _WIDTHS)
        for layer in self.places:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        # What all of the image says, such as where its horizon is.
        self.overview = nn.Conv2d(_WIDTHS[-1], _WIDTHS[-1], 1)
        self.narrow = nn.ModuleList(
            nn.Conv2d(wide, width, 1, bias=False) for width, wide in pairwise(_WIDTHS)
        )
        self.fuse = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for width in _WIDTHS[:-1]
        )
        self.head = _Head(_WIDTHS[0], max_depth)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.encoder(images)
        smaller = [
            layer(x) + place(_grid(x))
            for layer, place, x in zip(self.inputs, self.places, features, strict=True)
        ]
        x = smaller[-1]
        x = functional.relu(x + self.overview(x.mean((2, 3), keepdim=True)))
        for level in reversed(range(len(_WIDTHS) - 1)):
            # The convolution first, as it is cheaper where there are fewer pixels.
            x = _doubled(self.narrow[level](x)) + smaller[level]
            x = self.fuse[level](functional.relu(x))
        return self.head(x)


class _Head(nn.Module):
    """Features `(B, C, h, w)` to depth `(B, 2h, 2w)`."""

    def __init__(self, width: int, max_depth: float) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, 1, 3, padding=1)
        self.weights = nn.Conv2d(width, 4 * 9, 1)
        self._log_range = math.log(max_depth / _MIN_DEPTH_M)
        share = math.log(_TYPICAL_DEPTH_M / _MIN_DEPTH_M) / self._log_range
        nn.init.constant_(self.depth.bias, math.log(share / (1 - share)))  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = upsample_by_weights(self.depth(x).sigmoid(), self.weights(x))
        return _MIN_DEPTH_M * (share[:, 0] * self._log_range).exp()


def upsample_by_weights(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Double the size of a map; each new pixel is a weighted mean of nine old ones.

    Args:
        values: `(B, 1, h, w)`.
        weights: `(B, 9 * 4, h, w)`, before softmax: for each of the nine neighbours, row by row,
            those of the four new pixels, row by row.

    Returns:
        `(B, 1, 2h, 2w)`.

    >>> import torch
    >>> weights = torch.full((1, 9, 4, 1, 2), -100.0)
    >>> weights[:, 4] = 100.0  # each pixel itself
    >>> upsample_by_weights(torch.tensor([[[[3.0, 5.0]]]]), weights.reshape(1, 36, 1, 2))[0, 0]
    tensor([[3., 3., 5., 5.],
            [3., 3., 5., 5.]])
    """
    batch, _, height, width = values.shape
    neighbours = functional.unfold(functional.pad(values, (1, 1, 1, 1), mode="replicate"), 3)
    neighbours = neighbours.view(batch, 9, 1, height, width)
    shares = weights.view(batch, 9, 4, height, width).softmax(1)
    return functional.pixel_shuffle((shares * neighbours).sum(1), 2)


def _grid(like: torch.Tensor) -> torch.Tensor:
    """`(1, 2, H, W)`: column and row of each pixel of `(B, C, H, W)`, -1 to 1."""
    height, width = like.shape[-2:]
    rows, columns = (
        torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device)
        for size in (height, width)
    )
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None]


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class PyramidDepthModel(DepthModel):
    """`PyramidDepth` as the depth model of a configuration."""

    network: PyramidDepth

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        depth = self.network(images.contiguous(memory_format=torch.channels_last))
        return depth if self.depth_scale == 1 else depth * self.depth_scale

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`, from which `load_pyramid` makes it again."""
        about = {"model_type": _TYPE, "max_depth": self.network.max_depth}
        write_whole(folder / "config.json", (json.dumps(about, indent=2) + "\n").encode())
        tensors = {name: t.contiguous() for name, t in self.network.state_dict().items()}
        write_whole(folder / "model.safetensors", save(tensors, {"format": "pt"}))


def new_pyramid(config: DepthConfig, seed: int) -> PyramidDepthModel:
    """A network to train, with weights drawn from `seed`, or only its decoder's.

    Raises:
        WeightsError: the package with ImageNet's weights isn't installed.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PyramidDepth(config.max_depth)
    if config.encoder_weights == "imagenet":
        load_imagenet(network.encoder)
    return PyramidDepthModel(network, config.depth_scale).eval()


def load_pyramid(folder: Path, config: DepthConfig) -> PyramidDepthModel:
    """The network in a folder that `PyramidDepthModel.save` wrote.

    Raises:
        WeightsError: there is no such folder, it holds another network or one for another
            `max_depth`, or its tensors are damaged or not the network's.
    """
    about = _read_about(folder)
    if about.get("model_type") != _TYPE:
        raise WeightsError(
            f"{folder} is a {about.get('model_type')}, no {_TYPE}: use depth.type glpn or auto"
        )
    if about.get("max_depth") != config.max_depth:
        raise WeightsError(
            f"{folder} was trained up to {about.get('max_depth')} m, and depth.max_depth is "
            f"{config.max_depth}: use the former"
        )
    network = PyramidDepth(config.max_depth)
    tensors, wanted = read_tensors(folder / "model.safetensors"), network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        raise WeightsError(
            f"{folder}: its weights aren't of this network, {len(problems)} tensors differ: "
            f"{listed(problems, 5)}"
        )
    network.load_state_dict(tensors)
    return PyramidDepthModel(network, config.depth_scale).eval()


def _read_about(folder: Path) -> dict:
    try:
        about = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{folder} can't be loaded: it needs a config.json and a model.safetensors, as "
            f"kd3d-train writes them ({error})"
        ) from None
    return about if isinstance(about, dict) else {}
