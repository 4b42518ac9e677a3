"""What reads the image for a light student of CMKD: small backbones, or a whole depth network."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.efficientnet import EfficientNetLite0
from kd3d_core.depth.glpn import load_glpn, random_glpn
from kd3d_core.detectors.image import ResNet
from kd3d_core.detectors.published import fill, fill_efficientnet, fill_resnet
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.weights import resolve

STRIDE = 8
"""Pixels of the image per cell of the finest maps."""

_GLPN_B0 = DepthConfig("random", WindowConfig((32, 32)), encoder="b0")
"""Its window is that of the detector; this one is never looked at."""


class ImageNetNorm(nn.Module):
    """Colours of 0 to 255 as torchvision's networks are trained to see them."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (1, 3, 1, 1)
        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class Encoder(nn.Module):
    """RGB images, 0 to 255, to maps of stride 8, 16, ... and, of some, depth in metres.

    Attributes:
        channels: number of channels of each map.
        has_depth: whether it says depth too, `(B, H / 8, W / 8)`.
    """

    channels: tuple[int, ...]
    has_depth = False

    def forward(self, images: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor | None]:
        raise NotImplementedError

    def start(self, weights: str) -> None:
        """Fill it with published weights; see `ImageSideConfig`."""
        raise NotImplementedError


class ResNetEncoder(Encoder):
    """ResNet-18 without its last stage; `backbone` has torchvision's names."""

    channels = (128, 256)

    def __init__(self) -> None:
        super().__init__()
        self.normalization = ImageNetNorm()
        self.backbone = ResNet(18, stages=3)

    def forward(self, images: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor | None]:
        return self.backbone(self.normalization(images))[1:], None

    def start(self, weights: str) -> None:
        fill_resnet(self.backbone, weights)


class EfficientNetEncoder(Encoder):
    """EfficientNet-Lite0."""

    channels = EfficientNetLite0.channels[2:]

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()

    def forward(self, images: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor | None]:
        return self.backbone(images / 255)[2:], None

    def start(self, weights: str) -> None:
        fill_efficientnet(self.backbone, weights)


class DepthEncoder(Encoder):
    """The encoder of a whole depth network, GLPN B0, whose answer is the prior of the bins."""

    channels = (64, 160, 256)
    has_depth = True

    def __init__(self) -> None:
        super().__init__()
        self.network = random_glpn(_GLPN_B0, int(torch.randint(2**31, ())))

    def forward(self, images: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor | None]:
        depth_m, maps = self.network.with_features(images / 255)
        middle = STRIDE // 2  # no mean: between object and background there is nothing
        return maps[-3:], depth_m[:, middle::STRIDE, middle::STRIDE].float()

    def start(self, weights: str) -> None:
        published = load_glpn(resolve(weights), replace(_GLPN_B0, weights=weights))
        fill(self.network, published.state_dict(), weights)


ENCODERS: dict[str, type[Encoder]] = {
    "resnet18": ResNetEncoder,
    "efficientnet_lite0": EfficientNetEncoder,
    "glpn_b0": DepthEncoder,
}
"""By the name that `ImageSideConfig` has for them."""
