"""Training a detector on what a teacher with true LiDAR knows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from kd3d_core.data.frame_inputs import PointSource, lidar_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.data.mixed_samples import MixedSamples, mixed
from kd3d_core.data.pseudo_cache import pseudo_lidar_points
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.config import DistillConfig, TeacherConfig
from kd3d_core.distill.depth_learner import DepthLearner
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.parts import Channels
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.start import start_from
from kd3d_core.distill.teacher import Teacher, check_channels, check_fit
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.models.build import make_detector
from kd3d_core.models.config import OwnModelConfig, load_model_config, own_model
from kd3d_core.models.export import export_detector
from kd3d_core.training.caches import (
    assistant_points,
    can_keep_answers,
    point_source,
    teacher_answers,
)
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import (
    RunData,
    TrainingSet,
    frames_to_learn_from,
    frames_with_lidar,
    frames_without_teacher,
    labelled_frames,
    report_annotations,
)
from kd3d_core.training.depth_loop import (
    initial_points,
    make_depth_learner,
    pseudo_lidar_of,
    view_config,
)
from kd3d_core.training.detector_task import DetectorTask
from kd3d_core.training.processes import processes
from kd3d_core.training.resume import digests_of
from kd3d_core.training.same_run import Digests
from kd3d_core.training.task import Pace
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
        model: OwnModelConfig,
        samples: FrameSamples | MixedSamples,
        val: DetectionFrames,
        digests: Digests,
        teacher_boxes: dict[str, list[Label]] | None,
    ) -> None:
        """As `DetectorTask`; `teacher_boxes` stand for the labels of `val`, if it has none."""
        super().__init__(distiller, model, samples, val, digests)
        self.has_idle_parameters = distiller.has_idle_parameters
        if distiller.depth is not None:
            settings = distiller.depth.settings
            self.paces = (Pace("depth.", settings.lr_factor, settings.clip),)
        self._weights = distiller.weights
        self._teacher_boxes = teacher_boxes

    def detect(self, model: nn.Module, device: torch.device) -> dict[str, list[Label]]:
        """As of any detector; on the points of the depth network as it is now, if it learns."""
        assert isinstance(model, Distiller)
        points = None
        if model.depth is not None:
            chain = pseudo_lidar_of(model.depth.network, self._model_config, device)
            points = partial(pseudo_lidar_points, chain, device=device)
        return self._val.detect(model.detector, device, points)

    def export(self, model: nn.Module, out: Path) -> None:
        """See `export_detector`."""
        assert isinstance(model, Distiller)
        depth = model.depth.network if model.depth is not None else None
        export_detector(model.detector, self._model_config, out, depth)

    def truth(self) -> tuple[dict[str, list[Label]], str]:
        """The labels, or what stands for them."""
        if self._teacher_boxes is None:
            return super().truth()
        return self._teacher_boxes, "boxes of the teacher"

    def scalars(self, epoch: int) -> dict[str, float]:
        """The weights of the parts of the loss."""
        return {f"weight/{part}": value for part, value in self._weights(epoch).items()}


def make_distill_task(
    config: TrainConfig, model: OwnModelConfig, data: RunData, keep: bool
) -> DistillTask:
    """The task `distill` of a configuration; `keep` as in `make_task`."""
    student = make_detector(model.detector, config.seed, to_train=True)
    teacher_config, teacher = None, None
    if config.teacher is not None:
        teacher_config, teacher = load_teacher(config.teacher, config.seed)
    learner = None
    if config.distill is not None and config.distill.learn_depth is not None:
        model, learner = make_depth_learner(config, model, config.distill.learn_depth)
    make_points = partial(point_source, config, model, keep=keep)
    return distill_task(
        config, model, data, student, teacher_config, teacher, make_points, keep, learner
    )


def distill_task(
    config: TrainConfig,
    model: OwnModelConfig,
    data: RunData,
    student: AnchorDetector,
    teacher_config: DetectorConfig | None,
    teacher: AnchorDetector | None,
    make_points: Callable[[Sequence[KittiDataset]], PointSource],
    keep: bool = True,
    learner: DepthLearner | None = None,
) -> DistillTask:
    """A task for networks that are there already.

    Args:
        data: its frames, with or without labels and LiDAR.
        teacher_config: what the teacher was built from.
        teacher: the network that teaches, if any; not kept if its answers are cached.
        make_points: gives what the student reads of these frames; called once all else is known to
            fit, as it may take long, and not at all with a `learner`.
        keep: see `make_task`.
        learner: the student's depth network, if it makes the points in each step.

    Raises:
        ConfigError: the teacher doesn't fit the student, or the settings the frames.
        DataError: no frame has what the teacher reads.
    """
    settings = config.distill or DistillConfig()
    _check_length(settings.phases, config.epochs)
    if "bins" in settings.parts and not model.detector.reads_image_alone:
        raise ConfigError(
            f"a phase has a weight for bins, and {model.detector.type} has no distribution over "
            "depth: take a student of type cmkd, or leave the weight out"
        )
    channels: Channels = {}
    if teacher is not None and teacher_config is not None:
        places = settings.needs.places
        channels = check_fit(teacher, teacher_config, student, model.detector, places)
        check_channels(channels, settings.feature)
        start_from(student, teacher, settings.start)

    sets = tuple(_that_teach(part, config, settings) for part in data.train)
    for part in sets:
        if part.use_labels and (known := labelled_frames(part.frames)) is not None:
            report_annotations(known, model.detector.classes, needs_objects=False)
    data.val.require(("image_2", "calib"))
    labelled = labelled_frames(data.val)
    val = labelled or _judged_by_teacher(data.val, config)
    data_sets = [*(part.frames for part in sets), val]
    if config.points != "pseudo" and student.reads_points:
        for frames in data_sets:
            frames.require_lidar()

    points = initial_points(learner, model) if learner is not None else make_points(data_sets)
    digests = digests_of(model.detector, points, teacher)
    boxes, answers, asked_live, teacher_points = None, None, None, None
    if teacher is not None and teacher_config is not None:
        teacher_points = _teacher_points(config, model, points)
        if labelled is None:
            asked = DetectionFrames(val, teacher_config, teacher_points, config.batch_size)
            device = processes().device
            found = asked.detect(teacher.to(device).eval(), device)
            boxes = _confident(found, settings.label_score)
        if keep and can_keep_answers(config, teacher):
            answers = teacher_answers(
                teacher, teacher_config, teacher_points, [part.frames for part in sets], settings
            )
        asked_live = Teacher(teacher, settings.needs) if answers is None else answers.teacher()
    # An assistant of a student whose depth learns gets its points in each step.
    reads_depth = learner is not None and _reads_true_depth(config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # of the projectors
        distiller = Distiller(student, asked_live, channels, settings, learner, reads_depth)

    live = answers is None and not reads_depth
    samples = [
        FrameSamples(
            part.frames, model.detector.window, None if learner is not None else points,
            model.detector.classes if part.use_labels else None, part.augment or config.augment,
            config.seed,
            depth=settings.needs.depth,
            view=view_config(settings, model) if learner is not None else None,
            teacher_points=teacher_points if live else None,
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


def _that_teach(part: TrainingSet, config: TrainConfig, settings: DistillConfig) -> TrainingSet:
    """The frames of a set that teach something."""
    if config.teacher is None:
        return replace(part, frames=frames_without_teacher(part, settings))
    if config.teacher.points == "pseudo":
        return part
    return replace(part, frames=frames_to_learn_from(part, settings))


def _judged_by_teacher(val: KittiDataset, config: TrainConfig) -> KittiDataset:
    """The frames to validate on where none has labels."""
    if config.teacher is None:
        raise DataError(
            f"{val.root}: none of the {len(val)} frames to validate on has labels, and there is no "
            "teacher whose boxes could stand for them"
        )
    log.warning("no validation frame has labels: the teacher's boxes stand for them")
    return val if config.teacher.points == "pseudo" else frames_with_lidar(val)


def _teacher_points(config: TrainConfig, model: OwnModelConfig, points: PointSource) -> PointSource:
    assert config.teacher is not None
    match config.teacher.points:
        case "lidar":
            return lidar_points
        case "true_depth":
            return assistant_points(config, model)
        case "pseudo":
            return points


def _reads_true_depth(config: TrainConfig) -> bool:
    return config.teacher is not None and config.teacher.points == "true_depth"


def _confident(found: dict[str, list[Label]], score: float) -> dict[str, list[Label]]:
    """Detections from a score on, as labels."""
    return {
        name: [replace(box, score=None) for box in boxes if (box.score or 0) >= score]
        for name, boxes in found.items()
    }


def load_teacher(teacher: TeacherConfig, seed: int) -> tuple[DetectorConfig, AnchorDetector]:
    """A teacher's settings, and its detector; `seed` draws weights that are `random`."""
    detector = own_model(load_model_config(teacher.model), teacher.model).detector
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
