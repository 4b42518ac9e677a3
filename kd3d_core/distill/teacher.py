"""The teacher: a detector on true LiDAR that is asked and never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kd3d_core.data.batch import Batch
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.decode import BoxSlots, HeadMaps
from kd3d_core.distill.cells import filled_cells
from kd3d_core.distill.config import FeatureConfig, Needs, Place
from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class TeacherOutputs:
    """What the teacher says about a batch; all that a student is compared with.

    Attributes:
        features: by place, its maps `(B, C, h, w)`.
        maps: the head's answers; None if nobody reads them.
        filled: `(B, 1, y, x)` bool, the cells of its voxel encoder's bird's-eye view with points;
            None if nobody reads them.
        boxes: what it finds; None if all frames have labels.
    """

    features: dict[str, tuple[torch.Tensor, ...]]
    maps: HeadMaps | None
    filled: torch.Tensor | None
    boxes: BoxSlots | None


class Teacher:
    """A frozen detector.

    It is no `nn.Module`, so that it becomes nobody's submodule: no optimizer, average, checkpoint
    or gradient bucket of whatever owns it holds its tensors, and no `train()` reaches it. It
    follows the batches to their device.
    """

    def __init__(self, detector: AnchorDetector, needs: Needs) -> None:
        """Puts the detector into eval mode and freezes it; `needs` is what the loss reads of it."""
        self.detector = detector.eval().requires_grad_(False)
        self._needs = needs

    def __deepcopy__(self, _: dict[int, Any]) -> "Teacher":
        """Itself: what never changes needs no copy."""
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherOutputs:
        """Its answers to the true points of a batch."""
        assert batch.teacher_points is not None
        assert batch.teacher_samples is not None
        needs = self._needs
        self.detector.to(batch.images.device)
        features = self.detector.forward_features(
            batch.teacher_points, batch.teacher_samples, batch.images, batch.image_from_lidar
        )
        asked_for_boxes = not all(batch.labelled)
        maps = None
        if needs.answers or asked_for_boxes:
            maps = self.detector.head_maps(features.neck)
        return TeacherOutputs(
            {place: getattr(features, place) for place in needs.places},
            maps,
            filled_cells(features) if needs.filled else None,
            self.detector.boxes(maps) if maps is not None and asked_for_boxes else None,
        )


def check_fit(
    teacher: AnchorDetector,
    teacher_config: DetectorConfig,
    student: AnchorDetector,
    student_config: DetectorConfig,
    places: Sequence[Place],
) -> dict[Place, list[tuple[int, int]]]:
    """The channels of student and teacher at each place, once it is clear that they can compare.

    By place, a pair (student's, teacher's) for each of its maps. `ConfigError` if ranges,
    windows, cells at a place, or anchors differ; it names both.
    """
    _same("point_cloud_range (m)", teacher.grid.point_cloud_range, student.grid.point_cloud_range)
    if teacher.reads_image:
        _same("image windows", teacher_config.window, student_config.window)
    theirs, ours = feature_shapes(teacher), feature_shapes(student)
    sizes = teacher.grid.voxel_size, student.grid.voxel_size
    for place in places:
        _same_cells(place, theirs[place], ours[place], *sizes)
    _same_cells("the head", theirs["neck"], ours["neck"], *sizes)
    _, _, height, width = ours["neck"][0]
    their_anchors, our_anchors = (
        detector.anchors((height, width), torch.device("cpu")) for detector in (teacher, student)
    )
    if not torch.equal(their_anchors, our_anchors):
        raise ConfigError(
            f"the teacher's anchors ({_sizes(teacher)}) are not the student's "
            f"({_sizes(student)}): use a teacher with the student's"
        )
    return {
        place: [(our[1], their[1]) for our, their in zip(ours[place], theirs[place], strict=True)]
        for place in places
    }


def check_channels(
    channels: Mapping[Place, Sequence[tuple[int, int]]], config: FeatureConfig
) -> None:
    """Raise a `ConfigError` unless maps that are compared as they are have equal channels."""
    for place, pairs in channels.items():
        for student, teacher in pairs[: config.levels or None]:
            if student != teacher and not config.project:
                raise ConfigError(
                    f"at {place} the student has {student} channels and the teacher {teacher}: set "
                    "distill.feature.project to true"
                )


@torch.no_grad()
def feature_shapes(detector: AnchorDetector) -> dict[str, list[torch.Size]]:
    """By place, the shapes of a detector's maps for one sample, found by asking it."""
    was_training = detector.training
    device = next(detector.parameters()).device
    grid = detector.grid
    low, high = grid.point_cloud_range[:3], grid.point_cloud_range[3:]
    centre = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    features: BevFeatures = detector.eval().forward_features(
        torch.tensor([[*centre, 0.5]], device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
        torch.zeros(1, 3, 64, 64, device=device),
        torch.eye(4, device=device)[None, :3],
    )
    detector.train(was_training)
    return {
        place: [map_.shape for map_ in getattr(features, place)]
        for place in ("voxels", "backbone", "neck")
    }


def _same(what: str, teacher: Any, student: Any) -> None:
    if teacher != student:
        raise ConfigError(
            f"the teacher's {what} are {teacher}, the student's {student}: both must see the same "
            "world; use a teacher that was trained with the student's"
        )


def _same_cells(
    place: str,
    teacher: Sequence[torch.Size],
    student: Sequence[torch.Size],
    teacher_voxel: tuple[float, float, float],
    student_voxel: tuple[float, float, float],
) -> None:
    theirs, ours = (
        " and ".join(f"{shape[-2]} x {shape[-1]}" for shape in shapes)
        for shapes in (teacher, student)
    )
    if theirs != ours:
        raise ConfigError(
            f"at {place} the teacher (voxel_size {list(teacher_voxel)} m) has {theirs} cells, the "
            f"student (voxel_size {list(student_voxel)} m) {ours}: compare at another place, or "
            "use a teacher with the student's voxels"
        )


def _sizes(detector: AnchorDetector) -> str:
    sizes = [anchor.size for anchor in detector.head.anchors.classes]
    return f"{len(sizes)} of sizes {[list(size) for size in sizes]}"
