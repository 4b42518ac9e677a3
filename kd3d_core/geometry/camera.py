"""PinholeCamera: how a rectified image, its raw original and the detector frame belong together.

Pixel (u, v) has its centre at exactly (u, v), as in OpenCV and KITTI. Depth is the third
homogeneous coordinate of the projection, the distance along the optical axis, in metres.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.points import Array, array_module, matching

KITTI_LIDAR_HEIGHT = 1.73
"""Height in metres of KITTI's velodyne over the ground, which the anchors assume."""

_PINHOLE_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,)}
_FISHEYE_MODELS = {"equidistant": (4,), "fisheye": (4,)}


class CameraInfoLike(Protocol):
    """The fields of `sensor_msgs/CameraInfo` that matter here, from rclpy or from a bag."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def distortion_model(self) -> str: ...
    @property
    def d(self) -> Any: ...
    @property
    def k(self) -> Any: ...
    @property
    def r(self) -> Any: ...
    @property
    def p(self) -> Any: ...


@dataclass(frozen=True, eq=False)
class Distortion:
    """The raw image behind a rectified camera.

    Attributes:
        model: `plumb_bob`, `rational_polynomial` or `equidistant` (ROS names).
        coefficients: `(C,)`, in OpenCV's order.
        intrinsics: 3x3 of the raw image.
        rectified_from_raw: 3x3 rotation of rays, CameraInfo's R.
    """

    model: str
    coefficients: np.ndarray
    intrinsics: np.ndarray
    rectified_from_raw: np.ndarray

    def __post_init__(self) -> None:
        counts = (_PINHOLE_MODELS | _FISHEYE_MODELS).get(self.model)
        if counts is None:
            known = ", ".join(_PINHOLE_MODELS | _FISHEYE_MODELS)
            raise CalibrationError(
                f"distortion model {self.model!r} is unknown: use one of {known}, "
                "or publish a rectified image"
            )
        coefficients = _finite("D", self.coefficients, None)
        if len(coefficients) not in counts:
            raise CalibrationError(
                f"D has {len(coefficients)} coefficients, {self.model} has "
                f"{' or '.join(map(str, counts))}"
            )
        object.__setattr__(self, "coefficients", coefficients)
        intrinsics = _finite("K", self.intrinsics, (3, 3))
        _check_focal("K", intrinsics)
        object.__setattr__(self, "intrinsics", intrinsics)
        rotation = _finite("R", self.rectified_from_raw, (3, 3))
        _check_rotation("R", rotation)
        object.__setattr__(self, "rectified_from_raw", rotation)

    def is_identity(self, projection: np.ndarray) -> bool:
        """Whether the raw image is the rectified one of a 3x4 projection already."""
        return (
            not self.coefficients.any()
            and np.allclose(self.intrinsics, projection[:, :3], rtol=1e-6)
            and np.allclose(self.rectified_from_raw, np.eye(3), atol=1e-9)
        )

    def raw_pixels(self, rays: np.ndarray) -> np.ndarray:
        """Where rays of the rectified camera fall in the raw image.

        Args:
            rays: `(..., 3)` in the rectified camera frame, z > 0.

        Returns:
            `(..., 2)` pixels of the raw image.
        """
        rays = rays @ self.rectified_from_raw  # its transpose, applied to rows
        x, y = rays[..., 0] / rays[..., 2], rays[..., 1] / rays[..., 2]
        c = self.coefficients
        r2 = x * x + y * y
        if self.model in _FISHEYE_MODELS:
            r = np.sqrt(r2)
            theta = np.arctan(r)
            t2 = theta * theta
            bent = theta * (1 + t2 * (c[0] + t2 * (c[1] + t2 * (c[2] + t2 * c[3]))))
            scale = np.divide(bent, r, out=np.ones_like(r), where=r > 1e-9)
            x, y = x * scale, y * scale
        else:
            k = np.zeros(8)
            k[: len(c)] = c
            radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (
                1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
            )
            x, y = (
                x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x),
                y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y,
            )
        matrix = self.intrinsics
        return np.stack(
            [matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]],
            -1,
        )


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """A camera as the detector needs it. Checked when made; `CalibrationError` if it can't be.

    Attributes:
        projection: 3x4 float64, from the camera frame to the *rectified* image, CameraInfo's P.
        width: image width in pixels.
        height: image height in pixels.
        lidar_from_camera: 4x4 float64, from the camera's optical frame to the detector frame.
        distortion: the raw image, when frames arrive unrectified; None when they are rectified.
    """

    projection: np.ndarray
    width: int
    height: int
    lidar_from_camera: np.ndarray
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        projection = _finite("P", self.projection, (3, 4))
        _check_focal("P", projection)
        if not np.allclose(projection[2, :3], (0, 0, 1), atol=1e-6):
            raise CalibrationError(
                f"P's last row is {projection[2].tolist()}, not [0, 0, 1, tz]: no pinhole camera"
            )
        if self.width <= 0 or self.height <= 0:
            raise CalibrationError(f"image size {self.width} x {self.height} is not positive")
        pose = _finite("lidar_from_camera", self.lidar_from_camera, (4, 4))
        _check_rotation("lidar_from_camera", pose[:3, :3])
        if not np.allclose(pose[3], (0, 0, 0, 1)):
            raise CalibrationError(f"lidar_from_camera's last row is {pose[3].tolist()}")
        object.__setattr__(self, "projection", projection)
        object.__setattr__(self, "lidar_from_camera", pose)

    @classmethod
    def from_kitti(
        cls, path: Path | str, width: int, height: int, camera: int = 2
    ) -> "PinholeCamera":
        """Camera of a KITTI calibration file (object or tracking layout), images rectified."""
        matrices = read_kitti_calib(path)
        try:
            rectified, velo_to_cam = np.eye(4), np.eye(4)
            rectified[:3, :3] = _entry(matrices, "R0_rect", (3, 3))
            velo_to_cam[:3] = _entry(matrices, "Tr_velo_to_cam", (3, 4))
            pose = np.linalg.inv(rectified @ velo_to_cam)
            return cls(_entry(matrices, f"P{camera}", (3, 4)), width, height, pose)
        except np.linalg.LinAlgError:
            raise CalibrationError(f"{path}: R0_rect or Tr_velo_to_cam is no rotation") from None
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from None

    @classmethod
    def from_camera_info(
        cls, info: CameraInfoLike, lidar_from_camera: np.ndarray, rectified: bool = True
    ) -> "PinholeCamera":
        """Camera of a `sensor_msgs/CameraInfo`.

        Args:
            info: the message, or anything with its fields.
            lidar_from_camera: 4x4 from the optical frame to the detector frame.
            rectified: whether the images are rectified already. If so only P counts; bags made
                from KITTI carry the unrectified K and D beside rectified images. If not, K, D and
                R tell how to rectify them. A P of zeros (uncalibrated drivers, monocular
                calibrations) is replaced by K.
        """
        projection = np.array(info.p, np.float64).reshape(-1)
        if projection.size != 12 or not projection.any():
            projection = np.column_stack([_finite("K", info.k, (3, 3)), np.zeros(3)])
        distortion = None
        if not rectified:
            coefficients = np.array(info.d, np.float64).reshape(-1)
            rotation = np.array(info.r, np.float64).reshape(-1)
            raw = Distortion(
                info.distortion_model if coefficients.size else "plumb_bob",
                coefficients if coefficients.size else np.zeros(5),
                np.array(info.k),
                rotation if rotation.any() else np.eye(3),
            )
            distortion = None if raw.is_identity(projection.reshape(3, 4)) else raw
        return cls(projection, int(info.width), int(info.height), lidar_from_camera, distortion)

    @property
    def camera_from_lidar(self) -> np.ndarray:
        """4x4 from the detector frame to the camera's optical frame."""
        return np.linalg.inv(self.lidar_from_camera)

    @property
    def image_from_lidar(self) -> np.ndarray:
        """3x4 from the detector frame to homogeneous pixels of the rectified image."""
        return self.projection @ self.camera_from_lidar

    @property
    def focal_px(self) -> float:
        """Horizontal focal length in pixels."""
        return float(self.projection[0, 0])

    def resized(self, scale: float) -> "PinholeCamera":
        """The camera of the rectified image scaled by `scale` in both directions."""
        shift = 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
        return replace(
            self,
            projection=matrix @ self.projection,
            width=int(self.width * scale),  # rounded down, as `interpolate` does
            height=int(self.height * scale),
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> "PinholeCamera":
        """The camera of a window of the rectified image; it may reach over the border."""
        matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
        return replace(self, projection=matrix @ self.projection, width=width, height=height)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels `(N, 2)` and depths `(N,)` of detector-frame points `(N, 3+)`.

        Points behind the camera have a depth that is not positive and pixels without meaning.
        """
        matrix = matching(self.image_from_lidar, points)
        homogeneous = points[:, :3] @ matrix[:, :3].T + matrix[:, 3]
        depth = homogeneous[:, 2]
        return homogeneous[:, :2] / depth[:, None], depth

    def unproject(self, pixels: Array, depth: Array) -> Array:
        """Detector-frame points `(N, 3)` at pixels `(N, 2)` and depths `(N,)`, metres."""
        ray, origin = self.rays
        xp = array_module(pixels)
        homogeneous = xp.stack([pixels[:, 0] * depth, pixels[:, 1] * depth, depth], -1)
        return homogeneous @ matching(ray.T, pixels) + matching(origin, pixels)

    @property
    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """`(3x3, 3)` with `point_lidar = ray @ (depth * [u, v, 1]) + origin`.

        Inverts the projection exactly, fourth column included (KITTI's camera 2 sits 6 cm beside
        the frame that its points are given in).
        """
        inverse = np.linalg.inv(self.projection[:, :3])
        rotation = self.lidar_from_camera[:3, :3]
        origin = self.lidar_from_camera[:3, 3] - rotation @ inverse @ self.projection[:, 3]
        return rotation @ inverse, origin


def virtual_lidar_from_camera(camera_height: float) -> np.ndarray:
    """Detector frame for a robot without a LiDAR: level, and over the ground as KITTI's.

    Args:
        camera_height: height of the camera over the ground, metres.

    Returns:
        4x4 `lidar_from_camera` with the default rotation between an optical frame and x forward,
        y left, z up (REP 103), for a camera that looks straight ahead.
    """
    if not 0 < camera_height < 100:
        raise CalibrationError(f"camera_height is {camera_height} m: give metres over the ground")
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    matrix[2, 3] = camera_height - KITTI_LIDAR_HEIGHT
    return matrix


def rectification_grid(camera: PinholeCamera) -> np.ndarray:
    """`(H, W, 2)` float32 for `grid_sample(align_corners=True)`: where in the raw image each pixel
    of the rectified image comes from."""
    assert camera.distortion is not None
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    homogeneous = np.stack([u, v, np.ones_like(u)], -1).astype(np.float64)
    rays = homogeneous @ np.linalg.inv(camera.projection[:, :3]).T
    raw = camera.distortion.raw_pixels(rays)
    span = np.array([camera.width - 1, camera.height - 1])
    return (raw / span * 2 - 1).astype(np.float32)


def read_kitti_calib(path: Path | str) -> dict[str, np.ndarray]:
    """The lines `name: numbers` of a KITTI calibration file; `name numbers` is read too."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from None
    matrices: dict[str, np.ndarray] = {}
    aliases = {"R_rect": "R0_rect", "Tr_velo_cam": "Tr_velo_to_cam"}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, values = line.replace(":", " ", 1).strip().partition(" ")
        if not name:
            continue
        try:
            matrix = np.array(values.split(), np.float64)
        except ValueError:
            raise CalibrationError(f"{path}:{number}: {name} is not a row of numbers") from None
        matrices[aliases.get(name, name)] = matrix
    return matrices


def _entry(matrices: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in matrices:
        raise CalibrationError(f"there is no line {name}")
    return _finite(name, matrices[name], shape)


def _finite(name: str, value: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    array = np.array(value, np.float64)
    if shape is not None:
        if array.size != np.prod(shape):
            raise CalibrationError(f"{name} has {array.size} numbers, {np.prod(shape)} are needed")
        array = array.reshape(shape)
    if not np.isfinite(array).all():
        raise CalibrationError(f"{name} has values that are not finite: {array.tolist()}")
    array.setflags(write=False)
    return array


def _check_focal(name: str, matrix: np.ndarray) -> None:
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CalibrationError(
            f"{name}'s focal lengths are {matrix[0, 0]:g} and {matrix[1, 1]:g}: "
            "they must be positive; calibrate the camera or fix its CameraInfo"
        )


def _check_rotation(name: str, rotation: np.ndarray) -> None:
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > 1e-3 or np.linalg.det(rotation) < 0:
        raise CalibrationError(f"{name} is no rotation: it is {error:.2g} off orthonormal")
