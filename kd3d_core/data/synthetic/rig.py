"""The sensors of the ego car: where camera and LiDAR sit, and what their calibration file says."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from kd3d_core.data.kitti_writer import calib_text
from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.lens import Distortion
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT

_BASELINES_M = (0.0, -0.54, 0.06, -0.47)
"""Where KITTI's cameras 0 to 3 see camera 0's origin, along x."""
_LIDAR_BEHIND_M, _LIDAR_YAW = 0.27, 0.0075
_LENS_MARGIN = 0.98  # closer to where a lens folds over, inverting it is inexact
_RECTIFICATION = (0.004, -0.009, 0.010)  # Rodrigues vector, like that of KITTI's first day


@dataclass(frozen=True)
class CameraConfig:
    """Intrinsics and place of the camera.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        fx: horizontal focal length in pixels.
        fy: vertical focal length in pixels.
        cx: column of the principal point.
        cy: row of the principal point.
        mount_height: height of the camera over the road in metres.
        pitch_deg: how far it looks down.
        roll_deg: how far it leans to the right.
        distortion: plumb_bob coefficients k1, k2, p1, p2, k3 of a raw image; () for a rectified
            one.
    """

    width: int = 1242
    height: int = 375
    fx: float = 721.5377
    fy: float = 721.5377
    cx: float = 609.5593
    cy: float = 172.854
    mount_height: float = 1.65
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16:
            raise CalibrationError(
                f"image size {self.width} x {self.height}: give at least 16 pixels each way"
            )
        if not (self.fx > 0 and self.fy > 0):
            raise CalibrationError(f"focal lengths {self.fx:g}, {self.fy:g}: they must be positive")
        if not 0.2 < self.mount_height < 5:
            raise CalibrationError(
                f"camera height {self.mount_height:g} m: give metres over the road, 0.2 to 5"
            )
        if abs(self.pitch_deg) > 30 or abs(self.roll_deg) > 30:
            raise CalibrationError(
                f"camera pitch {self.pitch_deg:g}, roll {self.roll_deg:g} degrees: give -30 to 30"
            )
        if self.distortion and len(self.distortion) not in (4, 5):
            raise CalibrationError(
                f"{len(self.distortion)} distortion coefficients: give k1 k2 p1 p2, or k3 too"
            )
        if self.distortion and self._corner_radius > _LENS_MARGIN * _widest_radius(self.distortion):
            raise CalibrationError(
                f"distortion {' '.join(f'{value:g}' for value in self.distortion)}: this lens "
                "doesn't reach the image's corners: give weaker coefficients, or a longer focal "
                "length"
            )

    @property
    def intrinsics(self) -> np.ndarray:
        """3x3 float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    @property
    def _corner_radius(self) -> float:
        """Largest distance of a corner from the principal point, in focal lengths."""
        x = max(self.cx, self.width - 1 - self.cx) / self.fx
        y = max(self.cy, self.height - 1 - self.cy) / self.fy
        return float(np.hypot(x, y))


def _widest_radius(distortion: tuple[float, ...]) -> float:
    """Up to which radius in the raw image, in focal lengths, each pixel has one ray.

    The ray at radius r falls to f(r) = r (1 + k1 r^2 + k2 r^4 + k3 r^6). Where f stops rising, the
    image folds over, and nothing falls beyond. The small tangential terms are left out.
    """
    k1, k2, _, _, k3 = (*distortion, 0.0)[:5]
    squares = np.roots([7 * k3, 5 * k2, 3 * k1, 1])  # r^2 at which f' is 0
    turning = [square.real for square in squares if abs(square.imag) < 1e-9 and square.real > 0]
    if not turning:
        return np.inf
    r2 = min(turning)
    return float(np.sqrt(r2) * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))))


