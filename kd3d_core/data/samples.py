"""Samples for training: frames of a data set as tensors, windowed and augmented."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from kd3d_core.data.augment import Augmentation, draw_augmentation, turned_view
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.batch import Batch, Sample, collate
from kd3d_core.data.depth_view import DepthView, ViewConfig, augmented, depth_view
from kd3d_core.data.frame_inputs import AnswerSource, PointSource, lidar_points, windowed
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import usable
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.errors import ConfigError
from kd3d_core.geometry import points as point_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import WindowConfig


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
        image, camera, seen = windowed(frame, self._window)
        labelled, found, kinds = self._boxes(frame, camera)
        change = Augmentation()
        if self._augment is not None:
            change = draw_augmentation(self._augment, self._seed, draw, index)
        image, camera, seen = turned_view(image, camera, seen, change)
        cloud = np.zeros((0, 4), np.float32) if self._points is None else self._points(frame)
        if self._sampler is not None:
            rng = np.random.default_rng((self._seed, draw, index))
            cloud, found, kinds = self._sampler(cloud, found, kinds, camera, rng)
        points, boxes, labels = (torch.from_numpy(part) for part in (cloud, found, kinds))
        depth = self._true_depth(frame, camera, seen) if self._depth else None
        view = self._depth_view(frame, (image, camera, seen), change, (draw, index))
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
        self,
        frame: KittiFrame,
        turned: tuple[torch.Tensor, PinholeCamera, np.ndarray],
        change: Augmentation,
        which: tuple[int, int],
    ) -> DepthView | None:
        """Of a frame whose camera was turned; `turned` is that in the detector's window.

        `which` draw of which frame it is.
        """
        config = self._view
        if config is None:
            return None
        if config.window != self._window:
            turned = turned_view(*windowed(frame, config.window), change)
        image, camera, seen = turned
        seed = (self._seed, *which)
        return depth_view(image, camera, seen, lidar_points(frame), config, seed)


def batches_of(samples: FrameSamples, batch_size: int) -> Iterator[Batch]:
    """All samples once, in order, in batches."""
    for start in range(0, len(samples), batch_size):
        indices = range(start, min(start + batch_size, len(samples)))
        yield collate([samples[index] for index in indices])
