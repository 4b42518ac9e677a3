"""What true depth would give a detector: AP on clouds of which a part was mended.

    .venv/bin/python benchmarks/oracle_clouds.py --data data/synth/val

The detector is the model's own and isn't trained again: the figures are lower bounds of what a
better depth is worth. Below it says how far objects lie off as a whole, and how far their points
are smeared.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from kd3d_core.cli.app import run
from kd3d_core.data.frame_inputs import PointSource, image_tensor, lidar_points, true_depth_points
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import usable
from kd3d_core.depth.objects import ObjectPixels, measured_objects, object_medians
from kd3d_core.errors import Kd3dError
from kd3d_core.geometry.depth_maps import densified
from kd3d_core.geometry.points import depth_map
from kd3d_core.models.build import make_model
from kd3d_core.models.chain import PseudoLidarModel
from kd3d_core.models.config import load_model_config
from kd3d_core.models.pseudo_lidar import pseudo_lidar
from kd3d_core.training.validation import DetectionFrames, average_precision

METRICS = ("Car_3d", "Car_3d_loose", "Car_bev", "Cyclist_3d_loose", "Pedestrian_3d_loose")
RANGES_M = ((0, 10), (10, 20), (20, 30), (30, 50))


@dataclass(frozen=True)
class ObjectErrors:
    """Of the objects of a frame with some LiDAR points: log(true / predicted) depth.

    Attributes:
        kind: class of each.
        distance: distance of its points, metres.
        shift: median over its points.
        spread: median of what its points differ from that.
    """

    kind: list[str]
    distance: torch.Tensor
    shift: torch.Tensor
    spread: torch.Tensor


class Oracle:
    """The clouds of a model, with true depth in place of a part of its own."""

    def __init__(self, model: PseudoLidarModel, within_px: float) -> None:
        self.model = model
        self.within_px = within_px
        self.classes = model.config.detector.classes
        self._depth: dict[str, torch.Tensor] = {}

    def predicted(self, frame: KittiFrame) -> np.ndarray:
        """The model's own cloud."""
        return self._cloud(frame, self.depth(frame))

    def shifted(self, frame: KittiFrame) -> np.ndarray:
        """Each object moved along its rays as a whole, so that its median depth is true."""
        depth = self.depth(frame).clone()
        near, seen = self._objects(frame, dense=True), self._objects(frame, dense=False)
        ratio = object_medians(seen.depth / depth.flatten()[seen.pixels], seen)
        known = seen.counts[near.owners] > 0
        depth.view(-1)[near.pixels[known]] *= ratio[near.owners[known]]
        return self._cloud(frame, depth)

    def measured(self, frame: KittiFrame) -> np.ndarray:
        """Each pixel of an object at the depth of the LiDAR return next to it."""
        depth = self.depth(frame).clone()
        near = self._objects(frame, dense=True)
        depth.view(-1)[near.pixels] = near.depth
        return self._cloud(frame, depth)

    def errors(self, frame: KittiFrame, min_points: int) -> ObjectErrors:
        """How far the predicted depth of the objects is off."""
        seen = self._objects(frame, dense=False)
        ratio = (seen.depth / self.depth(frame).flatten()[seen.pixels]).log()
        shift = object_medians(ratio, seen)
        spread = object_medians((ratio - shift[seen.owners]).abs(), seen)
        some = seen.counts >= min_points
        kinds = [label.type for label in self._labels(frame)]
        return ObjectErrors(
            [kind for kind, enough in zip(kinds, some.tolist(), strict=True) if enough],
            object_medians(seen.depth, seen)[some],
            shift[some],
            spread[some],
        )

    @torch.inference_mode()
    def depth(self, frame: KittiFrame) -> torch.Tensor:
        """`(h, w)` that the model predicts."""
        if frame.name not in self._depth:
            image = image_tensor(frame.image())
            self._depth[frame.name] = self.model.pseudo_lidar.depth(image, frame.camera())[0]
        return self._depth[frame.name]

    def _cloud(self, frame: KittiFrame, depth: torch.Tensor) -> np.ndarray:
        window = self._window(frame)
        camera = frame.camera()
        settings = self.model.pseudo_lidar.settings
        points, valid = pseudo_lidar(depth, window.camera(camera), settings, window.inside(camera))
        return points[valid].numpy()

    def _objects(self, frame: KittiFrame, dense: bool) -> ObjectPixels:
        camera = self._window(frame).camera(frame.camera())
        lidar = depth_map(lidar_points(frame), camera.image_from_lidar, self.depth(frame).shape)
        depth = densified(lidar, self.within_px) if dense else lidar
        boxes = torch.from_numpy(label_boxes(self._labels(frame), camera.lidar_from_camera))
        projection = torch.from_numpy(camera.image_from_lidar).float()
        return measured_objects(torch.from_numpy(depth)[None], projection[None], [boxes])

    def _labels(self, frame: KittiFrame) -> list:
        return [label for label in usable(frame.labels()) if label.type in self.classes]

    def _window(self, frame: KittiFrame):
        window = self.model.pseudo_lidar.config.window
        assert window is not None
        return window.window(frame.camera())


