"""The parts of a student's loss, by the names that phases give weights to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import distributed, nn

from kd3d_core.data.samples import Batch
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.decode import HeadMaps, per_anchor
from kd3d_core.distill.cells import foreground_cells, resized
from kd3d_core.distill.config import DistillConfig, FeatureConfig, LogitConfig
from kd3d_core.distill.losses import (
    box_loss,
    class_loss,
    confidence_weights,
    direction_loss,
    feature_loss,
)
from kd3d_core.distill.schedule import PartName
from kd3d_core.distill.teacher import TeacherOutputs

Channels = Mapping[str, Sequence[tuple[int, int]]]
"""By place, the student's and the teacher's channels of each of its maps."""


@dataclass(frozen=True)
class StudentStep:
    """What there is to compute a loss from, in one step.

    Attributes:
        student: the detector that learns.
        batch: the frames.
        features: the student's.
        maps: what the student's head says; None unless a part of this step reads it.
        teacher: what the teacher says; None if it wasn't asked or no frame has LiDAR.
        boxes: `(M_b, 7)` of each frame: its labels, or the teacher's where it has none.
        labels: `(M_b,)` int64 of each frame.
    """

    student: AnchorDetector
    batch: Batch
    features: BevFeatures
    maps: HeadMaps | None
    teacher: TeacherOutputs | None
    boxes: Sequence[torch.Tensor]
    labels: Sequence[torch.Tensor]

    @property
    def has_teacher(self) -> torch.Tensor:
        """`(B,)` float32: 1 for frames that the teacher has seen."""
        seen = self.batch.has_teacher
        return torch.tensor(seen, dtype=torch.float32, device=self.batch.images.device)


class LossPart(nn.Module, ABC):
    """A part of the loss. What of it learns, such as projectors, are its submodules.

    What is computed doesn't depend on what the frames lack, apart from the teacher's own share:
    processes exchange gradients and statistics in the order of the graph, which must be one.
    """

    reads_head = True
    """Whether it reads what the student's head says."""

    @abstractmethod
    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        """Losses by name, each the mean over the frames of all processes."""


class DetectionPart(LossPart):
    """The head's own losses, on the frames of which boxes are known."""

    def __init__(self, teacher_boxes: bool) -> None:
        """`teacher_boxes`: whether those of the teacher count where there is no label file."""
        super().__init__()
        self._teacher_boxes = teacher_boxes

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        maps, batch = step.maps, step.batch
        assert maps is not None
        frames = range(len(batch.names))
        known = [
            row
            for row in frames
            if batch.labelled[row] or (self._teacher_boxes and batch.has_teacher[row])
        ]
        # The head counts anchors over all processes: none may stay away, even with nothing to add.
        rows = known or list(frames)
        if len(rows) < len(frames):
            maps = HeadMaps(maps.logits[rows], maps.deltas[rows], maps.directions[rows])
        losses = step.student.losses(
            maps, [step.boxes[row] for row in rows], [step.labels[row] for row in rows]
        )
        return losses if known else {name: 0 * value for name, value in losses.items()}


