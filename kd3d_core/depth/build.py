"""Makes the depth model that a configuration asks for."""

from dataclasses import replace

from kd3d_core.depth.auto import load_auto
from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.glpn import load_glpn, random_glpn
from kd3d_core.depth.model import DepthModel
from kd3d_core.depth.pyramid import load_pyramid, new_pyramid
from kd3d_core.weights import resolve


def make_depth(config: DepthConfig, seed: int) -> tuple[DepthModel, DepthConfig]:
    """A depth model in eval mode, and its configuration with the window that it asks for.

    Args:
        config: which model; its `window` wins over what an image processor says.
        seed: draws weights that are `random`.

    Raises:
        WeightsError: weights are missing, don't fit, or don't answer in metres.
    """
    if config.type == "pyramid":
        if config.weights == "random":
            return new_pyramid(config, seed), config
        return load_pyramid(resolve(config.weights), config), config
    if config.weights == "random":
        return random_glpn(config, seed), config
    if config.type == "glpn":
        return load_glpn(resolve(config.weights), config), config
    model, window = load_auto(resolve(config.weights), config)
    return model, replace(config, window=window)
