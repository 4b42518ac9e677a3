"""Training a detector on labelled boxes."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from kd3d_core.data.kitti import KittiDataset, Label, box_labels
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.data.samples import Batch, DetectionSamples, PointSource
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.errors import DataError
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.files import write_whole
from kd3d_core.runtime.model_config import ModelConfig, save_model_config
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.loop import collated

log = logging.getLogger(__name__)


class DetectorLosses(nn.Module):
    """Batch to named losses."""

    def __init__(self, detector: AnchorDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The head's losses."""
        maps = self.detector(batch.points, batch.samples, batch.images, batch.image_from_lidar)
        return self.detector.losses(maps, batch.boxes, batch.labels)


class DetectorTask:
    """Learns boxes; validated by the mean over classes of AP 3D R40 moderate."""

    score_name = "mAP_3d_moderate"

    def __init__(
        self,
        config: TrainConfig,
        model: ModelConfig,
        detector: AnchorDetector,
        points: PointSource,
        train: KittiDataset,
        val: KittiDataset,
        sampler: ObjectSampler | None = None,
    ) -> None:
        classes, window = model.detector.classes, model.detector.window
        _report_annotations(train, classes)
        self.model = DetectorLosses(detector)
        self._model_config = model
        self.samples = DetectionSamples(
            train, window, points, classes, config.augment, config.seed, sampler
        )
        self._val = DetectionSamples(val, window, points, classes)
        self._classes = classes
        self._batch_size = config.batch_size

    @torch.inference_mode()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """AP R40 moderate in 3D and from above, by class, and the 3D ones' mean."""
        found = self.detect(model, device)
        truth = [self._val.frames.frame(name).labels() for name in found]
        result = evaluate(truth, list(found.values()))
        metrics = {}
        for name in self._classes:
            curves = result.curves[name.lower()]
            metrics[f"{name}_3d"] = curves["3d"].r40[1]
            metrics[f"{name}_bev"] = curves["bev"].r40[1]
        present = [n for n in self._classes if result.objects[n.lower()][1]]
        scores = [metrics[f"{name}_3d"] for name in present]
        return {self.score_name: sum(scores) / max(len(scores), 1), **metrics}

    @torch.inference_mode()
    def detect(self, model: nn.Module, device: torch.device) -> dict[str, list[Label]]:
        """What `model` detects in each validation frame, by the frame's name."""
        assert isinstance(model, DetectorLosses)
        found: dict[str, list[Label]] = {}
        for batch in collated(self._val, self._batch_size):
            found |= zip(batch.names, self._detect(model.detector, batch.to(device)), strict=True)
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
            camera = self._val.frames.frame(name).camera()
            answers.append(box_labels(boxes, scores.tolist(), names, camera))
        return answers

    def is_better(self, score: float, best: float) -> bool:
        """A higher AP is better."""
        return score > best

    def export(self, model: nn.Module, out: Path) -> None:
        """The network's tensors, `out/detector.safetensors`, and `out/model.yaml` that names it."""
        assert isinstance(model, DetectorLosses)
        tensors = model.detector.network.state_dict()
        data = save({name: value.contiguous() for name, value in tensors.items()})
        write_whole(out / "detector.safetensors", data)
        detector = replace(self._model_config.detector, weights="./detector.safetensors")
        save_model_config(replace(self._model_config, detector=detector), out / "model.yaml")


def _report_annotations(frames: KittiDataset, classes: Sequence[str]) -> None:
    """Say how many objects there are; refuse frames that teach nothing at all."""
    frames.require(("image_2", "calib", "label_2"))
    counts = dict.fromkeys(classes, 0)
    empty = []
    for index in range(len(frames)):
        frame = frames[index]
        known = [label.type for label in frame.objects() if label.type in counts]
        for name in known:
            counts[name] += 1
        if not known:
            empty.append(frame.name)
    if not any(counts.values()):
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has a {', '.join(classes)} in its "
            "label_2: there is nothing to learn"
        )
    if empty:
        log.warning(
            "%d of %d frames have no object of the classes (first: %s); they teach background only",
            len(empty), len(frames), empty[0],
        )  # fmt: skip
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    log.info("%d frames with %s", len(frames), text)
