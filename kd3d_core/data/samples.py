"""Samples for training: frames of a data set as tensors, windowed and augmented."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.utils.data import Dataset

from kd3d_core.data.augment import Augmentation, AugmentConfig
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.labels import label_boxes
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.errors import ConfigError
from kd3d_core.geometry import points as point_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import WindowConfig

PointSource = Callable[[KittiFrame], np.ndarray]
"""Gives a frame's points `(N, 4)`: true LiDAR (`KittiFrame.points_in_view`) or pseudo-LiDAR."""

AnswerSource = Callable[[KittiFrame], dict[str, torch.Tensor] | None]
"""Gives what a teacher said about a frame, as tensors by name, of any length along their last
dimension; None for a frame that the teacher can't see."""


@dataclass(frozen=True)
class Joined:
    """A tensor of each frame, joined along the last dimension.

    One tensor however many frames there are: each that a loader's process hands over keeps a file
    open.

    Attributes:
        values: `(..., L)`.
        lengths: how much of L is of each frame.
    """

    values: torch.Tensor
    lengths: tuple[int, ...]

    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensor of each frame."""
        return self.values.split(self.lengths, -1)


@dataclass(frozen=True)
class Batch:
    """Frames stacked for a network.

    Attributes:
        names: names of the frames.
        images: `(B, 3, H, W)` float32 RGB, 0 to 255, cut to the model's window.
        image_from_lidar: `(B, 3, 4)` float32 projections into those images.
        points: `(N, 4)` float32 of all frames.
        samples: `(N,)` int64, the frame that each point belongs to.
        boxes: `(M_b, 7)` float32 of each frame.
        labels: `(M_b,)` int64 of each frame.
        depth: `(B, H, W)` float32 true depth in metres, 0 where unknown; None if not asked for.
        teacher_points: `(K, 4)` float32, a second cloud of the same frames; None if not asked for.
        teacher_samples: `(K,)` int64, the frame that each of them belongs to.
        teacher_answers: what a teacher said about the frames, by name; None if not asked for.
        taught: for each frame, whether it has points or answers of the teacher.
        labelled: for each frame, whether its boxes are known; if not, it has none here.
        epoch: that the frames were drawn for.
    """

    names: tuple[str, ...]
    images: torch.Tensor
    image_from_lidar: torch.Tensor
    points: torch.Tensor
    samples: torch.Tensor
    boxes: tuple[torch.Tensor, ...]
    labels: tuple[torch.Tensor, ...]
    depth: torch.Tensor | None = None
    teacher_points: torch.Tensor | None = None
    teacher_samples: torch.Tensor | None = None
    teacher_answers: dict[str, Joined] | None = None
    taught: tuple[bool, ...] = ()
    labelled: tuple[bool, ...] = ()
    epoch: int = 0

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU can copy from by itself; `DataLoader` calls it."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        def changed(value):
            if isinstance(value, torch.Tensor):
                return change(value)
            if isinstance(value, tuple):
                return tuple(changed(item) for item in value)
            if isinstance(value, Joined):
                return Joined(change(value.values), value.lengths)
            if isinstance(value, dict):
                return {name: changed(item) for name, item in value.items()}
            return value

        return Batch(**{field.name: changed(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class Sample:
    """One frame; see `Batch` for the fields."""

    name: str
    image: torch.Tensor
    image_from_lidar: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    depth: torch.Tensor | None = None
    teacher_points: torch.Tensor | None = None
    teacher_answers: dict[str, torch.Tensor] | None = None
    labelled: bool = True
    epoch: int = 0

    @property
    def taught(self) -> bool:
        """Whether there is anything of a teacher."""
        return bool(self.teacher_answers) or (
            self.teacher_points is not None and len(self.teacher_points) > 0
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples."""
    depths = [sample.depth for sample in samples if sample.depth is not None]
    clouds = [sample.teacher_points for sample in samples if sample.teacher_points is not None]
    answers = [sample.teacher_answers for sample in samples if sample.teacher_answers is not None]
    return Batch(
        names=tuple(sample.name for sample in samples),
        images=torch.stack([sample.image for sample in samples]),
        image_from_lidar=torch.stack([sample.image_from_lidar for sample in samples]),
        points=torch.cat([sample.points for sample in samples]),
        samples=_owners([sample.points for sample in samples]),
        boxes=tuple(sample.boxes for sample in samples),
        labels=tuple(sample.labels for sample in samples),
        depth=torch.stack(depths) if depths else None,
        teacher_points=torch.cat(clouds) if clouds else None,
        teacher_samples=_owners(clouds) if clouds else None,
        teacher_answers=_joined(answers) if answers else None,
        taught=tuple(sample.taught for sample in samples),
        labelled=tuple(sample.labelled for sample in samples),
        epoch=samples[0].epoch,
    )


def _joined(answers: Sequence[dict[str, torch.Tensor]]) -> dict[str, Joined]:
    """The tensors of all frames, by name; a frame that lacks one has none of its length."""
    examples = {name: tensor for answer in answers for name, tensor in answer.items()}
    joined = {}
    for name, example in examples.items():
        parts = [answer.get(name, example[..., :0]) for answer in answers]
        joined[name] = Joined(torch.cat(parts, -1), tuple(part.shape[-1] for part in parts))
    return joined


