"""Ground-truth sampling: labelled objects of other frames, pasted in as points and boxes.

As in SECOND (Yan et al., 2018, section 3.4.1). Only points can be pasted, so it serves detectors
that read nothing but true LiDAR; in an image the objects would be missing.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.geometry.boxes import footprints, points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.ops import box_iou_rotated, nms_rotated
from kd3d_core.paths import CACHE_FORMAT


@dataclass(frozen=True)
class CutObjects:
    """Labelled objects with the points in them.

    Attributes:
        boxes: `(K, 7)` float32, detector frame of the frame that each comes from.
        labels: `(K,)` int64.
        points: `(P, 4)` float32, those of object 0 first.
        ends: `(K,)` int64, where each object's points end.
    """

    boxes: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def points_of(self, indices: Sequence[int]) -> np.ndarray:
        """`(Q, 4)` points of some of the objects."""
        parts = [self.points[self.ends[i - 1] if i else 0 : self.ends[i]] for i in indices]
        return np.concatenate([self.points[:0], *parts])


def cut_objects(
    frames: KittiDataset,
    classes: Sequence[str],
    min_points: int,
    advance: Callable[[], None] = lambda: None,
) -> CutObjects:
    """The objects of all frames that have at least `min_points` points: fewer teach noise.

    The frames need points, calibration, labels and images (for their size).
    """
    label_of = {name: index for index, name in enumerate(classes)}
    boxes, labels, points = [], [], []
    for frame in frames:
        objects = [label for label in frame.objects() if label.type in label_of]
        if objects:
            cloud = frame.points_in_view()
            found = label_boxes(objects, frame.camera().lidar_from_camera)
            inside = points_in_boxes(cloud, found)
            for index in np.flatnonzero(inside.sum(0) >= min_points).tolist():
                boxes.append(found[index])
                labels.append(label_of[objects[index].type])
                points.append(cloud[inside[:, index]])
        advance()
    return CutObjects(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array(labels, np.int64),
        np.concatenate([np.zeros((0, 4), np.float32), *points]),
        np.cumsum([len(part) for part in points], dtype=np.int64),
    )


def cached_objects(
    folder: Path,
    frames: KittiDataset,
    classes: Sequence[str],
    min_points: int,
    advance: Callable[[], None] = lambda: None,
) -> CutObjects:
    """`cut_objects`, kept in a file of `folder` that is named by all that it depends on."""
    files = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for frame in frames
        for path in frame.files.values()
    ]
    key = json.dumps([CACHE_FORMAT, files, list(classes), min_points])
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as stored:
                return CutObjects(*(stored[name] for name in CutObjects.__dataclass_fields__))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: {error}; delete the file and start again") from None
    objects = cut_objects(frames, classes, min_points, advance)
    buffer = io.BytesIO()
    np.savez(buffer, **vars(objects))
    write_whole(path, buffer.getvalue())
    return objects


class ObjectSampler:
    """Fills frames up with objects of others.

    `wanted` says how many of each label a frame is to have.
    """

    def __init__(self, objects: CutObjects, wanted: Mapping[int, int]) -> None:
        self._objects = objects
        self._wanted = dict(wanted)

    def __call__(
        self,
        points: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        camera: PinholeCamera,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points, boxes and labels with objects added.

        An object stays where it was in its own frame, so that it has the density of its distance.
        It is left out where it would touch another or lie outside the image. The frame's own
        points inside of it go.

        Args:
            points: `(N, 4)` float32.
            boxes: `(M, 7)` float32.
            labels: `(M,)` int64.
        """
        none = np.zeros(0, np.int64)
        drawn = np.concatenate([none, *(self._draw(kind, labels, rng) for kind in self._wanted)])
        drawn = drawn[_in_view(self._objects.boxes[drawn], camera)]
        drawn = drawn[_untouched(self._objects.boxes[drawn], boxes)]
        added = self._objects.boxes[drawn]
        kept = points[~points_in_boxes(points, added).any(1)]
        return (
            np.concatenate([kept, self._objects.points_of(drawn.tolist())]),
            np.concatenate([boxes, added]),
            np.concatenate([labels, self._objects.labels[drawn]]),
        )

    def _draw(self, label: int, present: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        candidates = np.flatnonzero(self._objects.labels == label)
        missing = max(0, self._wanted[label] - int((present == label).sum()))
        return rng.choice(candidates, min(missing, len(candidates)), replace=False)


def make_sampler(
    folder: Path,
    frames: KittiDataset,
    classes: Sequence[str],
    wanted: Mapping[str, int],
    min_points: int,
    advance: Callable[[], None] = lambda: None,
) -> ObjectSampler:
    """A sampler of the objects of `frames`, `wanted` by class name.

    Raises:
        DataError: a wanted class has no object with enough points.
    """
    frames.require_lidar()
    objects = cached_objects(folder, frames, classes, min_points, advance)
    label_of = {name: index for index, name in enumerate(classes)}
    for name in wanted:
        if name not in label_of or label_of[name] not in objects.labels:
            raise DataError(
                f"{frames.root}: no {name} with {min_points} points or more can be sampled: take "
                "it out of augment.sample_objects"
            )
    return ObjectSampler(objects, {label_of[name]: count for name, count in wanted.items()})


def _in_view(boxes: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    """Mask of boxes whose centre the camera sees."""
    centres = boxes[:, :3].astype(np.float64) + [0, 0, 0.5] * boxes[:, 3:6]
    pixels, depth = camera.project(centres)
    inside = (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
    return inside & (depth > 0)


def _untouched(boxes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Indices of boxes that overlap, from above, neither a present one nor an earlier one."""
    candidates = torch.from_numpy(footprints(boxes))
    taken = torch.from_numpy(footprints(present))
    free = (box_iou_rotated(candidates, taken) == 0).all(1).nonzero()[:, 0]
    order = -torch.arange(len(free), dtype=torch.float32)
    kept = nms_rotated(candidates[free], order, 0.0)
    return free[kept].numpy()
