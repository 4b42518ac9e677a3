"""Training a detector on what a teacher with true LiDAR knows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd3d_core.data.kitti import LIDAR, KittiDataset, KittiFrame, Label
from kd3d_core.data.samples import DetectionSamples, PointSource
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import Teacher, check_fit
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.runtime.model_config import ModelConfig
from kd3d_core.training.cached_teacher import changes_seen, filled_cache
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.detector_task import export_detector
from kd3d_core.training.identity import digests_of
from kd3d_core.training.loop import processes
from kd3d_core.training.validation import SCORE, DetectionFrames, average_precision

log = logging.getLogger(__name__)


class DistillTask:
    """Learns boxes from a teacher, and from labels where there are any.

    Validated as `DetectorTask` on the validation frames that have labels; if none has, the
    teacher's confident boxes stand for them.
    """

    score_name = SCORE

    def __init__(
        self,
        config: TrainConfig,
        model: ModelConfig,
        student: AnchorDetector,
        teacher_config: DetectorConfig,
        teacher: AnchorDetector,
        make_points: Callable[[], PointSource],
        train: KittiDataset,
        val: KittiDataset,
    ) -> None:
        """
        Args:
            config: of the run; has a teacher.
            model: what the student is.
            student: its detector, with the weights that `model` names.
            teacher_config: what the teacher is.
            teacher: its detector, with its weights; not kept if its answers are cached.
            make_points: gives what the student reads; called once all else is known to fit, as it
                may take long.
            train: frames to train on.
            val: frames to validate on.

        Raises:
            ConfigError: the teacher doesn't fit the student, or the settings the frames.
            DataError: no frame has what the teacher reads.
        """
        assert config.teacher is not None
        if config.augment is not None and config.augment.sample_objects:
            raise ConfigError(
                "augment.sample_objects must be empty for task distill: the image shows none of "
                "the objects that are pasted in"
            )
        settings = config.distill or DistillConfig()
        _check_length(settings.phases, config.epochs)
        channels = check_fit(teacher, teacher_config, student, model.detector, settings.places)
        if settings.start == "teacher":
            _start_from_teacher(student, model.detector, teacher, teacher_config)
        if config.teacher.points == "lidar":
            train = frames_to_learn_from(train, settings)
        val.require(("image_2", "calib"))
        self._labelled = labelled_frames(val)
        if self._labelled is None:
            val = _with_lidar(val) if config.teacher.points == "lidar" else val
            log.warning("no validation frame has labels: the teacher's boxes stand for them")
        if config.points == "lidar":
            for frames in (train, self._labelled or val):
                frames.require_lidar()
        points = make_points()
        teacher_points = true_points if config.teacher.points == "lidar" else points
        self.digests = digests_of(model.detector, points, teacher)
        answers = None
        if _is_cached(config, teacher):
            answers = filled_cache(teacher, teacher_config, teacher_points, train, settings)
        asked = Teacher(teacher, settings) if answers is None else answers.teacher()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)  # of the projectors
            self.model = Distiller(student, asked, channels, settings)
        self.samples = DetectionSamples(
            train, model.detector.window, points, model.detector.classes, config.augment,
            config.seed, teacher_points=teacher_points if answers is None else None,
            teacher_answers=answers,
        )  # fmt: skip
        self._model_config = model
        self._label_score = settings.label_score
        self._frames = DetectionFrames(
            self._labelled or val, model.detector, points, config.batch_size
        )
        self._teacher_frames = DetectionFrames(
            val, teacher_config, teacher_points, config.batch_size
        )
        self._teachers_boxes: dict[str, list[Label]] = {}
        if self._labelled is None and answers is not None:
            device = processes().device
            self._answers(teacher.to(device), device)  # while it is there

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `average_precision`."""
        assert isinstance(model, Distiller)
        found = self._frames.detect(model.student, device)
        if self._labelled is None:
            truth = self._teachers_boxes
            if isinstance(model.teacher, Teacher):
                truth = self._answers(model.teacher.detector.to(device), device)
        else:
            truth = {name: self._labelled.frame(name).labels() for name in found}
        return average_precision(truth, found, self._model_config.detector.classes)

    def is_better(self, score: float, best: float) -> bool:
        """A higher AP is better."""
        return score > best

    def scalars(self, epoch: int) -> dict[str, float]:
        """The weights of the parts of the loss."""
        return {f"weight/{part}": v for part, v in asdict(self.model.weights(epoch)).items()}

    def export(self, model: nn.Module, out: Path) -> None:
        """The student; see `export_detector`."""
        assert isinstance(model, Distiller)
        export_detector(model.student, self._model_config, out)

    def _answers(self, teacher: AnchorDetector, device: torch.device) -> dict[str, list[Label]]:
        """The teacher's confident boxes in the validation frames, as labels; asked for once."""
        if not self._teachers_boxes:
            self._teachers_boxes = {
                name: [
                    replace(box, score=None)
                    for box in boxes
                    if box.score is not None and box.score >= self._label_score
                ]
                for name, boxes in self._teacher_frames.detect(teacher, device).items()
            }
        return self._teachers_boxes