class FeaturePart(LossPart):
    """Differences of features, through a 1x1 convolution for every map that is compared.

    Teacher and student may start from the same weights, and features compared as they are would
    then teach little: the projectors let the student keep a language of its own.
    """

    reads_head = False

    def __init__(self, config: FeatureConfig, channels: Channels) -> None:
        super().__init__()
        self._config = config
        self.projectors = nn.ModuleDict(
            {
                place: nn.ModuleList(nn.Conv2d(student, teacher, 1) for student, teacher in pairs)
                for place, pairs in channels.items()
            }
        )

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        sums: dict[str, WeightedSum] = {}
        for place in self._config.places:
            layers = self.projectors[place]
            assert isinstance(layers, nn.ModuleList)
            for level, (layer, map_) in enumerate(
                zip(layers, getattr(step.features, place), strict=True)
            ):
                projected = layer(map_)
                if step.teacher is not None:
                    theirs = step.teacher.features[place][level]
                    cells = self._cell_weights(step, step.teacher, theirs)
                else:
                    theirs = torch.zeros_like(projected)
                    cells = theirs[:, :1]
                loss = feature_loss(projected, theirs, cells, self._config.loss)
                name = f"{place}{level + 1}" if level or place == "backbone" else place
                sums[name] = WeightedSum(loss, cells.sum())
        return means(sums)

    def _cell_weights(
        self, step: StudentStep, teacher: TeacherOutputs, map_: torch.Tensor
    ) -> torch.Tensor:
        """`(B, 1, h, w)` of the cells of a map, 0 in frames that the teacher hasn't seen."""
        config = self._config
        batch_size, _, height, width = map_.shape
        weights = step.has_teacher[:, None, None, None].expand(batch_size, 1, height, width)
        if config.background != 1:
            inside = foreground_cells(step.boxes, step.student.grid, (height, width))
            weights = torch.where(inside, weights, config.background * weights)
        if teacher.filled is not None:
            covered = resized(teacher.filled, (height, width))
            weights = torch.where(covered, weights, config.empty * weights)
        return weights


class LogitPart(LossPart):
    """Differences of what the two heads say, on the anchors that the teacher is sure of."""

    def __init__(self, config: LogitConfig) -> None:
        super().__init__()
        self._config = config

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        config, maps = self._config, step.maps
        assert maps is not None
        answers = maps if step.teacher is None or step.teacher.maps is None else step.teacher.maps
        classes = step.student.head.num_classes
        (our_logits, their_logits), (our_boxes, their_boxes), (our_dirs, their_dirs) = (
            (per_anchor(ours, channels), per_anchor(theirs.detach(), channels))
            for ours, theirs, channels in (
                (maps.logits, answers.logits, classes),
                (maps.deltas, answers.deltas, 7),
                (maps.directions, answers.directions, 2),
            )
        )
        seen = step.has_teacher[:, None, None, None]
        sure = seen * confidence_weights(their_logits, config.threshold)
        every = seen * confidence_weights(their_logits, config.threshold, config.background)
        # Few of the anchors count, and there are a hundred thousand in a frame.
        at, cls_at = (weights.nonzero(as_tuple=True) for weights in (sure, every))
        cls = class_loss(
            our_logits[cls_at], their_logits[cls_at], every[cls_at], config.loss,
            config.temperature,
        )  # fmt: skip
        box = box_loss(our_boxes[at], their_boxes[at], sure[at])
        direction = direction_loss(our_dirs[at], their_dirs[at], sure[at])
        anchors = (sure > 0).sum().float()
        return means(
            {
                "cls": WeightedSum(config.cls * cls, anchors),
                "box": WeightedSum(config.box * box, anchors),
                "dir": WeightedSum(config.dir * direction, anchors),
            }
        )


def make_part(name: PartName, config: DistillConfig, channels: Channels) -> LossPart:
    """The part of that name; the one place that knows them all. `channels` as of `check_fit`."""
    match name:
        case "det":
            return DetectionPart(config.unlabelled == "boxes")
        case "feat":
            return FeaturePart(config.feature, channels)
        case "logit":
            return LogitPart(config.logit)


@dataclass(frozen=True)
class WeightedSum:
    """A loss summed over cells or anchors, and the sum of their weights."""

    value: torch.Tensor
    count: torch.Tensor


def means(sums: Mapping[str, WeightedSum]) -> dict[str, torch.Tensor]:
    """The weighted mean of each loss over the cells or anchors of all processes.

    Each process divides its own sum by the mean count of all processes, so that the mean of its
    losses with those of the others, which is what gradients are, is that of all frames.
    """
    counts = torch.stack([part.count for part in sums.values()])
    world = 1
    if distributed.is_initialized():
        world = distributed.get_world_size()
        distributed.all_reduce(counts)
    counts = counts.clamp(min=1) / world
    return {
        name: part.value / count for (name, part), count in zip(sums.items(), counts, strict=True)
    }
