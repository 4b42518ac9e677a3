"""KITTI's object layout on disk: the one place that reads it and writes its labels.

A data set is a folder with `image_2/`, `calib/`, `label_2/`, `velodyne/` and `velodyne_reduced/`,
one file per frame in each. Any part may be missing, as a whole or for single frames: what is asked
for and isn't there raises a `DataError` that names it. Extracts of kd3d have the same layout and a
`meta.json` beside it. The tracking set's labels are read too, once cut into a file per frame.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd3d_core.data.kitti_calib import kitti_camera
from kd3d_core.errors import DataError
from kd3d_core.geometry import boxes
from kd3d_core.geometry.camera import PinholeCamera

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

_FIELDS = (
    "type", "truncated", "occluded", "alpha", "left", "top", "right", "bottom", "height", "width",
    "length", "x", "y", "z", "rotation_y", "score",
)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """One line of a label or detection file, as KITTI writes it.

    Attributes:
        type: class name; `DontCare` marks an image region without annotation.
        truncated: share outside the image, 0 to 1; 0, 1, 2 in the tracking set; -1 if unknown.
        occluded: 0 fully visible, 1 partly, 2 largely occluded, 3 or -1 unknown.
        alpha: observation angle, radians; -10 if unknown.
        bbox: left, top, right, bottom in the image, pixels.
        dimensions: height, width, length, metres.
        location: bottom centre in the rectified camera frame, metres.
        rotation_y: heading about the camera's y axis, radians.
        score: a detection's confidence; None for a label.
    """

    type: str
    truncated: float
    occluded: int
    alpha: float
    bbox: tuple[float, float, float, float]
    dimensions: tuple[float, float, float]
    location: tuple[float, float, float]
    rotation_y: float
    score: float | None = None

    @property
    def is_object(self) -> bool:
        """Whether this is an annotated object, and not a `DontCare` region."""
        return self.type != "DontCare"

    @classmethod
    def parse(cls, line: str, where: str) -> "Label":
        """Label of one line of text.

        Args:
            line: 15 fields, or 16 with a score, separated by blanks.
            where: file and line number, for the error.

        Raises:
            DataError: names `where` and the field.
        """
        words = line.split()
        if len(words) not in (15, 16):
            raise DataError(
                f"{where}: a KITTI label has 15 fields, or 16 with a score; this has {len(words)}"
            )
        numbers = []
        for field, word in zip(_FIELDS[1:], words[1:], strict=False):
            try:
                number = float(word)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise DataError(f"{where}: field {field!r} is {word!r}, not a finite number")
            numbers.append(number)
        if numbers[1] != int(numbers[1]):
            raise DataError(f"{where}: field 'occluded' is {words[2]!r}, not an integer")
        return cls(
            words[0],
            numbers[0],
            int(numbers[1]),
            numbers[2],
            (numbers[3], numbers[4], numbers[5], numbers[6]),
            (numbers[7], numbers[8], numbers[9]),
            (numbers[10], numbers[11], numbers[12]),
            numbers[13],
            numbers[14] if len(numbers) == 15 else None,
        )

    def __str__(self) -> str:
        """The line of text, with the six digits that KITTI's tracking labels have."""
        truncated = f"{self.truncated:g}" if self.truncated.is_integer() else f"{self.truncated:f}"
        numbers = [self.alpha, *self.bbox, *self.dimensions, *self.location, self.rotation_y]
        if self.score is not None:
            numbers.append(self.score)
        return " ".join(
            [self.type, truncated, str(self.occluded), *(f"{number:.6f}" for number in numbers)]
        )


def read_labels(path: Path | str) -> list[Label]:
    """Labels or detections of a frame; an empty file has none.

    Raises:
        DataError: names the file, and line and field where there is one to name.
    """
    return [label for _, label in _numbered_labels(path)]


def read_detections(path: Path | str) -> list[Label]:
    """As `read_labels`, for files whose every line must have a score."""
    detections = []
    for number, label in _numbered_labels(path):
        if label.score is None:
            raise DataError(
                f"{path}:{number}: field 'score' is missing: a detection has 16 fields, the last "
                "of them its score"
            )
        detections.append(label)
    return detections


def _numbered_labels(path: Path | str) -> Iterator[tuple[int, Label]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: labels cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, Label.parse(line, f"{path}:{number}")


def write_labels(path: Path | str, labels: Iterable[Label]) -> None:
    """Write labels or detections, one line each, in KITTI's format."""
    Path(path).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def label_boxes(labels: Sequence[Label], lidar_from_camera: np.ndarray) -> np.ndarray:
    """`(N, 7)` float32 detector-frame boxes of labels, in their order.

    `DontCare` regions have no box: leave them out first.
    """
    return boxes.from_kitti(
        np.array([label.location for label in labels]),
        np.array([label.dimensions for label in labels]),
        np.array([label.rotation_y for label in labels]),
        lidar_from_camera,
    )


def box_labels(
    detected: np.ndarray, scores: Sequence[float], names: Sequence[str], camera: PinholeCamera
) -> list[Label]:
    """Labels of detector-frame boxes, for KITTI's evaluator; the inverse of `label_boxes`.

    Args:
        detected: `(N, 7)`.
        scores: N of them.
        names: N class names.
        camera: of the image that the 2D boxes are clipped to. Boxes outside of it are left out.
    """
    location, dimensions, rotation_y = boxes.to_kitti(detected, camera.lidar_from_camera)
    size = (camera.height, camera.width)
    rectangles = boxes.image_boxes(detected, camera.image_from_lidar, size)
    alpha = boxes.wrap_angle(rotation_y - np.arctan2(location[:, 0], location[:, 2]))
    seen = (rectangles[:, 2:] > rectangles[:, :2]).all(1)  # False for NaN: behind the camera
    return [
        Label(
            type=names[i],
            truncated=-1.0,
            occluded=-1,
            alpha=float(alpha[i]),
            bbox=tuple(rectangles[i].tolist()),
            dimensions=tuple(dimensions[i].tolist()),
            location=tuple(location[i].tolist()),
            rotation_y=float(rotation_y[i]),
            score=float(scores[i]),
        )
        for i in np.flatnonzero(seen).tolist()
    ]


def read_image(path: Path | str) -> np.ndarray:
    """Image file as `(H, W, 3)` uint8 RGB."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: image cannot be read: {error}") from None


def read_points(path: Path | str) -> np.ndarray:
    """Velodyne file as `(N, 4)` float32: x, y, z in metres and intensity."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: points cannot be read: {error}") from None
    if len(data) % 16:
        raise DataError(
            f"{path}: {len(data)} bytes are no whole number of points of 16 bytes (x, y, z, "
            "intensity as float32): the file is cut off or not KITTI's velodyne format"
        )
    points = np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, 4)
    broken = len(points) - np.isfinite(points).all(1).sum()
    if broken:
        raise DataError(f"{path}: {broken} of {len(points)} points are not finite: drop them")
    return points


