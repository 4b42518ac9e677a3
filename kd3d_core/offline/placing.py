"""Where a camera that nobody measured is: height and tilt, from the ground in the model's depth.

A network that was trained at one height sees every road from there, so the height that it is
consistent with is the one that its boxes need. Where a person says another, the ratio tells how
wrong its distances are.
"""

import logging
from dataclasses import replace

import numpy as np

from kd3d_core.errors import Once
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.ground import Ground, fit_ground, up_in_camera
from kd3d_core.geometry.virtual_frame import level_lidar_from_camera
from kd3d_core.offline.source import UnknownPlace
from kd3d_core.offline.store import ResultStore
from kd3d_core.runtime.detections import Detections, Detector

log = logging.getLogger(__name__)

USUAL_HEIGHT_M = 1.65
"""Where no ground is found: on a car."""
_LOWEST_M, _HIGHEST_M = 0.3, 6.0
_FRAMES = 9
"""Of a video's first frames the median counts: the car brakes, a lorry hides the road."""
_HEIGHT_TOLERANCE = 0.2


class Placer:
    """Puts frames' cameras where the ground says they are.

    Args:
        detector: whose points are looked at.
        store: keeps its answers, as those of the run itself.
        place: what is known.
    """

    def __init__(self, detector: Detector, store: ResultStore | None, place: UnknownPlace) -> None:
        self._detector, self._store, self._place = detector, store, place
        self._grounds: list[Ground | None] = []
        self._settled: tuple[PinholeCamera, str] | None = None
        self._warn = Once(log.warning)

    def __call__(self, frame: Frame) -> Frame:
        """The frame with its camera in its place, and a note of how that is known."""
        camera, note = self._settled or self._placed(frame)
        if self._place.one_camera and len(self._grounds) >= _FRAMES:
            self._settled = camera, note
        extrinsics = frame.extrinsics
        if extrinsics is not None:
            extrinsics = replace(extrinsics, parent_from_child=camera.lidar_from_camera)
        world = frame.world_from_detector
        if world is not None:
            world = world @ frame.camera.lidar_from_camera @ camera.camera_from_lidar
        notes = (*frame.notes, note)
        return replace(
            frame, camera=camera, extrinsics=extrinsics, notes=notes, world_from_detector=world
        )

    def _placed(self, frame: Frame) -> tuple[PinholeCamera, str]:
        height, pitch = self._place.height_m, self._place.pitch_deg
        if height is not None and pitch is not None:
            return _camera(frame, height, pitch, 0.0), _note(height, pitch, "as given")
        grounds = [self._ground(frame)]
        if self._place.one_camera:
            self._grounds += grounds
            grounds = self._grounds
        ground = _median([each for each in grounds if each is not None])
        self._compare(frame, ground)
        if ground is None:
            height, pitch = height or USUAL_HEIGHT_M, pitch or 0.0
            return _camera(frame, height, pitch, 0.0), _note(
                height, pitch, "assumed, no ground found"
            )
        how = "estimated" if height is None and pitch is None else "partly estimated"
        height = ground.height_m if height is None else height
        pitch = ground.pitch_deg if pitch is None else pitch
        return _camera(frame, height, pitch, ground.roll_deg), _note(height, pitch, how)

    def _ground(self, frame: Frame) -> Ground | None:
        points = self._answer(frame).points[:, :3]
        matrix = frame.camera.camera_from_lidar
        ground = fit_ground(points @ matrix[:3, :3].T + matrix[:3, 3])
        return ground if ground and _LOWEST_M <= ground.height_m <= _HIGHEST_M else None

    def _answer(self, frame: Frame) -> Detections:
        """What the detector says of the frame with the camera where the source has put it."""
        if self._store is None:
            return self._detector(frame.image, frame.camera)
        named = replace(frame, name=f"{frame.name}.unplaced")
        found = self._store.read(named)
        if found is None:
            found = self._detector(frame.image, frame.camera)
            self._store.write(named, found)
        return found

    def _compare(self, frame: Frame, ground: Ground | None) -> None:
        given = self._place.height_m
        if ground is None or given is None:
            return
        factor = ground.height_m / given
        if abs(factor - 1) > _HEIGHT_TOLERANCE:
            self._warn(
                f"{frame.name}: the model sees the ground {ground.height_m:.2f} m below the "
                f"camera, and --camera-height says {given:g}: distances may be "
                f"{max(factor, 1 / factor):.1f} times too {'long' if factor > 1 else 'short'}",
                "height",
            )


def _median(grounds: list[Ground]) -> Ground | None:
    if not grounds:
        return None
    numbers = np.median(
        [(each.height_m, each.pitch_deg, each.roll_deg, each.share) for each in grounds], 0
    )
    return Ground(*numbers.tolist())


def _camera(frame: Frame, height_m: float, pitch_deg: float, roll_deg: float) -> PinholeCamera:
    pose = level_lidar_from_camera(up_in_camera(pitch_deg, roll_deg), height_m)
    return replace(frame.camera, lidar_from_camera=pose)


def _note(height_m: float, pitch_deg: float, how: str) -> str:
    way = "down" if pitch_deg >= 0 else "up"
    return f"camera {height_m:.2f} m high, {abs(pitch_deg):.1f} deg {way}: {how}"
