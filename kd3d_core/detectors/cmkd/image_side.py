"""The camera's half of CMKD: from an image to features and a distribution over depth."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.detectors.cmkd.bins import DepthBins
from kd3d_core.detectors.cmkd.encoders import STRIDE, Encoder, ImageNetNorm
from kd3d_core.detectors.image import ResNet
from kd3d_core.detectors.published import fill_deeplab

_PRIOR_SCALE = 0.05  # of the Laplace distribution around a depth network's answer, share of it
_PRIOR_FLOOR = 1e-3  # share of the prior that is spread over all bins: no answer is certain


class ImageSide(nn.Module):
    """RGB images `(B, 3, H, W)`, 0 to 255, to features and depth logits of stride 8.

    Height and width are multiples of 32.

    Attributes:
        channels: of the features.
        bins: of the depth.
    """

    def __init__(self, channels: int, bins: DepthBins) -> None:
        super().__init__()
        self.channels, self.bins = channels, bins

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, channels, H / 8, W / 8)`, and `(B, bins + 1, H / 8, W / 8)` float32 logits."""
        raise NotImplementedError

    def start(self, weights: str) -> None:
        """Fill what reads the image with published weights; see `ImageSideConfig`."""
        raise NotImplementedError


class DeepLabSide(ImageSide):
    """CaDDN's and CMKD's: ResNet-50 to stride 8, features of its third stage, DeepLabV3's head.

    `backbone` and `classifier` have torchvision's names, so that what it publishes fits.
    """

    def __init__(self, channels: int, bins: DepthBins, *, frozen: bool) -> None:
        """`frozen`: training leaves norms and first stage of the backbone as they are."""
        super().__init__(channels, bins)
        self.normalization = ImageNetNorm()
        self.backbone = ResNet(50, stride=STRIDE, frozen=frozen)
        self.reduce = nn.Sequential(
            nn.Conv2d(1024, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.classifier = nn.Sequential(
            _AtrousPyramid(2048, (12, 24, 36)), *_conv_norm(256, 256), nn.ReLU(),
            nn.Conv2d(256, bins.count + 1, 1),
        )  # fmt: skip

    def init_weights(self) -> None:
        self.backbone.init_weights()

    def start(self, weights: str) -> None:
        fill_deeplab(self.backbone, self.classifier, weights)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *_, third, fourth = self.backbone(self.normalization(images))
        return self.reduce(third), self.classifier(fourth).float()


class _AtrousPyramid(nn.Module):
    """ASPP (Chen et al., 2017): kernels spread by several rates, and the image's mean."""

    def __init__(self, in_channels: int, rates: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), *_norm_relu(channels))
        ]
        for rate in rates:
            conv = nn.Conv2d(in_channels, channels, 3, padding=rate, dilation=rate, bias=False)
            layers.append(nn.Sequential(conv, *_norm_relu(channels)))
        layers.append(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(in_channels, channels, 1, bias=False),
                _LonelyNorm(channels),
                nn.ReLU(),
            )
        )
        self.convs = nn.ModuleList(layers)
        self.project = nn.Sequential(
            nn.Conv2d(len(layers) * channels, channels, 1, bias=False),
            *_norm_relu(channels),
            nn.Dropout(0.5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [layer(x) for layer in self.convs]
        found[-1] = found[-1].expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat(found, 1))


class _LonelyNorm(nn.BatchNorm2d):
    """A norm of one value per image, which for a single image has no statistics of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class LightSide(ImageSide):
    """A small encoder, its maps brought to stride 8, and two convolutions that decide on depth.

    With a depth network its answer is the prior of the bins: their likelihood under a Laplace
    distribution around it. What is learnt is added to its logarithm and starts at 0, so the
    frustum is right from the first step on.
    """

    def __init__(
        self, encoder: Encoder, channels: int, bins: DepthBins, *, frozen: bool, width: int = 64
    ) -> None:
        """`frozen`: training leaves the encoder as it is. `width` counts inner channels."""
        super().__init__(channels, bins)
        self.frozen = frozen
        self.encoder = encoder.requires_grad_(not frozen)
        self.laterals = nn.ModuleList(nn.Conv2d(count, width, 1) for count in encoder.channels)
        self.context = nn.Sequential(*_conv_norm(width, channels), nn.ReLU())
        self.depth = nn.Sequential(
            *_conv_norm(width, width), nn.ReLU(), *_conv_norm(width, width), nn.ReLU(),
            nn.Conv2d(width, bins.count + 1, 1),
        )  # fmt: skip
        if encoder.has_depth:
            last: Any = self.depth[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def train(self, mode: bool = True) -> "LightSide":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def start(self, weights: str) -> None:
        self.encoder.start(weights)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The features alone; see `ImageSide`."""
        maps, _ = self.encoder(images)
        return self.context(self._at_stride(maps))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps, depth_m = self.encoder(images)
        x = self._at_stride(maps)
        logits = self.depth(x).float()
        if depth_m is not None:
            logits = logits + depth_prior(depth_m, self.bins)
        return self.context(x), logits

    def _at_stride(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """`(B, width, H / 8, W / 8)` of all of the encoder's maps."""
        size = maps[0].shape[-2:]
        same = [
            functional.interpolate(lateral(map_), size, mode="bilinear", align_corners=False)
            for lateral, map_ in zip(self.laterals, maps, strict=True)
        ]
        return functional.relu(torch.stack(same).sum(0))


def depth_prior(depth: torch.Tensor, bins: DepthBins) -> torch.Tensor:
    """`(B, count + 1, h, w)` logarithms of the bins' likelihood, given depth `(B, h, w)` metres.

    What a Laplace distribution around the depth, of a scale of 5 % of it, has in each bin and
    beyond them, mixed with a thousandth of a uniform one.

    >>> prior = depth_prior(torch.full((1, 1, 1), 7.0), DepthBins(2.0, 12.0, 4))
    >>> prior.exp().flatten().round(decimals=3)
    tensor([0.0000, 0.0020, 0.9690, 0.0290, 0.0000])
    """
    depth = depth.clamp(min=0.1)[:, None]
    scale = _PRIOR_SCALE * depth
    edges = bins.edges().to(depth).view(1, -1, 1, 1)
    # By the distance of the nearer edge, so that nothing is lost to rounding far off.
    low, high = (edges[:, :-1] - depth) / scale, (edges[:, 1:] - depth) / scale
    near = torch.maximum(low, -high).clamp(min=0)
    width = (high - low).clamp(min=1e-6)
    outside = 0.5 * (-near).exp() * -torch.expm1(-width)
    around = 1 - 0.5 * (low.clamp(max=0).exp() + (-high).clamp(max=0).exp())
    within = torch.where((low <= 0) & (high >= 0), around, outside)
    last = high[:, -1:]
    beyond = torch.where(
        last > 0, 0.5 * (-last.clamp(min=0)).exp(), 1 - 0.5 * last.clamp(max=0).exp()
    )
    share = torch.cat([within, beyond], 1)
    return ((1 - _PRIOR_FLOOR) * share + _PRIOR_FLOOR / share.shape[1]).log()


def _conv_norm(in_channels: int, channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
    ]  # fmt: skip


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]
