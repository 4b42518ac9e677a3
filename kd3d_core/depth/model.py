"""DepthModel: what every depth network is here, a module from images to metres."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

_ENCODERS = ("glpn", "backbone", "encoder")
"""What networks call the part that reads the image."""


class DepthModel(nn.Module):
    """Images `(B, 3, H, W)`, RGB in [0, 1], to depth `(B, H, W)` in metres.

    What the answer leaves by always computes in single precision: bf16 knows no number between 32.0
    and 32.25, and depth rounded so makes a cloud of shells. Channels come last in memory, which
    halves the time of a training step on a CPU.
    """

    def __init__(self, network: nn.Module, depth_scale: float = 1.0) -> None:
        super().__init__()
        # torch's stubs lack the overload for modules.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.depth_scale = depth_scale

        for module in _last_layers(network):
            _compute_in_fp32(module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        depth = self.network(pixel_values=images).predicted_depth
        return depth if self.depth_scale == 1 else depth * self.depth_scale

    def with_features(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Depth, and the encoder's maps of stride 4, 8, 16 and 32; for GLPN."""
        images = images.contiguous(memory_format=torch.channels_last)
        found = self.network(pixel_values=images, output_hidden_states=True)
        return found.predicted_depth * self.depth_scale, found.hidden_states

    def learn(self, layers: Literal["none", "decoder", "all"]) -> None:
        """Let only these layers learn; `decoder` is all but the image encoder."""
        for name, parameter in self.network.named_parameters():
            of_encoder = name.split(".")[0] in _ENCODERS
            parameter.requires_grad_(layers == "all" or (layers == "decoder" and not of_encoder))

    def save(self, folder: Path) -> None:
        """Write a transformers folder, from which the same model can be loaded again."""
        from transformers.utils import logging

        network: Any = self.network
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            network.save_pretrained(folder)
        finally:
            if shown:
                logging.enable_progress_bar()


def _last_layers(network: nn.Module) -> list[nn.Module]:
    """What makes the numbers of the answer."""
    heads = [getattr(network, name) for name in ("head", "metric_head") if hasattr(network, name)]
    # GLPN's head is two convolutions at full size, and the first is most of the network's work.
    inner = [getattr(head, "head", None) for head in heads]
    return [
        layers[-1] if isinstance(layers, nn.Sequential) else head
        for head, layers in zip(heads, inner, strict=True)
    ]


def _compute_in_fp32(module: nn.Module) -> None:
    """Let `module` compute in single precision under autocast too; its tensors keep their names."""
    kind = type(module)

    class Float32(kind):  # type: ignore[misc,valid-type]
        computes_in_fp32 = True  # as `cast_weights` asks

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            device = next(self.parameters()).device.type
            with torch.autocast(device, enabled=False):
                return kind.forward(self, *_floats(args), **_floats(kwargs))

    module.__class__ = Float32


def _floats(value: Any) -> Any:
    """The same nest of tuples, lists and dicts with floating-point tensors in single precision."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_floats(item) for item in value)
    return value
