"""Writes folders in KITTI's layout: each frame whole or not at all."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd3d_core.data.labels import Label, labels_text
from kd3d_core.files import write_all, write_json
from kd3d_core.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class KittiWriter:
    """A folder that frames are written to, into `training/` in it.

    Every frame has a point file and a label file, or none has.
    """

    root: Path
    has_points: bool = True
    has_labels: bool = True

    def is_whole(self, name: str) -> bool:
        """Whether the frame is there with all its files."""
        return all(path.is_file() for path in self._paths(name).values())

    def write(
        self,
        name: str,
        image: np.ndarray,
        calib: str,
        points: np.ndarray | None = None,
        labels: Sequence[Label] | None = None,
    ) -> None:
        """Write a frame; the files get their names once all of them are written, else `DataError`.

        Args:
            name: file name without ending, of each of its files.
            image: `(H, W, 3)` uint8 RGB, rectified.
            calib: contents of the calibration file, see `calib_text`.
            points: `(N, 4)` x, y, z in metres and intensity, 0 to 1, if the folder has points.
            labels: if the folder has labels.
        """
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG", compress_level=3)
        data = {"calib": calib.encode(), "image_2": png.getvalue()}
        if points is not None:
            data["velodyne"] = points.astype("<f4").tobytes()
        if labels is not None:
            data["label_2"] = labels_text(labels).encode()
        write_all({path: data[part] for part, path in self._paths(name).items()})

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write `meta.json`; `DataError` if it can't be."""
        write_json(self.root / "meta.json", meta)

    def _paths(self, name: str) -> dict[str, Path]:
        endings = {"calib": "txt", "image_2": "png"}
        if self.has_points:
            endings["velodyne"] = "bin"
        if self.has_labels:
            endings["label_2"] = "txt"
        return {
            part: self.root / "training" / part / f"{name}.{ending}"
            for part, ending in endings.items()
        }


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
