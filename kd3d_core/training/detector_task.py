"""Training a detector on labelled boxes."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label, describe_unusable, unusable, usable
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.data.samples import Batch, DetectionSamples, PointSource
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.runtime.model_config import ModelConfig, save_model_config
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.identity import digests_of
from kd3d_core.training.validation import SCORE, DetectionFrames, average_precision

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

    score_name = SCORE

    def __init__(
        self,
        config: TrainConfig,
        model: ModelConfig,
        detector: AnchorDetector,
        make_points: Callable[[], PointSource],
        train: KittiDataset,
        val: KittiDataset,
        sampler: ObjectSampler | None = None,
    ) -> None:
        """
        Args:
            config: of the run.
            model: what the detector is.
            detector: with the weights that `model` names.
            make_points: gives what it reads; called once all else is known to fit, as it may take
                long.
            train: frames to train on.
            val: frames to validate on.
            sampler: adds objects of other frames.

        Raises:
            DataError: frames lack something, or have nothing to learn.
        """
        classes, window = model.detector.classes, model.detector.window
        for frames in (train, val):
            frames.require(("image_2", "calib", "label_2"))
            if config.points == "lidar":
                frames.require_lidar()
        _report_annotations(train, classes)
        points = make_points()
        self.digests = digests_of(model.detector, points)
        self.model = DetectorLosses(detector)
        self._model_config = model
        self.samples = DetectionSamples(
            train, window, points, classes, config.augment, config.seed, sampler
        )
        self._val = val
        self._val_frames = DetectionFrames(val, model.detector, points, config.batch_size)

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `average_precision`."""
        found = self.detect(model, device)
        truth = {name: self._val.frame(name).ground_truth() for name in found}
        return average_precision(truth, found, self._model_config.detector.classes)

    def detect(self, model: nn.Module, device: torch.device) -> dict[str, list[Label]]:
        """What `model` detects in each validation frame, by the frame's name."""
        assert isinstance(model, DetectorLosses)
        return self._val_frames.detect(model.detector, device)

    def is_better(self, score: float, best: float) -> bool:
        """A higher AP is better."""
        return score > best

    def scalars(self, epoch: int) -> dict[str, float]:
        """None: all epochs are alike."""
        return {}

    def export(self, model: nn.Module, out: Path) -> None:
        """See `export_detector`."""
        assert isinstance(model, DetectorLosses)
        export_detector(model.detector, self._model_config, out)


def export_detector(detector: AnchorDetector, model: ModelConfig, out: Path) -> None:
    """The network's tensors, `out/detector.safetensors`, and `out/model.yaml` that names it.

    Args:
        detector: trained.
        model: what it was trained as.
        out: folder of the run.
    """
    tensors = detector.network.state_dict()
    data = save({name: value.contiguous() for name, value in tensors.items()})
    write_whole(out / "detector.safetensors", data)
    named = replace(model.detector, weights="./detector.safetensors")
    save_model_config(replace(model, detector=named), out / "model.yaml")


def _report_annotations(frames: KittiDataset, classes: Sequence[str]) -> None:
    """Say how many objects there are; refuse frames that teach nothing at all."""
    counts = dict.fromkeys(classes, 0)
    empty = []
    left_out: Counter[str] = Counter()
    for index in range(len(frames)):
        frame = frames[index]
        labels = frame.labels()
        left_out += unusable(labels)
        known = [label.type for label in usable(labels) if label.type in counts]
        for name in known:
            counts[name] += 1
        if not known:
            empty.append(frame.name)
    if not any(counts.values()):
        others = f" (left out: {describe_unusable(left_out)})" if left_out else ""
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has a {', '.join(classes)} in its "
            f"label_2: there is nothing to learn{others}"
        )
    if left_out:
        log.warning("objects that are left out: %s", describe_unusable(left_out))
    if empty:
        log.warning(
            "%d of %d frames have no object of the classes (first: %s); they teach background only",
            len(empty), len(frames), empty[0],
        )  # fmt: skip
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    log.info("%d frames with %s", len(frames), text)
