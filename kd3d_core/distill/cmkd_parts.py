"""The parts of a student's loss that CMKD has: the teacher's responses, and the bins of depth."""

import torch
from torch.nn import functional

from kd3d_core.depth.objects import measured_objects
from kd3d_core.detectors.cmkd.bins import UNKNOWN
from kd3d_core.detectors.cmkd.encoders import STRIDE
from kd3d_core.detectors.cmkd.student import CmkdDetector
from kd3d_core.detectors.decode import per_anchor
from kd3d_core.distill.cmkd_config import BinsConfig, ResponseConfig
from kd3d_core.distill.loss_part import LossPart, StudentStep, WeightedSum, means
from kd3d_core.distill.losses import box_responses, class_responses, depth_focal_loss


class ResponsePart(LossPart):
    """The teacher's scores, boxes and headings, each the mean over the frames that it has seen.

    What is summed up within a frame is divided by what the frame holds of it, so that neither the
    size of a batch nor what is in the other frames makes a difference.
    """

    def __init__(self, config: ResponseConfig) -> None:
        super().__init__()
        self._config = config

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        config, maps, seen = self._config, step.maps, step.has_teacher
        assert maps is not None
        answers = maps if step.teacher is None or step.teacher.maps is None else step.teacher.maps
        classes = step.student.head.num_classes
        (our_logits, their_logits), (our_boxes, their_boxes), (our_dirs, their_dirs) = (
            tuple(per_anchor(side, channels).flatten(1, 3) for side in (ours, theirs.detach()))
            for ours, theirs, channels in (
                (maps.logits, answers.logits, classes),
                (maps.deltas, answers.deltas, 7),
                (maps.directions, answers.directions, 2),
            )
        )
        scores = class_responses(our_logits, their_logits, config.threshold)
        boxes, headings = box_responses(
            our_boxes, their_boxes, our_dirs, their_dirs, their_logits, config.threshold
        )
        parts = {
            "cls": config.cls * scores,
            "box": config.box * boxes,
            "dir": config.dir * headings,
        }
        return means(
            {name: WeightedSum((value * seen).sum(), seen.sum()) for name, value in parts.items()}
        )


class BinsPart(LossPart):
    """The depth that LiDAR measured, in the bins of the student's distribution.

    A cell of the distribution learns the nearest depth of its pixels. Cells in which LiDAR saw
    nothing teach nothing: unknown is not far.
    """

    reads_head = False

    def __init__(self, config: BinsConfig) -> None:
        super().__init__()
        self._config = config

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        assert step.features is not None
        logits, batch, student = step.features.depth_logits, step.batch, step.student
        assert logits is not None, "make_distill_task has checked the student"
        assert isinstance(student, CmkdDetector)
        assert batch.depth is not None
        classes = student.bins.classes(nearest(batch.depth))
        objects = measured_objects(batch.depth, batch.image_from_lidar, step.boxes)
        inside = torch.zeros_like(batch.depth).flatten().index_fill(0, objects.pixels, 1)
        inside = functional.max_pool2d(inside.view_as(batch.depth), STRIDE)
        weights = (1 + (self._config.objects - 1) * inside) * (classes != UNKNOWN)
        loss = depth_focal_loss(logits, classes, self._config.alpha, self._config.gamma)
        return means({"focal": WeightedSum((loss * weights).sum(), weights.sum())})


def nearest(depth: torch.Tensor) -> torch.Tensor:
    """`(B, h, w)` the smallest known depth of each cell's pixels `(B, H, W)`; 0 where none is."""
    far = torch.where(depth > 0, depth, torch.inf)
    pooled = -functional.max_pool2d(-far, STRIDE)
    return torch.where(pooled.isfinite(), pooled, 0)
