"""The parts of a student's loss, by the names that phases give weights to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from kd3d_core.depth.objects import object_medians
from kd3d_core.detectors.decode import HeadMaps, per_anchor
from kd3d_core.distill.cells import foreground_cells, object_weights, resized
from kd3d_core.distill.cmkd_parts import BinsPart, ResponsePart
from kd3d_core.distill.config import DistillConfig, FeatureConfig, LogitConfig, Place
from kd3d_core.distill.depth_parts import DepthImagePart, DepthObjectsPart, DepthPixelsPart
from kd3d_core.distill.loss_part import LossPart, StudentStep, WeightedSum, means
from kd3d_core.distill.losses import (
    box_loss,
    class_loss,
    confidence_weights,
    direction_loss,
    feature_loss,
)
from kd3d_core.distill.schedule import PartName
from kd3d_core.distill.teacher import TeacherOutputs

Channels = Mapping[Place, Sequence[tuple[int, int]]]
"""By place, the student's and the teacher's channels of each of its maps."""


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
    then teach little: the projectors let the student keep a language of its own. A teaching
    assistant, that reads the same pixels at their true depth, is one whose language it can keep:
    compare with it as they are.
    """

    reads_head = False

    def __init__(self, config: FeatureConfig, channels: Channels) -> None:
        super().__init__()
        self._config = config
        maps = {place: pairs[: config.levels or None] for place, pairs in channels.items()}
        if config.project:
            self.projectors = nn.ModuleDict(
                {
                    place: nn.ModuleList(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs)
                    for place, pairs in maps.items()
                }
            )
        if config.scale == "rms":  # 0 until the first batch has told
            for name in _map_names(maps):
                self.register_buffer(f"rms_{name}", torch.zeros(()))
        self._levels = {place: len(pairs) for place, pairs in maps.items()}

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        assert step.features is not None
        sums: dict[str, WeightedSum] = {}
        for place in self._config.places:
            for level in range(self._levels[place]):
                name = _map_name(place, level)
                ours = self._projected(place, level, getattr(step.features, place)[level])
                if step.teacher is not None:
                    theirs = step.teacher.features[place][level]
                    cells = self._cell_weights(step, step.teacher, theirs)
                else:
                    theirs = torch.zeros_like(ours)
                    cells = theirs[:, :1]
                loss = feature_loss(ours, theirs, cells, self._config.loss)
                if self._config.scale == "rms":
                    loss = loss / self._rms(name, step, theirs).square()
                sums[name] = WeightedSum(loss, cells.sum())
        return means(sums)

    def _projected(self, place: Place, level: int, map_: torch.Tensor) -> torch.Tensor:
        if not self._config.project:
            return map_
        layers: Any = self.projectors[place]
        return layers[level](map_)

    def _rms(self, name: str, step: StudentStep, theirs: torch.Tensor) -> torch.Tensor:
        """The root mean square of the teacher's features in the cells that it fills.

        It is measured once, in the first batch of which the teacher has seen a frame.
        """
        rms: torch.Tensor = getattr(self, f"rms_{name}")
        if self.training and not rms:
            filled = theirs.new_zeros(1)
            if step.teacher is not None:
                assert step.teacher.filled is not None
                covered = resized(step.teacher.filled, (theirs.shape[-2], theirs.shape[-1]))
                filled = covered * step.has_teacher[:, None, None, None]
            squares = (theirs.float().square().mean(1, keepdim=True) * filled).sum()
            rms.copy_(means({name: WeightedSum(squares, filled.sum())})[name].sqrt())
        return torch.where(rms > 0, rms, 1.0)

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
        if config.fade_m:
            kept = object_weights(step.boxes, self._faded(step), step.student.grid, (height, width))
            weights = weights * kept
        return weights

    def _faded(self, step: StudentStep) -> list[torch.Tensor]:
        """Of each frame's objects, how much their cells count: less, the more their depth is off.

        An object of which no pixel is known counts for nothing: neither side has points there.
        """
        assert step.depth is not None
        assert step.objects is not None
        objects = step.objects
        depth = step.depth.depth.detach().flatten()[objects.pixels]
        off = object_medians(depth - objects.depth, objects)
        kept = torch.where(objects.counts > 0, (-(off / self._config.fade_m).square()).exp(), 0)
        return list(kept.split([len(boxes) for boxes in step.boxes]))


def _map_name(place: Place, level: int) -> str:
    return f"{place}{level + 1}" if level or place == "backbone" else place


def _map_names(channels: Channels) -> list[str]:
    return [
        _map_name(place, level) for place, maps in channels.items() for level in range(len(maps))
    ]


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


def make_part(  # noqa: PLR0911 - one case for each part
    name: PartName, config: DistillConfig, channels: Channels
) -> LossPart:
    """The part of that name; the one place that knows them all. `channels` as of `check_fit`."""
    match name:
        case "det":
            return DetectionPart(config.unlabelled == "boxes")
        case "feat":
            return FeaturePart(config.feature, channels)
        case "logit":
            return LogitPart(config.logit)
        case "response":
            return ResponsePart(config.response)
        case "bins":
            return BinsPart(config.bins)
        case "depth_pixels":
            return DepthPixelsPart(config.learn_depth)
        case "depth_objects":
            return DepthObjectsPart()
        case "depth_image":
            return DepthImagePart(config.learn_depth)
