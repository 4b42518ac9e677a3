"""Training a detector on labelled boxes."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from kd3d_core.data.batch import Batch
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.data.mixed_samples import MixedSamples, mixed
from kd3d_core.data.object_sampling import ObjectSampler, make_sampler
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.errors import ConfigError
from kd3d_core.models.build import make_detector
from kd3d_core.models.config import OwnModelConfig
from kd3d_core.models.export import export_detector
from kd3d_core.paths import cache_dir
from kd3d_core.progress import progress_of
from kd3d_core.training.caches import point_source
from kd3d_core.training.card import with_thresholds
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import RunData, report_annotations
from kd3d_core.training.processes import processes
from kd3d_core.training.resume import digests_of
from kd3d_core.training.same_run import Digests
from kd3d_core.training.task import Task
from kd3d_core.training.validation import SCORES, DetectionFrames, average_precision

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


class DetectorTask(Task):
    """Learns boxes; validated by AP, and exported with the score thresholds that were best then."""

    scores = SCORES

    def __init__(
        self,
        network: nn.Module,
        model: OwnModelConfig,
        samples: FrameSamples | MixedSamples,
        val: DetectionFrames,
        digests: Digests,
    ) -> None:
        """
        Args:
            network: what is trained; its `detector` is validated and exported.
            model: the model that the detector is part of.
            val: frames to validate on.
        """
        super().__init__(network, samples, digests)
        self._model_config = model
        self._val = val

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `average_precision`."""
        found = self.detect(model, device)
        truth, labels = self.truth()
        self._model_config = with_thresholds(self._model_config, truth, found, labels)
        return average_precision(truth, found, self._model_config.detector.classes)

    def detect(self, model: nn.Module, device: torch.device) -> dict[str, list[Label]]:
        """What `model` detects in each validation frame, by the frame's name."""
        return self._val.detect(_detector_in(model), device)

    def truth(self) -> tuple[dict[str, list[Label]], str]:
        """The validation frames' labels, by the frame's name, and what they are in a few words."""
        return self._val.ground_truth(), "labels"

    def export(self, model: nn.Module, out: Path) -> None:
        """See `export_detector`."""
        export_detector(_detector_in(model), self._model_config, out)


def _detector_in(model: nn.Module) -> AnchorDetector:
    detector = model.detector
    assert isinstance(detector, AnchorDetector)
    return detector


def make_detector_task(
    config: TrainConfig, model: OwnModelConfig, data: RunData, keep: bool
) -> DetectorTask:
    """The task `detector` of a configuration; `keep` as in `make_task`.

    Raises:
        ConfigError: settings contradict each other.
        DataError: frames lack something, or have nothing to learn.
    """
    settings = model.detector
    detector = make_detector(settings, config.seed, to_train=True)
    sampled = _sampled_objects(config, detector)
    for frames in data.all_frames:
        frames.require(("image_2", "calib", "label_2"))
        if config.points != "pseudo" and detector.reads_points:
            frames.require_lidar()
    for part in data.train:
        report_annotations(part.frames, settings.classes)
    points = point_source(config, model, data.all_frames, keep)
    sampler = None
    if sampled:
        sampler = _make_sampler(config, settings.classes, data.train[0].frames, keep)
    samples = [
        FrameSamples(
            part.frames, settings.window, points, settings.classes, part.augment or config.augment,
            config.seed, sampler=sampler,
        )
        for part in data.train
    ]  # fmt: skip
    return DetectorTask(
        DetectorLosses(detector),
        model,
        mixed(samples, data.shares, config.seed, config.per_batch),
        DetectionFrames(data.val, settings, points, config.batch_size),
        digests_of(settings, points),
    )


def _sampled_objects(config: TrainConfig, detector: AnchorDetector) -> bool:
    """Whether objects of other frames are pasted in; `ConfigError` where they can't be."""
    if config.augment is None or not config.augment.sample_objects:
        return False
    if config.points != "lidar" or detector.reads_image:
        raise ConfigError(
            "augment.sample_objects needs points: lidar and a detector that reads points alone "
            "(second, pointpillars): the image shows none of the objects that are pasted in"
        )
    return True


def _make_sampler(
    config: TrainConfig, classes: Sequence[str], frames: KittiDataset, keep: bool
) -> ObjectSampler:
    assert config.augment is not None
    wanted, min_points = config.augment.sample_objects, config.augment.min_object_points
    # One process cuts them out, the others find them on disk.
    folder = nullcontext(cache_dir() / "objects") if keep else TemporaryDirectory()
    with (
        processes().main_process_first(),
        progress_of("objects to sample", len(frames)) as step,
        folder as path,
    ):
        return make_sampler(Path(path), frames, classes, wanted, min_points, step)
