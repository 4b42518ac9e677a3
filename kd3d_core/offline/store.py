"""Detections on disk, frame by frame, so that a run that was killed goes on where it was.

Each file says of what it was made: image, calibration, model. Where any of it has changed, the
frame counts as not done.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kd3d_core.config import settings_digest
from kd3d_core.files import write_whole
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.config import ModelConfig
from kd3d_core.runtime.detections import Detections
from kd3d_core.weights import resolve
from kd3d_core.weights.download import sha256_of

FORMAT = 1
"""Of what is kept, and of the code that made it.

To be raised whenever the same weights and settings answer otherwise than before: after changes of
windows and resizing, of pseudo-LiDAR, of decoding boxes, or of NMS. Results of older code are then
made again.
"""


class ResultStore:
    """A folder with one `.npz` per frame; depth maps are not kept.

    `model` is the digest of what detects, see `model_digest`.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model

    def read(self, frame: Frame) -> Detections | None:
        """What the same model found in the same image before; None if nothing is known of it."""
        try:
            with np.load(self._path(frame), allow_pickle=False) as file:
                if str(file["made_of"]) != self._made_of(frame):
                    return None
                arrays = {name: file[name] for name in ("points", "boxes", "scores", "labels")}
                return Detections(**arrays, timings=json.loads(str(file["timings"])))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # missing, or from a power cut: it is made again

    def write(self, frame: Frame, detections: Detections) -> None:
        """Keep what was found; `DataError` if the disk is full."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            made_of=np.array(self._made_of(frame)),
            points=detections.points,
            boxes=detections.boxes,
            scores=detections.scores,
            labels=detections.labels,
            timings=np.array(json.dumps(detections.timings)),
        )
        write_whole(self._path(frame), buffer.getvalue())

    def _path(self, frame: Frame) -> Path:
        return self._folder / f"{frame.name}.npz"

    def _made_of(self, frame: Frame) -> str:
        digest = hashlib.sha256(self._model.encode())
        digest.update(str(frame.image.shape).encode())
        digest.update(np.ascontiguousarray(frame.image).data)
        for part in _numbers(frame.camera):
            digest.update(part)
        return digest.hexdigest()


def model_digest(config: ModelConfig, description: str) -> str:
    """Hexadecimal sha256 of all that decides what a model answers; the code by `FORMAT` alone.

    The weights must be on this machine; `description` says where and how the model runs, see
    `CameraDetector.description`.
    """
    settings = asdict(config)
    del settings["card"]  # what is known of a model changes none of its answers
    digest = hashlib.sha256(settings_digest([FORMAT, settings, description]).encode())
    for weights in config.weights.values():
        if weights != "random":
            for path in _files(resolve(weights)):
                digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def _files(weights: Path) -> list[Path]:
    if weights.is_file():
        return [weights]
    return sorted(path for path in weights.rglob("*") if path.is_file())


def _numbers(camera: PinholeCamera) -> Iterator[bytes]:
    yield camera.projection.tobytes()
    yield camera.lidar_from_camera.tobytes()
    if camera.distortion is not None:
        yield camera.distortion.model.encode()
        yield camera.distortion.coefficients.tobytes()
        yield camera.distortion.intrinsics.tobytes()
        yield camera.distortion.rectified_from_raw.tobytes()
