"""Any metric depth model that transformers' `AutoModelForDepthEstimation` loads.

A checkpoint's own image processor says how its network wants images. What it does is done here by
other means, so that pixels stay where the camera says and nothing leaves the device: its resizing
by an `ImageWindow` (a single scale for both directions; processors round height and width apart),
its normalisation and its padding inside the model.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.model import DepthModel
from kd3d_core.depth.pretrained import errors_in_a_line, load_network, read_config
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig

# ZoeDepth mirrors the image over its borders by this times sqrt(side / 2) pixels, as its networks
# err at the border of what they see.
_ZOE_MARGIN = 3.0


@dataclass(frozen=True)
class Preprocessing:
    """What an image processor does.

    Attributes:
        mean: of RGB in [0, 1].
        std: of RGB in [0, 1].
        size: height and width, one of which images are brought to.
        multiple_of: sides of the network's input are multiples of this.
        margin: images are mirrored over their borders by `margin * sqrt(side / 2)` pixels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: tuple[int, int]
    multiple_of: int
    margin: float

    def window(self) -> WindowConfig:
        """The window that stands for the processor's resizing."""
        multiple_of = 1 if self.margin else self.multiple_of  # mirroring makes the multiples
        return WindowConfig(self.size, "fit", multiple_of=multiple_of, margin=self.margin)


class AutoDepthModel(DepthModel):
    """A network between its processor's normalisation and the grid of the images.

    Images `(B, 3, H, W)`, RGB in [0, 1], to depth `(B, H, W)` in metres.
    """

    # In the state, so that whoever compares weights sees a change of the processor too.
    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        preprocessing: Preprocessing,
        depth_scale: float = 1.0,
    ) -> None:
        super().__init__(network, depth_scale)
        self.preprocessing = preprocessing
        self._processor = processor
        self.register_buffer("image_mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        pixels = self.network_input(images)
        depth = self.network(pixel_values=pixels).predicted_depth
        if depth.shape[-2:] != pixels.shape[-2:]:
            size = pixels.shape[-2:]
            depth = functional.interpolate(depth[:, None], size, mode="bilinear")[:, 0]
        top, left = ((big - small) // 2 for big, small in zip(
            pixels.shape[-2:], (height, width), strict=True
        ))  # fmt: skip
        return depth[:, top : top + height, left : left + width] * self.depth_scale

    def network_input(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images, mirrored over their borders where the processor does that."""
        pixels = (images - self.image_mean) / self.image_std
        if not self.preprocessing.margin:
            return pixels
        rows, columns = (self._mirrored(side) for side in images.shape[-2:])
        border = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return functional.pad(pixels, border, mode="reflect")

    def save(self, folder: Path) -> None:
        """Write a transformers folder with the image processor."""
        super().save(folder)
        self._processor.save_pretrained(folder)

    def _mirrored(self, side: int) -> int:
        """Pixels to add to a side, at both ends together: the processor's, to whole multiples."""
        multiple = self.preprocessing.multiple_of
        wanted = side + 2 * self.preprocessing.margin * math.sqrt(side / 2)
        return max(round(wanted / multiple), math.ceil(side / multiple)) * multiple - side


def load_auto(folder: Path, config: DepthConfig) -> tuple[AutoDepthModel, WindowConfig]:
    """A metric model from a transformers folder, and the window it is to see.

    Raises:
        WeightsError: there is no such folder, its tensors are damaged or not the network's, the
            answer isn't depth in metres up to `config.max_depth`, or the configured window
            doesn't suit the network.
    """
    from transformers import MODEL_FOR_DEPTH_ESTIMATION_MAPPING, AutoImageProcessor

    stored = read_config(folder)
    with errors_in_a_line(folder):
        _check_metric(folder, stored, config.max_depth)
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        preprocessing = read_preprocessing(processor, _patch_size(stored))
    network = load_network(MODEL_FOR_DEPTH_ESTIMATION_MAPPING[type(stored)], folder, stored)
    window = config.window or preprocessing.window()
    multiple = preprocessing.window().multiple_of
    if window.mode != "fit" and any(side % multiple for side in window.size):
        nearest = [max(round(side / multiple), 1) * multiple for side in window.size]
        raise WeightsError(
            f"depth.window.size is {list(window.size)}, and {stored.model_type} needs multiples "
            f"of {multiple}: use {nearest}"
        )
    return AutoDepthModel(network, processor, preprocessing, config.depth_scale).eval(), window


def read_preprocessing(processor: Any, patch_size: int) -> Preprocessing:
    """What a transformers image processor does to images.

    Args:
        processor: any whose `size` has height and width, or a shortest edge.
        patch_size: of the network, which cuts off what doesn't fill a patch.
    """
    brightest = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0, 1)
    size = dict(processor.size)
    short = size.get("shortest_edge") or 0
    # Fractions are in the library's defaults; they constrain nothing.
    multiple_of = max(int(getattr(processor, "ensure_multiple_of", None) or 1), 1)
    divisor = getattr(processor, "size_divisor", None) or 1
    zoe = "ZoeDepth" in type(processor).__name__ and processor.do_pad
    return Preprocessing(
        _rgb(mean, brightest),
        _rgb(std, brightest),
        (size.get("height") or short, size.get("width") or short),
        math.lcm(multiple_of, divisor, patch_size),
        _ZOE_MARGIN if zoe else 0.0,
    )


def _rgb(values: Any, brightest: float) -> tuple[float, float, float]:
    red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
    return red / brightest, green / brightest, blue / brightest


def _patch_size(stored: Any) -> int:
    backbone = getattr(stored, "backbone_config", None)
    size = getattr(stored, "patch_size", None) or getattr(backbone, "patch_size", None) or 1
    return size if isinstance(size, int) else math.lcm(*size)


def _check_metric(folder: Path, stored: Any, max_depth: float) -> None:
    """Refuse what doesn't answer in metres, or was trained for other distances."""
    kind = stored.model_type
    if kind == "glpn":
        raise WeightsError(f"{folder} is a GLPN: use depth.type glpn")
    cap = None
    if kind == "depth_anything" and stored.depth_estimation_type == "metric":
        cap = stored.max_depth
    if kind == "zoedepth":
        cap = max(head["max_depth"] for head in stored.bin_configurations)
    if cap is None:
        raise WeightsError(
            f"{folder} ({kind}) doesn't answer in metres: use a metric model, such as "
            "Depth Anything V2 Metric Outdoor or ZoeDepth NYU-KITTI"
        )
    if cap != max_depth:
        raise WeightsError(
            f"{folder} was trained up to {cap:g} m, and depth.max_depth is {max_depth:g}: use "
            f"max_depth {cap:g}, or weights for that distance (indoor and outdoor ones differ)"
        )
