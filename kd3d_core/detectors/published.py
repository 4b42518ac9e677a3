"""Published weights of image networks, which a training may start from.

All raise a `WeightsError` where the weights aren't here, or are of another network.
"""

from collections.abc import Mapping

import torch
from torch import nn

from kd3d_core.depth.efficientnet import EfficientNetLite0, load_imagenet
from kd3d_core.errors import WeightsError
from kd3d_core.weights import resolve
from kd3d_core.weights.tensors import read_tensors


def fill_efficientnet(backbone: EfficientNetLite0, weights: str) -> None:
    """With those that were trained on ImageNet, the only ones there are."""
    if weights != "imagenet":
        raise WeightsError(
            f"image_side.weights is {weights!r}: efficientnet_lite0 starts from imagenet or random"
        )
    load_imagenet(backbone)


def fill_resnet(backbone: nn.Module, weights: str) -> dict[str, torch.Tensor]:
    """With torchvision's ResNet, or that within its DeepLabV3; returns all that the file holds."""
    tensors = read_tensors(resolve(weights))
    inner = {
        name.removeprefix("backbone."): value
        for name, value in tensors.items()
        if name.startswith("backbone.")
    }
    fill(backbone, inner or tensors, weights)
    return tensors


def fill_deeplab(backbone: nn.Module, classifier: nn.Module, weights: str) -> None:
    """As `fill_resnet`; of a DeepLabV3 the head comes along too, up to its classes."""
    tensors = fill_resnet(backbone, weights)
    if not any(name.startswith("backbone.") for name in tensors):
        return
    head = classifier.state_dict()
    theirs = {
        name: tensors.get(f"classifier.{name}", value)
        for name, value in head.items()
        if not name.startswith("4.")
    }
    fill(classifier, head | theirs, weights)


def fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Fill a network with tensors by name; those that it doesn't have are left out.

    Raises:
        WeightsError: a tensor of the network is missing, or of another shape.
    """
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
