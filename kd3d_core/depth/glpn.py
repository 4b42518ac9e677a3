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
from kd3d_core.depth.pretrained import load_network, read_config
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


def load_glpn(folder: Path, config: DepthConfig) -> DepthModel:
    """A GLPN from a transformers folder, its answer capped at `config.max_depth`.

    Raises:
        WeightsError: there is no such folder, it holds another architecture, or its tensors are
            damaged or not the network's.
    """
    from transformers import GLPNForDepthEstimation

    stored = read_config(folder)
    if stored.model_type != "glpn":
        raise WeightsError(f"{folder} is a {stored.model_type}, no GLPN: use depth.type auto")
    if stored.max_depth not in (0, config.max_depth):
        log.info(
            "%s says max_depth %s; using %s, so depths are %.3g times what it says",
            folder, stored.max_depth, config.max_depth, config.max_depth / stored.max_depth,
        )  # fmt: skip
    stored.max_depth = config.max_depth
    network = load_network(GLPNForDepthEstimation, folder, stored)
    return DepthModel(network, config.depth_scale).eval()
