"""Samples for training: frames of a data set as tensors, windowed and augmented."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.utils.data import Dataset

from kd3d_core.data.augment import Augmentation, draw_augmentation, turned_view
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.depth_view import (
    DepthView,
    ViewConfig,
    augmented,
    depth_view,
    true_depth_cloud,
)
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.labels import label_boxes, usable
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.errors import ConfigError
from kd3d_core.geometry import points as point_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import PseudoLidarConfig

log = logging.getLogger(__name__)

PointSource = Callable[[KittiFrame], np.ndarray]
"""Gives a frame's points `(N, 4)`: true LiDAR (`lidar_points`) or pseudo-LiDAR."""

AnswerSource = Callable[[KittiFrame], dict[str, torch.Tensor] | None]
"""Gives what a teacher said about a frame, as tensors by name, of any length along their last
dimension; None for a frame that the teacher can't see."""


@dataclass(frozen=True)
class RaggedTensor:
    """Tensors of several frames, joined along the last dimension, of which each has a length.

    One tensor however many frames there are: each that a loader's process hands over keeps a file
    open.
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
        has_teacher: mask over the frames: whether it has points or answers of the teacher.
        labelled: for each frame, whether its boxes are known; if not, it has none here.
        epoch: that the frames were drawn for.
        view: what a depth network that learns sees of the frames; None if none does.
        progress: share of the run's steps that were taken before.
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
    teacher_answers: dict[str, RaggedTensor] | None = None
    has_teacher: tuple[bool, ...] = ()
    labelled: tuple[bool, ...] = ()
    epoch: int = 0
    view: DepthView | None = None
    progress: float = 0.0

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
            if isinstance(value, RaggedTensor):
                return RaggedTensor(change(value.values), value.lengths)
            if isinstance(value, DepthView):
                return value.changed(change)
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
    view: DepthView | None = None

    @property
    def has_teacher(self) -> bool:
        """Whether there is anything of a teacher."""
        return bool(self.teacher_answers) or (
            self.teacher_points is not None and len(self.teacher_points) > 0
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples."""
    depths = [sample.depth for sample in samples if sample.depth is not None]
    clouds = [sample.teacher_points for sample in samples if sample.teacher_points is not None]
    answers = [sample.teacher_answers for sample in samples if sample.teacher_answers is not None]
    views = [sample.view for sample in samples if sample.view is not None]
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
        has_teacher=tuple(sample.has_teacher for sample in samples),
        labelled=tuple(sample.labelled for sample in samples),
        epoch=samples[0].epoch,
        view=DepthView.stacked(views) if views else None,
    )


def _joined(answers: Sequence[dict[str, torch.Tensor]]) -> dict[str, RaggedTensor]:
    """The tensors of all frames, by name; a frame that lacks one has none of its length."""
    examples = {name: tensor for answer in answers for name, tensor in answer.items()}
    joined = {}
    for name, example in examples.items():
        parts = [answer.get(name, example[..., :0]) for answer in answers]
        joined[name] = RaggedTensor(torch.cat(parts, -1), tuple(part.shape[-1] for part in parts))
    return joined


