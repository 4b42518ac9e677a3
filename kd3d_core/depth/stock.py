"""GLPN as transformers' own example runs it, to be compared with."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from kd3d_core.depth.model import DepthModel


class StockGlpn:
    """Images `(H, W, 3)` uint8 RGB to depth `(H, W)` in metres, by transformers' processor."""

    def __init__(self, depth: DepthModel, device: torch.device) -> None:
        """With the weights of `depth`, which stays as it is."""
        from transformers import GLPNForDepthEstimation, GLPNImageProcessor

        network = depth.network
        assert isinstance(network, GLPNForDepthEstimation)
        self._processor = GLPNImageProcessor()
        self._network: nn.Module = GLPNForDepthEstimation(deepcopy(network.config)).eval()
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        self._network.load_state_dict(weights)
        self._network.to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        answer = self._network(**inputs)
        found: Any
        (found,) = self._processor.post_process_depth_estimation(answer, [image.shape[:2]])
        return found["predicted_depth"].cpu().numpy()