def read_split(path: Path | str) -> list[str]:
    """Frame names of a split list (`train.txt`): one per line, in its order."""
    try:
        names = Path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}: list of frames cannot be read: {reason}; give a text file with the name of a "
            "frame in each line"
        ) from None
    if len(set(names)) != len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise DataError(f"{path}: frame {twice} is listed twice")
    return names


def listed_frames(file: str | None, root: str) -> list[str] | None:
    """Frame names of a split list in a data set's folder, or where its path says; None for None."""
    if file is None:
        return None
    inside, elsewhere = Path(root).expanduser() / file, Path(file)
    return read_split(elsewhere if elsewhere.is_file() and not inside.is_file() else inside)


@dataclass(frozen=True)
class KittiFrame:
    """One frame of a data set. Nothing is read before it is asked for, and nothing is kept.

    Attributes:
        name: the files' name without ending, for example `000010`.
        files: part name to path, for the parts that this frame has.
        root: the data set's folder.
    """

    name: str
    files: dict[str, Path]
    root: Path

    def path(self, part: str) -> Path:
        """File of a part; `DataError` if this frame has none."""
        if part not in self.files:
            raise DataError(
                f"{self.root}: frame {self.name} has no {part}: "
                f"{self.root / part / self.name}{PARTS[part][0]} is missing"
            )
        return self.files[part]

    def image(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB."""
        return read_image(self.path("image_2"))

    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels, from the file's header."""
        path = self.path("image_2")
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: image cannot be read: {error}") from None

    def points(self) -> np.ndarray:
        """`(N, 4)` float32 from `velodyne`, or from `velodyne_reduced` where that is all."""
        reduced = "velodyne" not in self.files and "velodyne_reduced" in self.files
        return read_points(self.path("velodyne_reduced" if reduced else "velodyne"))

    def points_in_view(self) -> np.ndarray:
        """`(N, 4)` float32 of the points that fall into the image."""
        if "velodyne_reduced" in self.files:
            return read_points(self.files["velodyne_reduced"])
        points = read_points(self.path("velodyne"))
        height, width = self.image_size()
        pixels, depth = self.camera().project(points.astype(np.float64))
        inside = (pixels >= -0.5).all(1) & (pixels < (width - 0.5, height - 0.5)).all(1)
        return points[inside & (depth > 0)]

    def camera(self, size: tuple[int, int] | None = None) -> PinholeCamera:
        """Camera of `image_2`, rectified.

        Args:
            size: image height and width; default: the image file's.
        """
        height, width = size or self.image_size()
        return kitti_camera(self.path("calib"), width, height)

    def labels(self) -> list[Label]:
        """All lines of the label file, `DontCare` included."""
        return read_labels(self.path("label_2"))

    def objects(self) -> list[Label]:
        """The label file's annotated objects, without `DontCare` regions."""
        return [label for label in self.labels() if label.is_object]


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

    def frame(self, name: str) -> KittiFrame:
        """The frame of that name."""
        files = {part: found[name] for part, found in self._files.items() if name in found}
        if not files:
            raise DataError(f"{self.root}: there is no frame {name}")
        return KittiFrame(name, files, self.root)

    def subset(self, names: Sequence[str]) -> "KittiDataset":
        """The same folder with these frames only, for example those of `read_split`."""
        return KittiDataset(self.root, names)

    def has(self, part: str) -> bool:
        """Whether any of the frames has this part."""
        return any(name in self._files[part] for name in self.names)

    def missing(self, parts: Iterable[str]) -> dict[str, list[str]]:
        """Names of the frames that lack a part, for each of `parts` that any frame lacks."""
        lacking = {
            part: [name for name in self.names if name not in self._files[part]] for part in parts
        }
        return {part: names for part, names in lacking.items() if names}

    def require(self, parts: Iterable[str]) -> None:
        """Raise one `DataError` that names every part that frames lack, and how many."""
        lacking = self.missing(parts)
        if lacking:
            detail = "; ".join(
                f"{part} is missing for {len(names)} of {len(self)} frames (first: {names[0]})"
                for part, names in lacking.items()
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
        for path in (self.root / "meta.json", self.root.parent / "meta.json"):
            if path.is_file():
                try:
                    meta = json.loads(path.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise DataError(f"{path}: cannot be read: {error}") from None
                if not isinstance(meta, dict):
                    raise DataError(f"{path}: it must hold a JSON object")
                return meta
        return {}


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
    return {
        path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in PARTS[part]
    }