def _is_cached(config: TrainConfig, teacher: AnchorDetector) -> bool:
    """Whether a teacher's answers are to be kept, and can be; warns if they can't."""
    assert config.teacher is not None
    changes = changes_seen(config.augment, teacher)
    if config.teacher.cache and changes:
        log.warning(
            "teacher.cache is off: augment changes what the teacher sees in every epoch (%s); it "
            "is asked in every step", ", ".join(changes),
        )  # fmt: skip
    return config.teacher.cache and not changes


def _check_length(phases: Sequence[Phase], epochs: int) -> None:
    if len(phases) > 1 and phases[-2].until_epoch >= epochs:
        log.warning(
            "the last phase begins at epoch %d and the run has %d: it will not be reached",
            phases[-2].until_epoch, epochs,
        )  # fmt: skip


def true_points(frame: KittiFrame) -> np.ndarray:
    """`(N, 4)` float32 of the LiDAR's points in the image; none if the frame has no LiDAR."""
    if not any(part in frame.files for part in LIDAR):
        return np.zeros((0, 4), np.float32)
    return frame.points_in_view()


def labelled_frames(frames: KittiDataset) -> KittiDataset | None:
    """Those of the frames that have a label file; None if there is none."""
    lacking = set(frames.missing(("label_2",)).get("label_2", ()))
    names = [name for name in frames.names if name not in lacking]
    return frames.subset(names) if names else None


def frames_to_learn_from(frames: KittiDataset, settings: DistillConfig) -> KittiDataset:
    """The frames that can teach something; counts those that can't, or not all.

    Args:
        frames: with or without label files and LiDAR, frame by frame.
        settings: say what becomes of labelled frames without LiDAR.

    Raises:
        DataError: none has LiDAR.
        ConfigError: a frame without LiDAR would teach nothing in one of the phases.
    """
    frames.require(("image_2", "calib"))
    blind = frames.without_lidar()
    labelled = labelled_frames(frames)
    labels = set(labelled.names) if labelled is not None else set()
    if len(blind) == len(frames):
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames has LiDAR: there is nothing for the "
            "teacher to see; give frames with velodyne, or train with task: detector"
        )
    nothing = [name for name in blind if name not in labels]
    if nothing:
        log.warning(
            "%d of %d frames have neither LiDAR nor labels and are skipped (first: %s)",
            len(nothing), len(frames), nothing[0],
        )  # fmt: skip
    left = [name for name in blind if name in labels]
    if left and settings.without_lidar == "use" and not all(p.det for p in settings.phases):
        raise ConfigError(
            f"{len(left)} of {len(frames)} frames have no LiDAR (first: {left[0]}) and teach "
            "nothing in a phase with det: 0: set distill.without_lidar to skip"
        )
    if left:
        log.warning(
            "%d of %d frames have no LiDAR and are %s (first: %s)", len(left), len(frames),
            "used without the teacher" if settings.without_lidar == "use" else "skipped", left[0],
        )  # fmt: skip
    unused = set(nothing if settings.without_lidar == "use" else blind)
    used = [name for name in frames.names if name not in unused]
    log.info(
        "%d frames: %d with labels, %d with LiDAR; the teacher's boxes are the labels of %d",
        len(used), len(labels.intersection(used)), len(frames) - len(blind),
        len(set(used) - labels),
    )  # fmt: skip
    return frames.subset(used)


def _with_lidar(frames: KittiDataset) -> KittiDataset:
    blind = set(frames.without_lidar())
    if len(blind) == len(frames):
        raise DataError(
            f"{frames.root}: none of the {len(frames)} frames to validate on has labels or LiDAR: "
            "there is nothing to compare with"
        )
    return frames.subset([name for name in frames.names if name not in blind])


def _start_from_teacher(
    student: AnchorDetector,
    student_config: DetectorConfig,
    teacher: AnchorDetector,
    teacher_config: DetectorConfig,
) -> None:
    if student_config.type != teacher_config.type:
        raise ConfigError(
            f"the student is {student_config.type} and can't start from the weights of a teacher "
            f"that is {teacher_config.type}: set distill.start to model"
        )
    student.network.load_state_dict(teacher.network.state_dict())
