"""Writes folders in KITTI's layout: each frame whole or not at all."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.labels import Label, labels_text
from kd3d_core.data.png import png_bytes
from kd3d_core.files import write_all, write_json
from kd3d_core.geometry.camera import PinholeCamera

_ENDINGS = {"calib": "txt", "image_2": "png", "velodyne": "bin", "label_2": "txt"}


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written.

    Attributes:
        path: in the data set's folder, with slashes.
        sha256: of its contents, hexadecimal.
        size: in bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class KittiWriter:
    """A folder that frames are written to, into `training/` in it."""

    root: Path

    def is_whole(self, name: str) -> bool:
        """Whether the frame is there with all the files that a frame may have."""
        return all(self._path(part, name).is_file() for part in _ENDINGS)

    def write(
        self,
        name: str,
        image: np.ndarray,
        calib: str,
        points: np.ndarray | None = None,
        labels: Sequence[Label] | None = None,
    ) -> list[WrittenFile]:
        """Write a frame; the files get their names once all of them are written, else `DataError`.

        Args:
            name: file name without ending, of each of its files.
            image: `(H, W, 3)` uint8 RGB, rectified.
            calib: contents of the calibration file, see `calib_text`.
            points: `(N, 4)` x, y, z in metres and intensity, 0 to 1; None writes no such file.
            labels: None writes no such file.

        Returns:
            The files.
        """
        data: dict[str, bytes | memoryview] = {
            "calib": calib.encode(),
            "image_2": png_bytes(image),
        }
        if points is not None:
            data["velodyne"] = np.ascontiguousarray(points, "<f4").data.cast("B")
        if labels is not None:
            data["label_2"] = labels_text(labels).encode()
        files = {self._path(part, name): content for part, content in data.items()}
        write_all(files)
        return [
            WrittenFile(
                path.relative_to(self.root).as_posix(),
                hashlib.sha256(content).hexdigest(),
                len(content),
            )
            for path, content in files.items()
        ]

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write `meta.json`; `DataError` if it can't be."""
        write_json(self.root / "meta.json", meta)

    def _path(self, part: str, name: str) -> Path:
        return self.root / "training" / part / f"{name}.{_ENDINGS[part]}"


def calib_text(matrices: Mapping[str, np.ndarray]) -> str:
    """KITTI's calibration file: matrices by name, a line for each."""
    return "".join(
        f"{name}: {' '.join(f'{number:.12e}' for number in matrix.reshape(-1))}\n"
        for name, matrix in matrices.items()
    )


def calib_of_camera(camera: PinholeCamera) -> str:
    """KITTI's calibration file of a rectified camera, as `PinholeCamera.from_kitti` reads it."""
    return calib_text(
        {
            "P2": camera.projection,
            "R0_rect": np.eye(3),
            "Tr_velo_to_cam": camera.camera_from_lidar[:3],
        }
    )
