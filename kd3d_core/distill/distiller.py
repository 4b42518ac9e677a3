"""Teacher, student, projectors and their weighting in one module: a batch in, losses out."""

import torch
from torch import nn

from kd3d_core.data.samples import Batch
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.decode import HeadMaps, per_anchor
from kd3d_core.distill.cells import cell_weights, foreground_cells
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
        teacher: AnchorDetector,
        channels: dict[str, list[tuple[int, int]]],
        config: DistillConfig,
    ) -> None:
        """
        Args:
            student: to be trained.
            teacher: frozen from here on.
            channels: at `config.places`, as `check_fit` gives them.
            config: the settings.
        """
        super().__init__()
        self.student = student
        self.projectors = Projectors(channels)
        self.teacher = Teacher(teacher, config.places)
        self._config = config

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The parts of the loss, weighted, by name: `det_*`, `feat_*` and `logit_*`.

        A part whose weight is 0 in the batch's epoch is left out and costs nothing. Frames without
        true points are left out of `feat_*` and `logit_*`; frames with neither labels nor true
        points teach nothing at all.
        """
        weights = weights_at(self._config.phases, batch.epoch)
        features = self.student.forward_features(
            batch.points, batch.samples, batch.images, batch.image_from_lidar
        )
        taught = self._ask(batch, weights)
        boxes, labels = self._truth(batch, taught)
        losses: dict[str, torch.Tensor] = {}
        maps = None
        if weights.det or (weights.logit and taught is not None):
            maps = self.student.head_maps(features.neck)
        if maps is not None and weights.det:
            det = self._detection(maps, batch, boxes, labels)
            losses |= {f"det_{name}": weights.det * value for name, value in det.items()}
        if weights.feat and taught is not None:
            feat = self._features(features, taught, batch, boxes)
            losses |= {f"feat_{name}": weights.feat * value for name, value in feat.items()}
        if maps is not None and weights.logit and taught is not None:
            logit = self._logits(maps, taught, batch)
            losses |= {f"logit_{name}": weights.logit * value for name, value in logit.items()}
        return losses or {"nothing": 0 * features.neck[0].sum()}

    def _ask(self, batch: Batch, weights: LossWeights) -> TeacherOutputs | None:
        """The teacher's answers, if a part of the loss needs them and it sees anything."""
        needed = weights.feat or weights.logit or not all(batch.labelled)
        return self.teacher(batch) if needed and any(batch.taught) else None

    def _truth(
        self, batch: Batch, taught: TeacherOutputs | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Boxes and labels of each frame: its own, or the teacher's where it has no label file."""
        boxes, labels = list(batch.boxes), list(batch.labels)
        if taught is None or all(batch.labelled):
            return boxes, labels
        slots = self.teacher.detector.boxes(taught.maps)
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
        boxes: list[torch.Tensor],
        labels: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        rows = [
            row
            for row, (labelled, seen) in enumerate(zip(batch.labelled, batch.taught, strict=True))
            if labelled or seen
        ]
        if not rows:
            return {}
        known = HeadMaps(maps.logits[rows], maps.deltas[rows], maps.directions[rows])
        return self.student.losses(
            known, [boxes[row] for row in rows], [labels[row] for row in rows]
        )

    def _features(
        self,
        features: BevFeatures,
        taught: TeacherOutputs,
        batch: Batch,
        boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        config = self._config.feature
        seen = _column(batch.taught, taught.filled)[:, None, None, None]
        losses: dict[str, torch.Tensor] = {}
        for place in config.places:
            projected = self.projectors(place, getattr(features, place))
            each = []
            for ours, theirs in zip(projected, taught.features[place], strict=True):
                _, _, height, width = theirs.shape
                foreground = foreground_cells(boxes, self.student.grid, (height, width))
                cells = cell_weights(foreground, taught.filled, config.background, config.empty)
                each.append(feature_loss(ours, theirs, cells * seen, config.loss))
            losses[place] = torch.stack(each).mean()
        return losses

    def _logits(
        self, maps: HeadMaps, taught: TeacherOutputs, batch: Batch
    ) -> dict[str, torch.Tensor]:
        config = self._config.logit
        classes = self.student.head.num_classes
        theirs = per_anchor(taught.maps.logits, classes)
        seen = _column(batch.taught, theirs)[:, None]
        sure = confidence_weights(theirs, config.threshold) * seen
        anchors = (sure > 0).sum().clamp(min=1)
        cells = confidence_weights(theirs, config.threshold, config.background) * seen
        cls = class_loss(
            per_anchor(maps.logits, classes), theirs, cells, anchors, config.loss,
            config.temperature,
        )  # fmt: skip
        box = box_loss(per_anchor(maps.deltas, 7), per_anchor(taught.maps.deltas, 7), sure, anchors)
        direction = direction_loss(
            per_anchor(maps.directions, 2), per_anchor(taught.maps.directions, 2), sure, anchors
        )
        return {"cls": config.cls * cls, "box": config.box * box, "dir": config.dir * direction}


def _column(flags: tuple[bool, ...], like: torch.Tensor) -> torch.Tensor:
    """`(B,)` float32 of flags, beside `like`."""
    return torch.tensor(flags, dtype=torch.float32, device=like.device)