def measure(
    *,
    data: Path,
    model: str = "demo",
    frames: int | None = None,
    within_px: float = 4.0,
    min_points: int = 4,
    detect: bool = True,
) -> None:
    """Print AP by cloud, and errors by distance.

    Args:
        data: folder in KITTI's layout with labels and LiDAR.
        model: name or YAML file of a model with a depth network.
        frames: use only the first so many.
        within_px: largest distance, in pixels, at which a LiDAR return may stand for one.
        min_points: LiDAR points from which an object counts for the errors.
        detect: whether to detect; without, only the errors are printed.
    """
    config = load_model_config(model)
    made = make_model(config, torch.device("cpu"), "fp32")
    if not isinstance(made, PseudoLidarModel):
        raise Kd3dError(f"the model {model} makes no depth: give one of type pseudo_lidar")
    found = KittiDataset(data)
    found = found.subset(found.names[:frames])
    found.require(("image_2", "calib", "label_2", "velodyne"))
    oracle = Oracle(made, within_px)
    depth = made.pseudo_lidar
    assert depth.config.window is not None
    clouds: dict[str, PointSource] = {
        "predicted depth": oracle.predicted,
        "each object moved to its true median": oracle.shifted,
        "each object's pixels at true depth": oracle.measured,
        "true depth everywhere": true_depth_points(depth.config.window, depth.settings, within_px),
        "true LiDAR": lidar_points,
    }
    console = Console()
    if detect:
        console.print(_scores(found, made, clouds, console.log))
    console.print(_errors([oracle.errors(frame, min_points) for frame in found]))


def _scores(
    frames: KittiDataset,
    model: PseudoLidarModel,
    clouds: dict[str, PointSource],
    log: Callable[[str], None],
) -> Table:
    table = Table("cloud", *METRICS, title=f"AP R40 moderate, {len(frames)} frames")
    for name, points in clouds.items():
        asked = DetectionFrames(frames, model.config.detector, points, 2)
        found = asked.detect(model.detector, torch.device("cpu"))
        metrics = average_precision(asked.ground_truth(), found, model.config.detector.classes)
        table.add_row(name, *(f"{metrics.get(metric, float('nan')):.1f}" for metric in METRICS))
        log(name)
    return table


def _errors(frames: list[ObjectErrors]) -> Table:
    kinds = np.array([kind for frame in frames for kind in frame.kind])
    distance, shift, spread = (
        torch.cat([getattr(frame, name) for frame in frames]).numpy()
        for name in ("distance", "shift", "spread")
    )
    table = Table(
        "objects", "number", "shift: median, p75, p90 %", "mean shift %", "spread %", "shift m",
        title="depth of objects, log(true / predicted)",
    )  # fmt: skip
    cars = kinds == "Car"
    groups = {
        f"cars, {low} to {high} m": cars & (distance >= low) & (distance < high)
        for low, high in RANGES_M
    }
    for name, chosen in {**groups, "cars": cars, "others": ~cars, "all": cars | ~cars}.items():
        if not chosen.any():
            continue
        off = 100 * abs(shift[chosen])
        median, p75, p90 = np.percentile(off, [50, 75, 90])
        metres = np.median(abs(np.expm1(-shift[chosen])) * distance[chosen])
        table.add_row(
            name, str(chosen.sum()), f"{median:.1f}, {p75:.1f}, {p90:.1f}",
            f"{100 * shift[chosen].mean():+.1f}", f"{100 * np.median(spread[chosen]):.1f}",
            f"{metres:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="oracle_clouds.py",
            description="What true depth of objects would be worth to a model's detector.",
            examples=["benchmarks/oracle_clouds.py --data data/synth/val --frames 60"],
        )
    )