def _owners(clouds: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(N,)` int64: which of the clouds each of all their points is of."""
    return torch.cat(
        [torch.full((len(cloud),), row, dtype=torch.int64) for row, cloud in enumerate(clouds)]
    )


class FrameSamples(Dataset):
    """Frames of a data set, cut to a window, with an augmentation of their own in every epoch.

    The same seed, epoch and index always give the same sample, so that a run can go on where it
    was interrupted. A frame without a label file has no boxes and isn't `labelled`; one with an
    empty file has none because there is nothing.
    """

    def __init__(
        self,
        frames: KittiDataset,
        window: WindowConfig,
        points: PointSource | None = None,
        classes: Sequence[str] | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        *,
        depth: bool = False,
        view: ViewConfig | None = None,
        sampler: ObjectSampler | None = None,
        teacher_points: PointSource | None = None,
        teacher_answers: AnswerSource | None = None,
    ) -> None:
        """
        Args:
            frames: the frames.
            window: what is cut out of the images.
            points: source of the points; None gives none.
            classes: names of the classes of boxes; None reads no labels.
            augment: how frames may change; None leaves them as they are.
            seed: seed of the augmentations.
            depth: whether to give the depth that the frames' LiDAR measured.
            view: what to give a depth network that learns; None gives it nothing.
            sampler: adds objects of other frames.
            teacher_points, teacher_answers: what a teacher reads, or what it said.

        Raises:
            ConfigError: the augmentation would make parts of a sample contradict each other.
        """
        objects = sampler is not None or (augment is not None and bool(augment.sample_objects))
        learns_depth = depth or view is not None
        if objects and (learns_depth or teacher_points is not None or teacher_answers is not None):
            raise ConfigError(
                "augment.sample_objects must be empty with a teacher and where depth is learnt: "
                "the image shows none of the objects that are pasted in"
            )
        if learns_depth and augment is not None and augment.image_scale != (1.0, 1.0):
            raise ConfigError("image_scale must be [1, 1] for depth: a zoom changes what is metric")
        if view is not None and augment is not None and (augment.pitch or augment.roll):
            raise ConfigError(
                "augment.pitch and roll must be 0 where depth learns in the detector's step"
            )
        self.frames = frames
        self._window = window
        self._points = points
        self._classes = None if classes is None else {name: i for i, name in enumerate(classes)}
        self._augment = augment
        self._seed = seed
        self._depth = depth
        self._view = view
        self._sampler = sampler
        self._teacher_points = teacher_points
        self._teacher_answers = teacher_answers
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, self._epoch)

    def sample(self, index: int, draw: int) -> Sample:
        """A frame as it is changed in the draw of that number, which is the epoch's by default."""
        frame = self.frames[index]
        image, camera = windowed(frame, self._window)
        change = Augmentation()
        if self._augment is not None:
            change = draw_augmentation(self._augment, self._seed, draw, index)
        image, camera, seen = turned_view(image, camera, change)
        labelled, found, kinds = self._boxes(frame, camera)
        cloud = np.zeros((0, 4), np.float32) if self._points is None else self._points(frame)
        if self._sampler is not None:
            rng = np.random.default_rng((self._seed, draw, index))
            cloud, found, kinds = self._sampler(cloud, found, kinds, camera, rng)
        points, boxes, labels = (torch.from_numpy(part) for part in (cloud, found, kinds))
        depth = self._true_depth(frame, camera, seen) if self._depth else None
        view = self._depth_view(frame, image, camera, index)
        taught = None
        if self._teacher_points is not None:
            taught = torch.from_numpy(self._teacher_points(frame))
        answers = None
        if self._teacher_answers is not None:
            answers = self._teacher_answers(frame) or {}
        projection = torch.from_numpy(camera.image_from_lidar).float()
        if self._augment is not None:
            image, projection = change.image(image, projection)
            points, boxes = change.points(points), change.boxes(boxes)
            taught = None if taught is None else change.points(taught)
            # The camera stays where it is: only a mirrored image has other depths.
            depth = depth.flip(-1) if depth is not None and change.flip else depth
            view = None if view is None else augmented(view, change)
        return Sample(
            frame.name, image, projection, points, boxes, labels, depth, taught, answers, labelled,
            self._epoch, view,
        )  # fmt: skip

    def _boxes(
        self, frame: KittiFrame, camera: PinholeCamera
    ) -> tuple[bool, np.ndarray, np.ndarray]:
        """Whether the frame has labels, its boxes `(M, 7)` and their classes `(M,)`."""
        classes = self._classes or {}
        labels = frame.labels() if classes and "label_2" in frame.files else None
        found = usable(labels or ())
        # Objects that can't be learnt don't mean that there is nothing.
        flawed = any(label.is_object and label.flaw for label in labels or ())
        labelled = labels is not None and (bool(found) or not flawed)
        objects = [label for label in found if label.type in classes]
        kinds = np.array([classes[label.type] for label in objects], np.int64)
        return labelled, label_boxes(objects, camera.lidar_from_camera), kinds

    def _true_depth(
        self, frame: KittiFrame, camera: PinholeCamera, seen: np.ndarray
    ) -> torch.Tensor:
        """Where an image was `seen`; 0 elsewhere."""
        points = lidar_points(frame)
        size = self._window.size
        measured = point_geometry.depth_map(points, camera.image_from_lidar, size)
        return torch.from_numpy(np.where(seen, measured, 0))

    def _depth_view(
        self, frame: KittiFrame, image: torch.Tensor, camera: PinholeCamera, index: int
    ) -> DepthView | None:
        """Of a frame with such an image and camera in the detector's window."""
        config = self._view
        if config is None:
            return None
        if config.window != self._window:
            image, camera = windowed(frame, config.window)
        whole = frame.camera()
        inside = config.window.window(whole).inside(whole)
        seed = (self._seed, self._epoch, index)
        return depth_view(image, camera, inside, lidar_points(frame), config, seed)


class MixedSamples(Dataset):
    """Several sets of samples as one, each with a fixed share of every epoch.

    A set that gives fewer samples than it has gives others in the next epoch, and begins again, in
    another order and with other augmentations, when all of it was seen.

    Attributes:
        counts: how many samples of each set an epoch has, those of the first set first.
        per_batch: how many of each set a batch of one process has; None leaves it to chance.
    """

    def __init__(
        self,
        sets: Sequence[FrameSamples],
        counts: Sequence[int],
        seed: int,
        per_batch: Sequence[int] | None = None,
    ) -> None:
        """See the attributes; `seed` draws the order of each set."""
        self._sets = sets
        self.counts = tuple(counts)
        self.per_batch = None if per_batch is None else tuple(per_batch)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other samples and augmentations from now on."""
        self._epoch = epoch
        for samples in self._sets:
            samples.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, index: int) -> Sample:
        which = 0
        while index >= self.counts[which]:
            index -= self.counts[which]
            which += 1
        size = len(self._sets[which])
        passes, place = divmod(self._epoch * self.counts[which] + index, size)
        order = np.random.default_rng((self._seed, which, passes)).permutation(size)
        return self._sets[which].sample(int(order[place]), passes)


def mixed(
    sets: Sequence[FrameSamples],
    shares: Sequence[float],
    seed: int,
    per_batch: Sequence[int] | None = None,
) -> FrameSamples | MixedSamples:
    """The samples of all sets as one; of the first, each epoch sees all frames.

    `shares` says which share of all samples of an epoch comes from each of the others, `per_batch`
    how many of each set every batch has, if it isn't left to chance.
    """
    main, *others = sets
    if not others:
        return main
    total = len(main) / (1 - sum(shares))
    counts = [len(main), *(max(1, round(share * total)) for share in shares)]
    text = ", ".join(
        f"{count} of {len(part)} in {part.frames.root}"
        for count, part in zip(counts, sets, strict=True)
    )
    log.info("frames in each epoch: %s", text)
    return MixedSamples(sets, counts, seed, per_batch)


def true_depth_points(
    window: WindowConfig, settings: PseudoLidarConfig, within_px: float
) -> PointSource:
    """Gives pseudo-LiDAR of true depth, see `true_depth_cloud`; none for a frame without LiDAR."""

    def points(frame: KittiFrame) -> np.ndarray:
        return true_depth_cloud(lidar_points(frame), frame.camera(), window, settings, within_px)

    return points


def lidar_points(frame: KittiFrame) -> np.ndarray:
    """`(N, 4)` float32 of the LiDAR's points in the image; none if the frame has no LiDAR."""
    if not frame.has_lidar:
        return np.zeros((0, 4), np.float32)
    return frame.points_in_view()


def no_points(frame: KittiFrame) -> np.ndarray:
    """`(0, 4)` float32, for a detector that reads an image alone."""
    return np.zeros((0, 4), np.float32)


def image_tensor(image: np.ndarray) -> torch.Tensor:
    """`(1, 3, H, W)` float32, 0 to 255, of an `(H, W, 3)` uint8 image."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def windowed(frame: KittiFrame, config: WindowConfig) -> tuple[torch.Tensor, PinholeCamera]:
    """A frame's `(3, H, W)` image, 0 to 255, and its camera, both cut to a window."""
    image = frame.image()
    camera = frame.camera(image.shape[:2])
    window = config.window(camera)
    return window.extract(image_tensor(image))[0], window.camera(camera)


def batches_of(samples: FrameSamples, batch_size: int) -> Iterator[Batch]:
    """All samples once, in order, in batches."""
    for start in range(0, len(samples), batch_size):
        indices = range(start, min(start + batch_size, len(samples)))
        yield collate([samples[index] for index in indices])
