"""Results for the Rerun viewer: the one importer of rerun."""

from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.frames import FrameResult
from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.offline.sinks import Sink
from kd3d_core.visual.colors import TRUTH_COLOR, class_color

_JPEG_QUALITY = 85


class RerunSink(Sink):
    """An `.rrd` file: image and camera, cloud, detections and truth in one 3D scene."""

    def __init__(self, path: Path) -> None:
        try:
            import rerun
        except ImportError as error:
            raise Kd3dError(
                f"--rerun needs the package rerun-sdk, which cannot be imported ({error}): "
                "pip install rerun-sdk"
            ) from None
        self._rerun: Any = rerun
        self._path = path
        self._partial = path.with_name(f".{path.name}.part")

    def __enter__(self) -> object:
        rr = self._rerun
        self._recording = rr.RecordingStream("kd3d-detect")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._recording.save(str(self._partial))
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self._path} can't be written: {error}") from None
        self._recording.log("scene", rr.ViewCoordinates.FLU, static=True)
        return self

    def add(self, result: FrameResult) -> None:
        """Log the frame at its stamp."""
        rr, recording = self._rerun, self._recording
        frame, points = result.frame, result.detections.points
        recording.set_time("stamp", timestamp=np.datetime64(frame.stamp_ns, "ns"))
        self._log_camera(frame.camera)
        image = rr.Image(frame.rectified_image).compress(jpeg_quality=_JPEG_QUALITY)
        recording.log("scene/camera/image", image)
        recording.log("scene/points", rr.Points3D(points[:, :3], radii=0.03))
        self._log_boxes("scene/detections", result.found)
        if frame.truth is not None:
            self._log_boxes("scene/truth", frame.truth, TRUTH_COLOR)
        else:  # the viewer would go on showing the last frame's
            recording.log("scene/truth", rr.Clear(recursive=False))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._recording.flush()
        self._recording.disconnect()
        try:
            if error is None:
                self._partial.replace(self._path)
        except OSError as failure:
            raise DataError(f"{self._path} can't be written: {failure}") from None
        finally:
            self._partial.unlink(missing_ok=True)

    def _log_camera(self, camera: PinholeCamera) -> None:
        rr, recording = self._rerun, self._recording
        _, origin = camera.rays
        pose = rr.Transform3D(translation=origin, mat3x3=camera.lidar_from_camera[:3, :3])
        recording.log("scene/camera", pose)
        lens = rr.Pinhole(
            image_from_camera=camera.projection[:, :3], resolution=[camera.width, camera.height]
        )
        recording.log("scene/camera/image", lens)

    def _log_boxes(
        self, path: str, objects: ObjectBoxes, color: tuple[int, int, int] | None = None
    ) -> None:
        centers, quaternions, sizes = box_geometry.to_ros(objects.boxes)
        self._recording.log(
            path,
            self._rerun.Boxes3D(
                centers=centers,
                half_sizes=sizes / 2,
                quaternions=quaternions,
                colors=[color or class_color(name) for name in objects.names],
                labels=[
                    name if color else caption
                    for name, caption in zip(objects.names, objects.captions, strict=True)
                ],
            ),
        )
