"""Teacher, student, projectors and their weighting in one module: a batch in, losses out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import distributed, nn

from kd3d_core.data.samples import Batch
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.decode import HeadMaps, per_anchor
from kd3d_core.distill.cache import CachedTeacher
from kd3d_core.distill.cells import foreground_cells, resized
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.losses import (
    box_loss,
    class_loss,
    confidence_weights,
    direction_loss,
    feature_loss,
)
from kd3d_core.distill.projector import Projectors
from kd3d_core.distill.schedule import LossWeights, weights_at
from kd3d_core.distill.teacher import Teacher, TeacherOutputs


@dataclass(frozen=True)
class _Sum:
    """A loss that isn't divided yet, and what to divide it by."""

    value: torch.Tensor
    count: torch.Tensor


class Distiller(nn.Module):
    """A student in training.

    Attributes:
        student: what learns.
        projectors: learn with it; has no layers if no phase compares features.
        teacher: what is asked; see `Teacher` for why it is no submodule.
    """

    def __init__(
        self,
        student: AnchorDetector,
        teacher: Teacher | CachedTeacher,
        channels: dict[str, list[tuple[int, int]]],
        config: DistillConfig,
    ) -> None:
        """
        Args:
            student: to be trained.
            teacher: who is asked about each batch.
            channels: at `config.places`, as `check_fit` gives them.
            config: the settings.
        """
        super().__init__()
        self.student = student
        self.projectors = Projectors(channels)
        self.teacher = teacher
        self._config = config

    def weights(self, epoch: int) -> LossWeights:
        """The weights of an epoch, the same in all of its steps: those of its middle."""
        return weights_at(self._config.phases, epoch + 0.5)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The parts of the loss, weighted, by name: `det_*`, `feat_*` and `logit_*`.

        A part whose weight is 0 in the batch's epoch is left out and costs nothing. Frames without
        true points are left out of `feat_*` and `logit_*`; frames with neither labels nor true
        points teach nothing at all. In several processes, each mean is over the frames of all.

        What is computed doesn't depend on what the frames lack, apart from the teacher's own part:
        processes exchange gradients and statistics in the order of the graph, which must be one.
        """
        weights = self.weights(batch.epoch)
        features = self.student.forward_features(
            batch.points, batch.samples, batch.images, batch.image_from_lidar
        )
        needed = weights.feat or weights.logit or not all(batch.labelled)
        taught = self.teacher(batch) if needed and any(batch.taught) else None
        boxes, labels = self._truth(batch, taught)
        losses: dict[str, torch.Tensor] = {}
        if weights.det or weights.logit:
            maps = self.student.head_maps(features.neck)
        if weights.det:
            losses |= _scaled(weights.det, "det", self._detection(maps, batch, boxes, labels))
        if weights.feat:
            compared = self._compared_features(features, taught, batch, boxes)
            losses |= _scaled(weights.feat, "feat", _means(compared))
        if weights.logit:
            compared = self._compared_answers(maps, taught, batch)
            losses |= _scaled(weights.logit, "logit", _means(compared))
        return losses

    def _truth(
        self, batch: Batch, taught: TeacherOutputs | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Boxes and labels of each frame: its own, or the teacher's where it has no label file."""
        boxes, labels = list(batch.boxes), list(batch.labels)
        if taught is None or taught.boxes is None:
            return boxes, labels
        slots = taught.boxes
        sure = slots.valid & (slots.scores >= self._config.label_score)
        for row, (labelled, seen) in enumerate(zip(batch.labelled, batch.taught, strict=True)):
            if seen and not labelled:
                boxes[row] = slots.boxes[row][sure[row]]
                labels[row] = slots.labels[row][sure[row]]
        return boxes, labels

    def _detection(
        self,
        maps: HeadMaps,
        batch: Batch,
        boxes: Sequence[torch.Tensor],
        labels: Sequence[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The head's losses on the frames of which something is known."""
        frames = range(len(batch.names))
        known = [row for row in frames if batch.labelled[row] or batch.taught[row]]
        # The head counts anchors over all processes: none may stay away, even with nothing to add.
        rows = known or list(frames)
        if len(rows) < len(frames):
            maps = HeadMaps(maps.logits[rows], maps.deltas[rows], maps.directions[rows])
        losses = self.student.losses(
            maps, [boxes[row] for row in rows], [labels[row] for row in rows]
        )
        return losses if known else {name: 0 * value for name, value in losses.items()}

    def _compared_features(
        self,
        features: BevFeatures,
        taught: TeacherOutputs | None,
        batch: Batch,
        boxes: Sequence[torch.Tensor],
    ) -> dict[str, _Sum]:
        """By map, what it differs from the teacher's, and the weight of the cells compared."""
        config = self._config.feature
        sums: dict[str, _Sum] = {}
        for place in config.places:
            for level, projected in enumerate(self.projectors(place, getattr(features, place))):
                name = f"{place}{level + 1}" if level or place == "backbone" else place
                if taught is not None:
                    theirs = taught.features[place][level]
                    cells = self._cell_weights(theirs, taught.filled, batch, boxes)
                else:
                    theirs = torch.zeros_like(projected)
                    cells = theirs[:, :1]
                sums[name] = _Sum(feature_loss(projected, theirs, cells, config.loss), cells.sum())
        return sums

    def _cell_weights(
        self,
        features: torch.Tensor,
        filled: torch.Tensor | None,
        batch: Batch,
        boxes: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """`(B, 1, h, w)` of the cells of a map, 0 in frames without true points."""
        config = self._config.feature
        batch_size, _, height, width = features.shape
        seen = torch.tensor(batch.taught, dtype=torch.float32, device=features.device)
        weights = seen[:, None, None, None].expand(batch_size, 1, height, width)
        if config.background != 1:
            inside = foreground_cells(boxes, self.student.grid, (height, width))
            weights = torch.where(inside, weights, config.background * weights)
        if filled is not None:
            covered = resized(filled, (height, width))
            weights = torch.where(covered, weights, config.empty * weights)
        return weights

    def _compared_answers(
        self, maps: HeadMaps, taught: TeacherOutputs | None, batch: Batch
    ) -> dict[str, _Sum]:
        """What each output of the head differs by, and how many anchors the teacher is sure of."""
        config = self._config.logit
        answers = maps if taught is None or taught.maps is None else taught.maps
        classes = self.student.head.num_classes
        (our_logits, their_logits), (our_boxes, their_boxes), (our_dirs, their_dirs) = (
            (per_anchor(ours, channels), per_anchor(theirs.detach(), channels))
            for ours, theirs, channels in (
                (maps.logits, answers.logits, classes),
                (maps.deltas, answers.deltas, 7),
                (maps.directions, answers.directions, 2),
            )
        )
        seen = torch.tensor(batch.taught, dtype=torch.float32, device=maps.logits.device)
        seen = seen[:, None, None, None]
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
        return {
            "cls": _Sum(config.cls * cls, anchors),
            "box": _Sum(config.box * box, anchors),
            "dir": _Sum(config.dir * direction, anchors),
        }


def _means(sums: Mapping[str, _Sum]) -> dict[str, torch.Tensor]:
    """Each divided by its count, the mean of all processes': their mean is that of all frames."""
    counts = torch.stack([part.count for part in sums.values()])
    world = 1
    if distributed.is_initialized():
        world = distributed.get_world_size()
        distributed.all_reduce(counts)
    counts = counts.clamp(min=1) / world
    return {
        name: part.value / count for (name, part), count in zip(sums.items(), counts, strict=True)
    }


def _scaled(
    factor: float, group: str, losses: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {f"{group}_{name}": factor * value for name, value in losses.items()}
