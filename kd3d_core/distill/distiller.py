"""Teacher, student and the parts of the loss in one module: a batch in, losses out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from kd3d_core.data.batch import Batch
from kd3d_core.depth.objects import ObjectPixels, boxed_objects, measured_objects
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures, DetectorInput
from kd3d_core.distill.cache import CachedTeacher
from kd3d_core.distill.config import COMPARED, DistillConfig
from kd3d_core.distill.depth_learner import DepthLearner, DepthStep
from kd3d_core.distill.loss_part import LossPart, StudentStep
from kd3d_core.distill.parts import Channels, make_part
from kd3d_core.distill.schedule import PartName, weights_at
from kd3d_core.distill.teacher import Teacher, TeacherOutputs


class Distiller(nn.Module):
    """A student in training.

    Attributes:
        student: the detector that learns.
        parts: by name, the parts of the loss that count in any phase.
        depth: the student's depth network, if it learns with it.
        teacher: who is asked about each batch; see `Teacher` for why it is no submodule.
    """

    def __init__(
        self,
        student: AnchorDetector,
        teacher: Teacher | CachedTeacher | None,
        channels: Channels,
        config: DistillConfig,
        depth: DepthLearner | None = None,
        teacher_reads_depth: bool = False,
    ) -> None:
        """
        Args:
            student: the detector.
            teacher: None if no part asks one.
            channels: of the features to compare, as `check_fit` gives them.
            config: what is learnt, and when.
            depth: makes the student's points, if they aren't in the batches.
            teacher_reads_depth: whether the teacher reads true depth at the pixels of those.
        """
        super().__init__()
        self.student = student
        order: tuple[PartName, ...] = get_args(PartName)
        self.parts = nn.ModuleDict(
            {name: make_part(name, config, channels) for name in order if name in config.parts}
        )
        self.depth = depth
        self.teacher = teacher
        self._teacher_reads_depth = teacher_reads_depth
        self._config = config
        self.register_load_state_dict_pre_hook(_rename_projectors)

    @property
    def detector(self) -> AnchorDetector:
        """The student: what is validated and exported."""
        return self.student

    @property
    def has_idle_parameters(self) -> bool:
        """Whether there is a phase in which layers that learn in another get no gradient."""
        learning = {name for name, part in self._parts() if any(True for _ in part.parameters())}
        reading = {name for name, part in self._parts() if part.reads_head}
        return any(
            learning - phase.parts or not reading & phase.parts for phase in self._config.phases
        )

    def weights(self, epoch: int) -> dict[PartName, float]:
        """The weights of an epoch, the same in all of its steps: those of its middle."""
        return weights_at(self._config.phases, epoch + 0.5)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The parts of the loss, weighted, by name: `det_*`, `feat_*`, `logit_*`, `depth_*`.

        A part whose weight is 0 in the batch's epoch is left out and costs nothing. Frames without
        LiDAR are left out of all parts but `det`; frames with neither labels nor LiDAR teach
        nothing at all. In several processes, each mean is over the frames of all.
        """
        weights = self.weights(batch.epoch)
        active = [(name, part) for name, part in self._parts() if weights[name]]
        reads_features = any(part.reads_features for _, part in active)
        batch, depth = self._with_points(batch, reads_features)
        features = self._features(batch, {name for name, _ in active}) if reads_features else None
        needed = any(name in COMPARED for name, _ in active) or not all(batch.labelled)
        taught = None
        if self.teacher is not None and needed and any(batch.has_teacher):
            taught = self.teacher(batch)
        boxes, labels = self._truth(batch, taught)
        maps = None
        if features is not None and any(part.reads_head for _, part in active):
            maps = self.student.head_maps(features.neck)
        objects = self._objects(depth, boxes)
        step = StudentStep(
            self.student, batch, features, maps, taught, boxes, labels, depth, objects
        )
        return {
            f"{name}_{key}": weights[name] * value
            for name, part in active
            for key, value in part(step).items()
        }

    def _features(self, batch: Batch, parts: set[PartName]) -> BevFeatures:
        """The student's; without those behind its bird's-eye view, if no part reads them."""
        seen = self.student.bev_input(
            DetectorInput(batch.points, batch.samples, batch.images, batch.image_from_lidar)
        )
        if self._reads_backbone(parts):
            return self.student.behind(seen)
        return BevFeatures((seen.canvas,), (), (), seen.filled, seen.depth_logits)

    def _reads_backbone(self, parts: Collection[PartName]) -> bool:
        places = set(self._config.feature.places) if "feat" in parts else set()
        return bool(places - {"voxels"}) or any(
            part.reads_head for name, part in self._parts() if name in parts
        )

    def _parts(self) -> list[tuple[PartName, LossPart]]:
        return list(self.parts.items())  # type: ignore[arg-type]

    def _with_points(self, batch: Batch, for_student: bool) -> tuple[Batch, DepthStep | None]:
        """The batch with what student and assistant read, where a depth network makes it."""
        if self.depth is None:
            return batch, None
        assert batch.view is not None
        depth = self.depth(batch.view)
        if for_student:
            cloud = self.depth.student_cloud(depth, batch.progress)
            batch = replace(batch, points=cloud.points, samples=cloud.samples)
        if self._teacher_reads_depth:
            batch = self.depth.assistant_batch(batch, depth.view)
        return batch, depth

    def _objects(
        self, depth: DepthStep | None, boxes: Sequence[torch.Tensor]
    ) -> ObjectPixels | None:
        """The true depth of the objects, from LiDAR or from their boxes."""
        if depth is None or not self._config.needs.objects:
            return None
        assert self._config.learn_depth is not None
        view = depth.view
        if self._config.learn_depth.truth == "lidar":
            return measured_objects(view.lidar, view.image_from_lidar, boxes)
        height, width = view.lidar.shape[-2:]
        return boxed_objects((height, width), view.image_from_lidar, boxes)

    def _truth(
        self, batch: Batch, taught: TeacherOutputs | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Boxes and labels of each frame: its own, or the teacher's where it has no label file."""
        boxes, labels = list(batch.boxes), list(batch.labels)
        if taught is None or taught.boxes is None:
            return boxes, labels
        slots = taught.boxes
        sure = slots.valid & (slots.scores >= self._config.label_score)
        for row, (labelled, seen) in enumerate(zip(batch.labelled, batch.has_teacher, strict=True)):
            if seen and not labelled:
                boxes[row] = slots.boxes[row][sure[row]]
                labels[row] = slots.labels[row][sure[row]]
        return boxes, labels


def _rename_projectors(
    module: nn.Module, tensors: dict[str, Any], prefix: str, *_: Mapping[str, Any]
) -> None:
    """Checkpoints of older versions have the projectors beside the student."""
    old = f"{prefix}projectors.places."
    for name in [name for name in tensors if name.startswith(old)]:
        tensors[f"{prefix}parts.feat.projectors.{name.removeprefix(old)}"] = tensors.pop(name)
