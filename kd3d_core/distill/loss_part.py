"""What a part of a student's loss is, and what it is computed from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import distributed, nn

from kd3d_core.data.batch import Batch
from kd3d_core.depth.objects import ObjectPixels
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.decode import HeadMaps
from kd3d_core.distill.depth_learner import DepthStep
from kd3d_core.distill.teacher import TeacherOutputs


@dataclass(frozen=True)
class StudentStep:
    """What there is to compute a loss from, in one step.

    Attributes:
        student: the detector that learns.
        batch: the frames.
        features: the student's; None unless a part of this step reads them.
        maps: what the student's head says; None unless a part of this step reads it.
        teacher: what the teacher says; None if it wasn't asked or no frame has LiDAR.
        boxes: `(M_b, 7)` of each frame: its labels, or the teacher's where it has none.
        labels: `(M_b,)` int64 of each frame.
        depth: what the student's depth network says; None if it doesn't learn.
        objects: the pixels of `boxes` and their true depth; None unless they are asked for.
    """

    student: AnchorDetector
    batch: Batch
    features: BevFeatures | None
    maps: HeadMaps | None
    teacher: TeacherOutputs | None
    boxes: Sequence[torch.Tensor]
    labels: Sequence[torch.Tensor]
    depth: DepthStep | None = None
    objects: ObjectPixels | None = None

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
    reads_features = True
    """Whether it reads anything of the student's detector."""

    @abstractmethod
    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        """Losses by name, each the mean over the frames of all processes."""


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
