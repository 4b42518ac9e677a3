"""The chain that a user would write today without kd3d, with the same weights.

transformers' processor and GLPN, a back-projection in numpy, and mmdet3d's own network and test
pipeline. `Sizes` says what the two networks see of an image.
"""

import time
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

import kd3d_core.detectors.upstream  # noqa: F401  (before anything asks for mmdet3d)
from kd3d_core.bench.measure import Chain, Frame
from kd3d_core.depth.model import DepthModel
from kd3d_core.depth.stock import StockGlpn
from kd3d_core.detectors.upstream.inference import UpstreamLite
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.chain import Model, PseudoLidarModel
from kd3d_core.models.config import own_model

Sizes = Literal["same", "published"]
"""`same`: the user cuts images to the windows of our networks himself. `published`: what the
processor and mmdet3d's configuration make of an image by themselves (352 x 1216 and 384 x 1280)."""

_PUBLISHED = (384, 1280)


def upstream_chains(model: Model, device: torch.device) -> dict[str, Chain]:
    """Both of them, for a model of GLPN and `lite`."""
    assert isinstance(model, PseudoLidarModel)
    return {
        "upstream, same size": UpstreamChain(model, device, "same"),
        "upstream, as published": UpstreamChain(model, device, "published"),
    }


class UpstreamChain:
    """See the module; stages as in `report.STAGES`.

    Attributes:
        answer: boxes, scores and labels of the last frame.
    """

    def __init__(self, model: PseudoLidarModel, device: torch.device, sizes: Sizes) -> None:
        """For a model of GLPN and `lite`."""
        depth = model.pseudo_lidar.network
        assert isinstance(depth, DepthModel)
        window = own_model(model.config, "the model").detector.window
        self._window = window if sizes == "same" else None
        self._settings = model.pseudo_lidar.settings
        self._depth = StockGlpn(depth, device)
        self._detector = UpstreamLite(
            model.detector, device, window.size if sizes == "same" else _PUBLISHED
        )
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        self.answer: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __call__(self, frame: Frame) -> Mapping[str, float]:
        marks = [time.perf_counter()]
        image, camera = frame
        if self._window is not None:
            window = self._window.window(camera)
            tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
            cut = window.extract(tensor)[0].permute(1, 2, 0)
            image, camera = cut.round().clamp(0, 255).byte().numpy(), window.camera(camera)
        depth = self._depth(image)
        marks.append(time.perf_counter())
        points = self._back_project(depth, camera)
        marks.append(time.perf_counter())
        self.answer = self._detector(points, image, camera.image_from_lidar)
        marks.append(time.perf_counter())
        took = np.diff(marks) * 1e3
        return dict(zip(("depth", "points", "boxes"), took.tolist(), strict=True))

    def _back_project(self, depth: np.ndarray, camera: PinholeCamera) -> np.ndarray:
        """Points `(N, 4)` of as large a share of the pixels as ours keeps."""
        rows, columns = self._pixels(depth.shape)
        z = depth[rows, columns]
        near = (z >= self._settings.min_depth) & (z < self._settings.max_depth)
        rows, columns, z = rows[near], columns[near], z[near]
        projection = camera.projection
        x = (columns - projection[0, 2]) * z / projection[0, 0]
        y = (rows - projection[1, 2]) * z / projection[1, 1]
        seen = np.stack([x, y, z, np.ones_like(z)], 1)
        xyz = (seen @ camera.lidar_from_camera.T)[:, :3]
        intensity = np.full((len(xyz), 1), self._settings.intensity)
        return np.concatenate([xyz, intensity], 1).astype(np.float32)

    def _pixels(self, size: tuple[int, ...]) -> np.ndarray:
        height, width = size
        if (height, width) not in self._kept:
            count = round(height * width * self._settings.keep_fraction)
            drawn = np.random.default_rng(0).permutation(height * width)[:count]
            self._kept[height, width] = np.stack(np.divmod(np.sort(drawn), width))
        return self._kept[height, width]
