"""Validating a detector: what it finds in frames, and the AP of that."""

import logging
from collections.abc import Mapping, Sequence

import torch

from kd3d_core.data.batch import Batch
from kd3d_core.data.frame_inputs import PointSource
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import Label
from kd3d_core.data.samples import FrameSamples, batches_of
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.evaluation.validation import RANKED_METRICS, validation_metrics
from kd3d_core.training.task import Score

log = logging.getLogger(__name__)

SCORES = tuple(map(Score, RANKED_METRICS))
"""The first decides; each of the others moves earlier in a training than those before it."""


class DetectionFrames:
    """Frames to try a detector on, as they are."""

    def __init__(
        self, frames: KittiDataset, config: DetectorConfig, points: PointSource, batch_size: int
    ) -> None:
        """
        Args:
            frames: the frames, read `batch_size` at a time.
            config: the detector's settings, for window and classes.
            points: source of the points that it reads.
        """
        self.frames = frames
        self._config = config
        self._points = points
        self._batch_size = batch_size

    def ground_truth(self) -> dict[str, list[Label]]:
        """Labels of each frame, by its name."""
        return {name: self.frames.frame(name).ground_truth() for name in self.frames.names}

    @torch.inference_mode()
    def detect(
        self, detector: AnchorDetector, device: torch.device, points: PointSource | None = None
    ) -> dict[str, list[Label]]:
        """What `detector`, on `device` and in eval mode, finds in each frame, by its name.

        It reads `points` if they are given, else those of `__init__`.
        """
        samples = FrameSamples(
            self.frames, self._config.window, points or self._points, self._config.classes
        )
        found: dict[str, list[Label]] = {}
        for batch in batches_of(samples, self._batch_size):
            found |= zip(batch.names, self._detect(detector, batch.to(device)), strict=True)
        return found

    def _detect(self, detector: AnchorDetector, batch: Batch) -> list[list[Label]]:
        maps = detector(batch.points, batch.samples, batch.images, batch.image_from_lidar)
        slots = detector.boxes(maps)
        answers = []
        for row, name in enumerate(batch.names):
            valid = slots.valid[row].cpu()
            boxes, scores, labels = (
                values[row].cpu()[valid].float().numpy()
                for values in (slots.boxes, slots.scores, slots.labels)
            )
            names = [self._config.classes[int(label)] for label in labels]
            camera = self.frames.frame(name).camera()
            answers.append(box_labels(boxes, scores.tolist(), names, camera))
        return answers


def average_precision(
    truth: Mapping[str, Sequence[Label]], found: Mapping[str, list[Label]], classes: Sequence[str]
) -> dict[str, float]:
    """The metrics of `evaluation.validation` that are defined for some frames.

    `truth` and `found` are their labels and detections, by the frame's name.
    """
    metrics = validation_metrics([truth[name] for name in found], list(found.values()), classes)
    undefined = [score.name for score in SCORES if metrics[score.name] is None]
    if undefined:
        log.warning("no label of the validation frames counts for %s", ", ".join(undefined))
    return {name: value for name, value in metrics.items() if value is not None}
