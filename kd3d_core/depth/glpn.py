"""GLPN (Kim et al., 2022): metric depth from one image.

The network ends in `sigmoid(x) * max_depth`. The checkpoint published for KITTI was trained with
a cap of 80 m and converted with the library's default of 10, so its raw answers are exactly 8
times too small; every GLPN here is therefore built with the `max_depth` of our own configuration.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.model import DepthModel
from kd3d_core.depth.pretrained import pretrained, whole_network
from kd3d_core.errors import WeightsError

log = logging.getLogger(__name__)

# Encoder sizes of the Mix Transformer: blocks per stage and channels per stage.
_ENCODERS: dict[str, Any] = {
    "b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256]},
    "b4": {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512]},
}


def random_glpn(config: DepthConfig, seed: int) -> DepthModel:
    """A GLPN with weights drawn from `seed`; its depth means nothing."""
    from transformers import GLPNConfig, GLPNForDepthEstimation

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GLPNForDepthEstimation(
            GLPNConfig(max_depth=config.max_depth, **_ENCODERS[config.encoder])
        )
    return DepthModel(network, config.depth_scale).eval()


def load_glpn(source: Path | str, config: DepthConfig) -> DepthModel:
    """A GLPN from a transformers folder, or from the hub if `source` is a hub name.

    Raises:
        WeightsError: there is no such folder, it holds another architecture, a tensor is missing,
            or the answer isn't capped at `config.max_depth`.
    """
    from transformers import GLPNConfig, GLPNForDepthEstimation

    with pretrained(source, "config.json, model.safetensors"):
        stored = GLPNConfig.from_pretrained(source)
        loaded: Any = GLPNForDepthEstimation.from_pretrained(
            source, max_depth=config.max_depth, output_loading_info=True, dtype=torch.float32
        )
    network: Any = whole_network(loaded, source, "GLPN")
    if network.head.config.max_depth != config.max_depth:
        raise WeightsError(f"{source}: max_depth stayed {network.head.config.max_depth}")
    if stored.max_depth != config.max_depth:
        log.info(
            "%s says max_depth %s; using %s, so depths are %.3g times what it says",
            source, stored.max_depth, config.max_depth, config.max_depth / stored.max_depth,
        )  # fmt: skip
    return DepthModel(network, config.depth_scale).eval()
