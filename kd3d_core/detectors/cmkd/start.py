"""What the image side begins a training with."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.efficientnet import EfficientNetLite0, load_imagenet
from kd3d_core.depth.glpn import load_glpn, random_glpn
from kd3d_core.detectors.cmkd.image_side import (
    DeepLabSide,
    DepthEncoder,
    EfficientNetEncoder,
    Encoder,
    LightSide,
    ResNetEncoder,
)
from kd3d_core.detectors.config import ImageSideConfig
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.weights import resolve
from kd3d_core.weights.tensors import read_tensors

_GLPN_B0 = DepthConfig("random", WindowConfig((32, 32)), encoder="b0")
"""Its window is that of the detector; this one is never looked at."""
_GLPN_CHANNELS = (64, 160, 256)


def make_encoder(config: ImageSideConfig) -> Encoder:
    """The encoder of a light image side, with random weights."""
    if config.encoder == "efficientnet_lite0":
        return EfficientNetEncoder()
    if config.encoder == "glpn_b0":
        depth = random_glpn(_GLPN_B0, int(torch.randint(2**31, ())))
        return DepthEncoder(depth, _GLPN_CHANNELS)
    return ResNetEncoder()


def start_image_side(side: nn.Module, config: ImageSideConfig) -> None:
    """Fill an image side with the weights that its configuration starts from.

    Raises:
        WeightsError: they aren't here, or aren't of its network.
    """
    if config.weights == "random":
        return
    if isinstance(side, DeepLabSide):
        _start_from_torchvision(side.backbone, config.weights, side)
    elif isinstance(side, LightSide):
        _start_encoder(side.encoder, config.weights)
    elif isinstance(side, EfficientNetLite0):
        _start_from_imagenet(side, config.weights)


def _start_from_imagenet(backbone: EfficientNetLite0, weights: str) -> None:
    if weights != "imagenet":
        raise WeightsError(
            f"image_side.weights is {weights!r}: efficientnet_lite0 starts from imagenet or random"
        )
    load_imagenet(backbone)


def _start_encoder(encoder: Encoder, weights: str) -> None:
    if isinstance(encoder, EfficientNetEncoder):
        _start_from_imagenet(encoder.backbone, weights)
    elif isinstance(encoder, ResNetEncoder):
        _start_from_torchvision(encoder.backbone, weights)
    elif isinstance(encoder, DepthEncoder):
        wanted = replace(_GLPN_B0, weights=weights)
        found = load_glpn(resolve(weights), wanted).state_dict()
        _fill(encoder.network, found, weights)


def _start_from_torchvision(
    backbone: nn.Module, weights: str, deeplab: DeepLabSide | None = None
) -> None:
    """From a ResNet of torchvision, or its DeepLabV3, whose head comes along up to its classes."""
    tensors = read_tensors(resolve(weights))
    inner = {
        name.removeprefix("backbone."): value
        for name, value in tensors.items()
        if name.startswith("backbone.")
    }
    _fill(backbone, inner or tensors, weights)
    if inner and deeplab is not None:
        head = deeplab.classifier.state_dict()
        classes = {name for name in head if name.startswith("4.")}
        theirs = {name: tensors.get(f"classifier.{name}", head[name]) for name in head}
        _fill(deeplab.classifier, {**theirs, **{name: head[name] for name in classes}}, weights)


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Tensors that the network doesn't have, such as a classifier's, are left out."""
    wanted = network.state_dict()
    wrong = [
        name
        for name, value in wanted.items()
        if name not in tensors or tensors[name].shape != value.shape
    ]
    if wrong:
        raise WeightsError(
            f"image_side.weights {source} are of another network: {len(wrong)} of {len(wanted)} "
            f"tensors are missing or of another shape (first: {wrong[0]})"
        )
    network.load_state_dict({name: tensors[name] for name in wanted})
