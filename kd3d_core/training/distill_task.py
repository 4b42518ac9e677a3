"""Training a detector on what a teacher with true LiDAR knows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.data.samples import FrameSamples, MixedSamples, PointSource, lidar_points, mixed
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.config import DistillConfig, TeacherConfig
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.start import start_from
from kd3d_core.distill.teacher import Teacher, check_fit
from kd3d_core.models.build import make_detector
from kd3d_core.models.config import ModelConfig, load_model_config
from kd3d_core.training.caches import can_keep_answers, point_source, teacher_answers
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import (
    RunData,
    frames_to_learn_from,
    frames_with_lidar,
    labelled_frames,
    report_annotations,
)
from kd3d_core.training.detector_task import DetectorTask
from kd3d_core.training.processes import processes
from kd3d_core.training.resume import digests_of
from kd3d_core.training.same_run import Digests
from kd3d_core.training.validation import DetectionFrames

log = logging.getLogger(__name__)


class DistillTask(DetectorTask):
    """Learns boxes from a teacher, and from labels where there are any.

    Validated as `DetectorTask` on the validation frames that have labels; if none has, the
    teacher's confident boxes stand for them.
    """

    def __init__(
        self,
        distiller: Distiller,
        model: ModelConfig,
        samples: FrameSamples | MixedSamples,
        val: DetectionFrames,
        digests: Digests,
        teacher_boxes: dict[str, list[Label]] | None,
    ) -> None:
        """As `DetectorTask`; `teacher_boxes` stand for the labels of `val`, if it has none."""
        super().__init__(distiller, model, samples, val, digests)
        self.has_idle_parameters = distiller.has_idle_parameters
        self._weights = distiller.weights
        self._teacher_boxes = teacher_boxes

    def truth(self) -> tuple[dict[str, list[Label]], str]:
        """The labels, or what stands for them."""
        if self._teacher_boxes is None:
            return super().truth()
        return self._teacher_boxes, "boxes of the teacher"

    def scalars(self, epoch: int) -> dict[str, float]:
        """The weights of the parts of the loss."""
        return {f"weight/{part}": value for part, value in self._weights(epoch).items()}


def make_distill_task(
    config: TrainConfig, model: ModelConfig, data: RunData, keep: bool
) -> DistillTask:
    """The task `distill` of a configuration that has a teacher; `keep` as in `make_task`."""
    assert config.teacher is not None
    student = make_detector(model.detector, config.seed, to_train=True)
    teacher_config, teacher = load_teacher(config.teacher, config.seed)
    make_points = partial(point_source, config, model, keep=keep)
    return distill_task(config, model, data, student, teacher_config, teacher, make_points, keep)


def distill_task(
    config: TrainConfig,
    model: ModelConfig,
    data: RunData,
    student: AnchorDetector,
    teacher_config: DetectorConfig,
    teacher: AnchorDetector,
    make_points: Callable[[Sequence[KittiDataset]], PointSource],
    keep: bool = True,
) -> DistillTask:
    """A task for networks that are there already.

    Args:
        data: its frames, with or without labels and LiDAR.
        teacher_config: what the teacher was built from.
        teacher: the network that teaches; not kept if its answers are cached.
        make_points: gives what the student reads of these frames; called once all else is known to
            fit, as it may take long.
        keep: see `make_task`.

    Raises:
        ConfigError: the teacher doesn't fit the student, or the settings the frames.
        DataError: no frame has what the teacher reads.
    """
    assert config.teacher is not None
    settings = config.distill or DistillConfig()
    _check_length(settings.phases, config.epochs)
    channels = check_fit(teacher, teacher_config, student, model.detector, settings.needs.places)
    start_from(student, teacher, settings.start)

    sees_lidar = config.teacher.points == "lidar"
    sets = data.train
    if sees_lidar:
        sets = tuple(
            replace(part, frames=frames_to_learn_from(part, settings)) for part in data.train
        )
    for part in sets:
        if part.use_labels and (known := labelled_frames(part.frames)) is not None:
            report_annotations(known, model.detector.classes, needs_objects=False)
    data.val.require(("image_2", "calib"))
    labelled = labelled_frames(data.val)
    val = labelled or (frames_with_lidar(data.val) if sees_lidar else data.val)
    if labelled is None:
        log.warning("no validation frame has labels: the teacher's boxes stand for them")
    data_sets = [*(part.frames for part in sets), val]
    if config.points == "lidar":
        for frames in data_sets:
            frames.require_lidar()

    points = make_points(data_sets)
    teacher_points = lidar_points if sees_lidar else points
    digests = digests_of(model.detector, points, teacher)
    boxes = None
    if labelled is None:
        asked = DetectionFrames(val, teacher_config, teacher_points, config.batch_size)
        device = processes().device
        found = asked.detect(teacher.to(device).eval(), device)
        boxes = _confident(found, settings.label_score)
    answers = None
    if keep and can_keep_answers(config, teacher):
        answers = teacher_answers(
            teacher, teacher_config, teacher_points, [part.frames for part in sets], settings
        )
    asked_live = Teacher(teacher, settings.needs) if answers is None else answers.teacher()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # of the projectors
        distiller = Distiller(student, asked_live, channels, settings)

    samples = [
        FrameSamples(
            part.frames, model.detector.window, points,
            model.detector.classes if part.use_labels else None, part.augment or config.augment,
            config.seed,
            depth=settings.needs.depth,
            teacher_points=teacher_points if answers is None else None,
            teacher_answers=answers,
        )
        for part in sets
    ]  # fmt: skip
    return DistillTask(
        distiller,
        model,
        mixed(samples, data.shares, config.seed, config.per_batch),
        DetectionFrames(val, model.detector, points, config.batch_size),
        digests,
        boxes,
    )


def _confident(found: dict[str, list[Label]], score: float) -> dict[str, list[Label]]:
    """Detections from a score on, as labels."""
    return {
        name: [replace(box, score=None) for box in boxes if (box.score or 0) >= score]
        for name, boxes in found.items()
    }


def load_teacher(teacher: TeacherConfig, seed: int) -> tuple[DetectorConfig, AnchorDetector]:
    """A teacher's settings, and its detector; `seed` draws weights that are `random`."""
    detector = load_model_config(teacher.model).detector
    detector = replace(detector, weights=teacher.weights or detector.weights)
    if detector.weights == "random":
        log.warning("the teacher is UNTRAINED: what it teaches is noise")
    return detector, make_detector(detector, seed, to_train=True)


def _check_length(phases: Sequence[Phase], epochs: int) -> None:
    if len(phases) > 1 and phases[-2].until_epoch >= epochs:
        log.warning(
            "the last phase begins at epoch %d and the run has %d: it will not be reached",
            phases[-2].until_epoch, epochs,
        )  # fmt: skip