def _owners(clouds: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(N,)` int64: which of the clouds each of all their points is of."""
    return torch.cat(
        [torch.full((len(cloud),), row, dtype=torch.int64) for row, cloud in enumerate(clouds)]
    )


class _WindowedFrames(Dataset):
    """Frames cut to a window, with an augmentation of their own in every epoch.

    The same seed, epoch and index always give the same sample, so that a run can go on where it
    was interrupted.
    """

    def __init__(
        self, frames: KittiDataset, window: WindowConfig, augment: AugmentConfig | None, seed: int
    ) -> None:
        self.frames = frames
        self._window = window
        self._augment = augment
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.frames)

    def _drawn(self, index: int) -> Augmentation | None:
        if self._augment is None:
            return None
        return drawn(self._augment, self._seed, self._epoch, index)


class DetectionSamples(_WindowedFrames):
    """Frames with points and boxes, for a detector, and for its teacher if it has one.

    A frame without a label file has no boxes and isn't `labelled`; one with an empty file has none
    because there is nothing.
    """

    def __init__(
        self,
        frames: KittiDataset,
        window: WindowConfig,
        points: PointSource,
        classes: Sequence[str],
        augment: AugmentConfig | None = None,
        seed: int = 0,
        sampler: ObjectSampler | None = None,
        teacher_points: PointSource | None = None,
        teacher_answers: AnswerSource | None = None,
    ) -> None:
        super().__init__(frames, window, augment, seed)
        if sampler is not None and (teacher_points is not None or teacher_answers is not None):
            raise ConfigError(
                "augment.sample_objects must be empty with a teacher: it sees none of the objects "
                "that are pasted in"
            )
        self._points = points
        self._teacher_points = teacher_points
        self._teacher_answers = teacher_answers
        self._sampler = sampler
        self._classes = {name: index for index, name in enumerate(classes)}

    def __getitem__(self, index: int) -> Sample:
        frame = self.frames[index]
        image, camera = windowed(frame, self._window)
        labelled = "label_2" in frame.files
        known = frame.objects() if labelled else []
        objects = [label for label in known if label.type in self._classes]
        kinds = np.array([self._classes[label.type] for label in objects], np.int64)
        found = label_boxes(objects, camera.lidar_from_camera)
        cloud = self._points(frame)
        if self._sampler is not None:
            rng = np.random.default_rng((self._seed, self._epoch, index))
            cloud, found, kinds = self._sampler(cloud, found, kinds, camera, rng)
        points, boxes, labels = (torch.from_numpy(part) for part in (cloud, found, kinds))
        taught = None
        if self._teacher_points is not None:
            taught = torch.from_numpy(self._teacher_points(frame))
        answers = None
        if self._teacher_answers is not None:
            answers = self._teacher_answers(frame) or {}
        projection = torch.from_numpy(camera.image_from_lidar).float()
        change = self._drawn(index)
        if change is not None:
            image, projection = change.image(image, projection)
            points, boxes = change.points(points), change.boxes(boxes)
            taught = None if taught is None else change.points(taught)
        return Sample(
            frame.name, image, projection, points, boxes, labels, None, taught, answers, labelled,
            self._epoch,
        )  # fmt: skip


class DepthSamples(_WindowedFrames):
    """Frames with the depth that their LiDAR saw, for a depth model."""

    def __init__(
        self,
        frames: KittiDataset,
        window: WindowConfig,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        if augment is not None and augment.sample_objects:
            raise ConfigError("sample_objects must be empty for depth: an image has none of them")
        if augment is not None and augment.image_scale != (1.0, 1.0):
            raise ConfigError("image_scale must be [1, 1] for depth: a zoom changes what is metric")
        super().__init__(frames, window, augment, seed)

    def __getitem__(self, index: int) -> Sample:
        frame = self.frames[index]
        image, camera = windowed(frame, self._window)
        lidar = frame.points_in_view()
        size = self._window.size
        depth = torch.from_numpy(point_geometry.depth_map(lidar, camera.image_from_lidar, size))
        projection = torch.from_numpy(camera.image_from_lidar).float()
        change = self._drawn(index)
        if change is not None:
            image, projection = change.image(image, projection)
            if change.flip:
                depth = depth.flip(-1)
        nothing = torch.zeros(0)
        return Sample(
            frame.name, image, projection, nothing.view(0, 4), nothing.view(0, 7),
            nothing.long(), depth,
        )  # fmt: skip


def windowed(frame: KittiFrame, config: WindowConfig) -> tuple[torch.Tensor, PinholeCamera]:
    """A frame's `(3, H, W)` image, 0 to 255, and its camera, both cut to a window."""
    image = frame.image()
    camera = frame.camera(image.shape[:2])
    window = config.window(camera)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return window.extract(pixels)[0], window.camera(camera)


def drawn(config: AugmentConfig, seed: int, epoch: int, index: int) -> Augmentation:
    """The augmentation of a sample, from these four alone."""
    (state,) = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)
    return config.draw(torch.Generator().manual_seed(int(state >> 1)))
