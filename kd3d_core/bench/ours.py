"""Our own chain, as `measure` times it."""

from collections.abc import Mapping

import torch
from torch import nn

from kd3d_core.bench.measure import Frame
from kd3d_core.models.build import make_model
from kd3d_core.models.chain import Model, PseudoLidarModel
from kd3d_core.models.config import without_engine
from kd3d_core.runtime.pipeline import CameraDetector

_STAGES = {"upload": "depth", "pseudo_lidar": "points", "detect": "boxes", "download": "boxes"}


class OurChain:
    """kd3d's, from bytes of an image to boxes on the host."""

    def __init__(self, detector: CameraDetector) -> None:
        self.detector = detector

    def __call__(self, frame: Frame) -> Mapping[str, float]:
        times: dict[str, float] = {}
        for stage, ms in self.detector(frame.image, frame.camera).timings.items():
            name = _STAGES.get(stage, stage)
            times[name] = times.get(name, 0.0) + ms
        return times


def count_parameters(model: Model) -> int:
    """Of all networks of a model, those that an engine computes among them."""
    plain = without_engine(model.config)
    if plain != model.config:  # an engine doesn't say how many it has
        model = make_model(plain, torch.device("cpu"), "fp32")
    networks: list[nn.Module] = [model.detector]
    if isinstance(model, PseudoLidarModel):
        networks.append(model.pseudo_lidar.network)
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
