"""Data sets in KITTI's object layout.

A data set is a folder with `image_2/`, `calib/`, `label_2/`, `velodyne/` and `velodyne_reduced/`,
one file per frame in each. Any part may be missing, as a whole or for single frames: what is asked
for and isn't there raises a `DataError` that names it. Extracts of kd3d have the same layout and a
`meta.json` beside it, which may say how point files are laid out (`kd3d_core.data.point_files`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.kitti_calib import kitti_camera
from kd3d_core.data.label_boxes import with_image_boxes
from kd3d_core.data.labels import Label, read_labels, to_judge, usable
from kd3d_core.data.point_files import read_points
from kd3d_core.data.point_layout import PointLayout
from kd3d_core.errors import DataError
from kd3d_core.files import files_in, read_json
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.pictures import picture_size, read_picture

LIDAR = ("velodyne", "velodyne_reduced")
"""Parts of a frame of which either holds its true points."""

PARTS = {
    "image_2": (".png", ".jpg", ".jpeg"),
    "velodyne": (".bin",),
    "velodyne_reduced": (".bin",),
    "calib": (".txt",),
    "label_2": (".txt",),
}
"""Folders of a data set and the endings of their files."""


@dataclass(frozen=True)
class KittiFrame:
    """One frame of a data set. Nothing is read before it is asked for, and nothing is kept.

    Attributes:
        name: the files' name without ending, for example `000010`.
        files: part name to path, for the parts that this frame has.
        root: the data set's folder.
        layout: columns of the point files, if the data set says so.
    """

    name: str
    files: dict[str, Path]
    root: Path
    layout: PointLayout | None = None

    def path(self, part: str) -> Path:
        """File of a part; `DataError` if this frame has none."""
        if part not in self.files:
            raise DataError(
                f"{self.root}: frame {self.name} has no {part}: "
                f"{self.root / part / self.name}{PARTS[part][0]} is missing"
            )
        return self.files[part]

    @property
    def has_lidar(self) -> bool:
        """Whether it has true points."""
        return any(part in self.files for part in LIDAR)

    def image(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB."""
        return read_picture(self.path("image_2"))

    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels, from the file's header."""
        return picture_size(self.path("image_2"))

    def points(self) -> np.ndarray:
        """`(N, 4)` float32 from `velodyne`, or from `velodyne_reduced` where that is all."""
        reduced = "velodyne" not in self.files and "velodyne_reduced" in self.files
        return read_points(self.path("velodyne_reduced" if reduced else "velodyne"), self.layout)

    def points_in_view(self) -> np.ndarray:
        """`(N, 4)` float32 of the points that fall into the image."""
        if "velodyne_reduced" in self.files:
            return read_points(self.files["velodyne_reduced"], self.layout)
        points = read_points(self.path("velodyne"), self.layout)
        return points[self.camera().sees(points.astype(np.float64))]

    def camera(self, size: tuple[int, int] | None = None) -> PinholeCamera:
        """Camera of `image_2`, rectified; `size` is its height and width, if known already."""
        height, width = size or self.image_size()
        return kitti_camera(self.path("calib"), width, height)

    def labels(self) -> list[Label]:
        """All lines of the label file, `DontCare` and unusable ones included.

        Where objects have no 2D box, it is that of their 3D box, if this frame has image and
        calibration.
        """
        labels = read_labels(self.path("label_2"))
        if all(label.has_image_box for label in usable(labels)):
            return labels
        if "image_2" not in self.files or "calib" not in self.files:
            return labels
        return with_image_boxes(labels, self.camera())

    def objects(self) -> list[Label]:
        """The label file's objects that can be learnt, see `labels.usable`."""
        return usable(self.labels())

    def ground_truth(self) -> list[Label]:
        """The label file's lines for an evaluator, see `labels.to_judge`."""
        return to_judge(self.labels())