@dataclass(frozen=True)
class RigVariation:
    """How much the camera differs from frame to frame, so that no model relies on one.

    Attributes:
        height: largest difference of its height in metres.
        pitch_deg, roll_deg: standard deviations, as a car's springs and a road's slopes make them.
        focal: largest difference of the focal length, as a share.
    """

    height: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    focal: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("height", 2.0), ("pitch_deg", 10), ("roll_deg", 10), ("focal", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise CalibrationError(
                    f"variation of {name} is {getattr(self, name):g}: give 0 to {most:g}"
                )

    def draw(self, camera: CameraConfig, rng: np.random.Generator) -> CameraConfig:
        """Another camera like `camera`."""
        height, zoom = rng.uniform(-1, 1, 2) * (self.height, self.focal)
        pitch, roll = np.clip(rng.normal(0, 1, 2), -3, 3) * (self.pitch_deg, self.roll_deg)
        return replace(
            camera,
            mount_height=camera.mount_height + float(height),
            fx=camera.fx * float(1 + zoom),
            fy=camera.fy * float(1 + zoom),
            pitch_deg=camera.pitch_deg + float(pitch),
            roll_deg=camera.roll_deg + float(roll),
        )


@dataclass(frozen=True, eq=False)
class Rig:
    """Calibration of camera and LiDAR, in the terms of KITTI's files.

    The LiDAR is level, 1.73 m over the road. The camera looks level too, but for its pitch and
    roll: the small rotations of `rectification` and of `camera_from_lidar` are each other's inverse
    but for a turn about the vertical, as KITTI's nearly are.
    """

    config: CameraConfig = field(default_factory=CameraConfig)

    @property
    def rectification(self) -> np.ndarray:
        """3x3 from the unrectified to the rectified camera 0."""
        return cv2.Rodrigues(np.array(_RECTIFICATION))[0]

    @property
    def rectified_from_lidar(self) -> np.ndarray:
        """4x4 from the LiDAR to the rectified camera 0."""
        cos, sin = np.cos(_LIDAR_YAW), np.sin(_LIDAR_YAW)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        optical = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
        matrix = np.eye(4)
        matrix[:3, :3] = optical @ turn
        drop = KITTI_LIDAR_HEIGHT - self.config.mount_height
        matrix[:3, 3] = (-_BASELINES_M[2], -drop, -_LIDAR_BEHIND_M)
        return self._tilt @ matrix

    @property
    def _tilt(self) -> np.ndarray:
        """4x4 from a level camera to this one: roll about its axis, then pitch."""
        pitch, roll = np.deg2rad([self.config.pitch_deg, self.config.roll_deg])
        tilt = np.eye(4)
        tilt[:3, :3] = (
            cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))[0]
            @ cv2.Rodrigues(np.array([0.0, 0.0, -roll]))[0]
        )
        return tilt

    def projection(self, camera: int) -> np.ndarray:
        """3x4 of one of KITTI's cameras 0 to 3; camera 2 takes the images."""
        offset = np.array([[_BASELINES_M[camera]], [0.0], [0.0]])
        return self.config.intrinsics @ np.hstack([np.eye(3), offset])

    @property
    def rectified_camera(self) -> PinholeCamera:
        """The camera of the rectified image, to which labels belong."""
        return PinholeCamera(
            self.projection(2),
            self.config.width,
            self.config.height,
            np.linalg.inv(self.rectified_from_lidar),
        )

    @property
    def distortion(self) -> Distortion | None:
        """The lens, if the images are raw."""
        if not self.config.distortion:
            return None
        coefficients = np.array(self.config.distortion)
        return Distortion("plumb_bob", coefficients, self.config.intrinsics, np.eye(3))

    @property
    def camera(self) -> PinholeCamera:
        """The camera that takes the images."""
        return replace(self.rectified_camera, distortion=self.distortion)

    def calib_text(self) -> str:
        """KITTI's calibration file."""
        to_camera = np.eye(4)
        to_camera[:3, :3] = self.rectification.T
        velo = (to_camera @ self.rectified_from_lidar)[:3]
        imu = np.hstack([np.eye(3), [[-0.81], [0.32], [-0.80]]])
        entries = {f"P{camera}": self.projection(camera) for camera in range(4)}
        entries |= {
            "R0_rect": self.rectification,
            "Tr_velo_to_cam": velo,
            "Tr_imu_to_velo": imu,
        }
        return calib_text(entries)
