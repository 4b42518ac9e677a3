"""Validating a detector: what it finds in frames, and the AP of that."""

from collections.abc import Mapping, Sequence

import torch

from kd3d_core.data.kitti import KittiDataset, Label, box_labels
from kd3d_core.data.samples import Batch, DetectionSamples, PointSource
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.training.loop import collated

SCORE = "mAP_3d_moderate"
"""The mean over the classes that there are of AP 3D R40 moderate."""


class DetectionFrames:
    """Frames to try a detector on, as they are."""

    def __init__(
        self, frames: KittiDataset, config: DetectorConfig, points: PointSource, batch_size: int
    ) -> None:
        """
        Args:
            frames: which.
            config: whose window and classes to use.
            points: what the detector reads.
            batch_size: frames at a time.
        """
        self._frames = frames
        self._samples = DetectionSamples(frames, config.window, points, config.classes)
        self._classes = config.classes
        self._batch_size = batch_size

    @torch.inference_mode()
    def detect(self, detector: AnchorDetector, device: torch.device) -> dict[str, list[Label]]:
        """What `detector`, on `device` and in eval mode, finds in each frame, by its name."""
        found: dict[str, list[Label]] = {}
        for batch in collated(self._samples, self._batch_size):
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
            names = [self._classes[int(label)] for label in labels]
            camera = self._frames.frame(name).camera()
            answers.append(box_labels(boxes, scores.tolist(), names, camera))
        return answers


def average_precision(
    truth: Mapping[str, Sequence[Label]], found: Mapping[str, list[Label]], classes: Sequence[str]
) -> dict[str, float]:
    """AP R40 moderate in 3D and from above, by class, and `SCORE`.

    `*_3d_loose` asks for the IoU that cameras are judged by as well: 0.5 for cars, 0.25 for others.

    Args:
        truth: labels of the frames, by name.
        found: detections in them, by name.
        classes: names of the classes.
    """
    labels, detections = [truth[name] for name in found], list(found.values())
    result = evaluate(labels, detections)
    loose = evaluate(labels, detections, "loose")
    metrics = {}
    for name in classes:
        curves = result.curves[name.lower()]
        metrics[f"{name}_3d"] = curves["3d"].r40[1]
        metrics[f"{name}_bev"] = curves["bev"].r40[1]
        metrics[f"{name}_3d_loose"] = loose.curves[name.lower()]["3d"].r40[1]
    present = [name for name in classes if result.objects[name.lower()][1]]
    scores = [metrics[f"{name}_3d"] for name in present]
    return {SCORE: sum(scores) / max(len(scores), 1), **metrics}