class KittiDataset:
    """Frames of a folder in KITTI's object layout.

    Args:
        root: the folder with `image_2/` and so on, or the one above it that holds `training/`.
        names: the frames to use, in this order; default: all, sorted.

    Attributes:
        root: the folder that holds the parts.
        names: names of the frames.

    Raises:
        DataError: the folder isn't there, holds no part of the layout, or lacks a named frame.
    """

    def __init__(self, root: Path | str, names: Sequence[str] | None = None) -> None:
        self.root = _training_folder(Path(root).expanduser())
        self._files = {part: _files(self.root / part, part) for part in PARTS}
        known = set().union(*(self._files[part] for part in PARTS if part != "calib"))
        if names is None:
            names = sorted(known)
        elif unknown := [name for name in names if name not in known]:
            raise DataError(
                f"{self.root}: {len(unknown)} of {len(names)} frames are not there, "
                f"the first is {unknown[0]}"
            )
        if not names:
            raise DataError(f"{self.root}: no frame found in {', '.join(PARTS)}")
        self.names = tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> KittiFrame:
        return self.frame(self.names[index])

    def __iter__(self) -> Iterator[KittiFrame]:
        return map(self.frame, self.names)

    def frame(self, name: str) -> KittiFrame:
        """The frame of that name."""
        files = {part: found[name] for part, found in self._files.items() if name in found}
        if not files:
            raise DataError(f"{self.root}: there is no frame {name}")
        return KittiFrame(name, files, self.root, self._layout)

    def subset(self, names: Sequence[str]) -> "KittiDataset":
        """The same folder with these frames only, for example those of `read_split`."""
        return KittiDataset(self.root, names)

    def has(self, part: str) -> bool:
        """Whether any of the frames has this part."""
        return any(name in self._files[part] for name in self.names)

    def names_with(self, part: str) -> list[str]:
        """Names of the frames that have a part."""
        return [name for name in self.names if name in self._files[part]]

    def require(self, parts: Iterable[str]) -> None:
        """Raise one `DataError` that names every part that frames lack, and how many."""
        lacking = {part: [n for n in self.names if n not in self._files[part]] for part in parts}
        if any(lacking.values()):
            detail = "; ".join(
                f"{part} is missing for {len(names)} of {len(self)} frames (first: {names[0]})"
                for part, names in lacking.items()
                if names
            )
            raise DataError(f"{self.root}: {detail}")

    def without_lidar(self) -> list[str]:
        """Names of the frames that have none of `LIDAR`."""
        return [name for name in self.names if not any(name in self._files[p] for p in LIDAR)]

    def require_lidar(self) -> None:
        """Raise a `DataError` if frames have none of `LIDAR`."""
        if lacking := self.without_lidar():
            raise DataError(
                f"{self.root}: {' or '.join(LIDAR)} is missing for {len(lacking)} of {len(self)} "
                f"frames (first: {lacking[0]})"
            )

    @cached_property
    def meta(self) -> dict[str, Any]:
        """Contents of an extract's `meta.json`; empty for a plain KITTI folder."""
        for folder in (self.root, self.root.parent):
            if (meta := read_meta(folder)) is not None:
                return meta
        return {}

    @cached_property
    def _layout(self) -> PointLayout | None:
        if "points" not in self.meta:
            return None
        return PointLayout.from_meta(self.meta["points"], f"{self.root}: meta.json")


def read_meta(folder: Path) -> dict[str, Any] | None:
    """Contents of a folder's `meta.json`; None if it has none. `DataError` if it is no object."""
    path = folder / "meta.json"
    return read_json(path) if path.is_file() else None


def _training_folder(root: Path) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; expected a KITTI data set")
    for folder in (root, root / "training"):
        if any((folder / part).is_dir() for part in PARTS):
            return folder
    raise DataError(
        f"{root}: no KITTI data set: neither it nor {root / 'training'} holds any of "
        f"{', '.join(PARTS)}"
    )


def _files(folder: Path, part: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in files_in(folder, PARTS[part])}
