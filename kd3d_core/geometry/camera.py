"""PinholeCamera: how a rectified image, its raw original and the detector frame belong together.

Pixel (u, v) has its centre at exactly (u, v), as in OpenCV and KITTI. Depth is the third
homogeneous coordinate of the projection, the distance along the optical axis, in metres.
"""

from dataclasses import dataclass, replace

import numpy as np

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.checks import check_intrinsics, check_rotation, finite
from kd3d_core.geometry.lens import Distortion
from kd3d_core.geometry.points import Array, array_module, matching

# What `check_view` lets pass. Rectified images of the widest lenses show 140 degrees or so.
_WIDEST_DEG, _NARROWEST_DEG, _ASPECT = 80.0, 1.0, 5.0
# At least this share of a rectified image must come from the raw one, not mirrored. Wide lenses
# leave black borders, but most of the image is picture.
_SMALLEST_SHARE = 0.25
# How far P's fourth column may move a camera along x, y and z: to the other end of a stereo rig.
_FARTHEST_STEREO_M = np.array([10.0, 10.0, 1.0])
_FARTHEST_FRAME_M = 1000.0


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
        projection = finite("P", self.projection, (3, 4))
        check_intrinsics("P", projection)
        if not np.allclose(projection[2, :3], (0, 0, 1), atol=1e-6):
            raise CalibrationError(
                f"P's last row is {projection[2].tolist()}, not [0, 0, 1, tz]: no pinhole camera"
            )
        baseline = np.linalg.solve(projection[:, :3], projection[:, 3])
        if not (np.abs(baseline) <= _FARTHEST_STEREO_M).all():
            raise CalibrationError(
                f"P's last column {_numbers(projection[:, 3])} would move the camera by "
                f"{_numbers(baseline)} m, {_numbers(_FARTHEST_STEREO_M)} are possible: a stereo "
                "camera has -focal length x baseline in metres there, any other has 0"
            )
        if self.width <= 0 or self.height <= 0:
            raise CalibrationError(f"image size {self.width} x {self.height} is not positive")
        pose = finite("lidar_from_camera", self.lidar_from_camera, (4, 4))
        check_rotation("lidar_from_camera", pose[:3, :3])
        if not np.allclose(pose[3], (0, 0, 0, 1)):
            raise CalibrationError(f"lidar_from_camera's last row is {pose[3].tolist()}")
        if np.abs(pose[:3, 3]).max() > _FARTHEST_FRAME_M:
            raise CalibrationError(
                f"lidar_from_camera's translation is {_numbers(pose[:3, 3])}, at most "
                f"{_FARTHEST_FRAME_M:g} m are possible: give metres, and a frame near the camera"
            )
        object.__setattr__(self, "projection", projection)
        object.__setattr__(self, "lidar_from_camera", pose)

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

    def check_view(self) -> None:
        """Refuse a view that no camera has, before anything is computed for it.

        Readers of files and messages call this; windows that reach over an image's border are
        cameras too, and may see more.

        Raises:
            CalibrationError: the image's edges lie more than 80 degrees off the optical axis, it
                shows less than one degree, the principal point lies more than the image's size
                beyond its border, one focal length is more than five times the other, or distortion
                leaves less than a quarter of the rectified image.

        >>> projection = np.array([[30.0, 0, 960, 0], [0, 30, 540, 0], [0, 0, 1, 0]])
        >>> PinholeCamera(projection, 1920, 1080, np.eye(4)).check_view()
        Traceback (most recent call last):
        ...
        kd3d_core.errors.CalibrationError: focal length 30 x 30 px and principal point (960, 540) \
can't be of an image of 1920 x 1080: its edges would lie 88 degrees off the optical axis, 80 are \
possible; calibrate the camera at this size
        """
        focal, center = np.diag(self.projection)[:2], self.projection[:2, 2]
        size = np.array([self.width, self.height])
        first, last = np.degrees(np.arctan(np.stack([-0.5 - center, size - 0.5 - center]) / focal))
        off_axis, narrowest = np.abs([first, last]).max(), (last - first).min()
        if (center < -size).any() or (center > 2 * size).any():
            reason = "its principal point would lie far beyond the image"
        elif off_axis > _WIDEST_DEG:
            reason = (
                f"its edges would lie {off_axis:.0f} degrees off the optical axis, "
                f"{_WIDEST_DEG:g} are possible"
            )
        elif narrowest < _NARROWEST_DEG:
            reason = f"it would show {narrowest:.2g} degrees only"
        elif not 1 / _ASPECT < focal[0] / focal[1] < _ASPECT:
            reason = "its focal lengths differ too much"
        else:
            self._check_lens()
            return
        raise CalibrationError(
            f"focal length {focal[0]:g} x {focal[1]:g} px and principal point "
            f"({center[0]:g}, {center[1]:g}) can't be of an image of {self.width} x {self.height}: "
            f"{reason}; calibrate the camera at this size"
        )

    def _check_lens(self) -> None:
        if self.distortion is None:
            return
        columns, rows = (np.linspace(0, side - 1, 33) for side in (self.width, self.height))
        with np.errstate(all="ignore"):  # coefficients may be anything
            places = _raw_places(self, columns, rows)
            right, down = np.diff(places, axis=1)[:-1], np.diff(places, axis=0)[:, :-1]
            upright = right[..., 0] * down[..., 1] > right[..., 1] * down[..., 0]
            upright &= right @ right[16, 16] > 0  # as in the middle: not folded over
            share = ((np.abs(places[:-1, :-1]) <= 1).all(-1) & upright).mean()
        if share < _SMALLEST_SHARE:
            raise CalibrationError(
                f"distortion {self.distortion.model} {_numbers(self.distortion.coefficients)} "
                f"can't be of an image of {self.width} x {self.height}: {share:.0%} of the "
                f"rectified image would show something, {_SMALLEST_SHARE:.0%} must; calibrate the "
                "camera at this size"
            )

    def has_lens_of(self, other: "PinholeCamera") -> bool:
        """Whether raw images of both are rectified alike, wherever the cameras are.

        >>> projection = np.array([[500.0, 0, 319.5, 0], [0, 500, 239.5, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 640, 480, np.eye(4))
        >>> camera.has_lens_of(replace(camera, lidar_from_camera=np.diag([-1.0, -1, 1, 1])))
        True
        >>> camera.has_lens_of(camera.resized(0.5))
        False
        """
        return (
            (self.width, self.height) == (other.width, other.height)
            and np.array_equal(self.projection, other.projection)
            and self.distortion is other.distortion
        )

    def turned(self, new_from_old: np.ndarray) -> "PinholeCamera":
        """The camera turned about its centre, seen through the same lens.

        Args:
            new_from_old: 3x3 rotation, from the old optical axes to the new.

        >>> projection = np.array([[100.0, 0, 50, 0], [0, 100, 50, 0], [0, 0, 1, 0]])
        >>> down = np.array([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
        >>> turned = PinholeCamera(projection, 101, 101, np.eye(4)).turned(down)
        >>> straight_ahead = turned.image_from_lidar @ [0, 0, 1, 1]  # is further up now
        >>> (straight_ahead[:2] / straight_ahead[2]).round(6).tolist()
        [50.0, -25.0]
        """
        lens = self.projection[:, :3]
        center = np.linalg.solve(lens, self.projection[:, 3])
        old_from_new = np.eye(4)
        old_from_new[:3, :3] = new_from_old.T
        return replace(
            self,
            projection=np.column_stack([lens, lens @ new_from_old @ center]),
            lidar_from_camera=self.lidar_from_camera @ old_from_new,
        )

    def resized(self, scale: float) -> "PinholeCamera":
        """The camera of the rectified image scaled by `scale` in both directions.

        Pixel centres stay where they are: `u` becomes `scale * (u + 0.5) - 0.5`.

        >>> projection = np.array([[500.0, 0, 319.5, 0], [0, 500, 239.5, 0], [0, 0, 1, 0]])
        >>> half = PinholeCamera(projection, 640, 480, np.eye(4)).resized(0.5)
        >>> half.width, half.height, half.focal_px, half.projection[0, 2].item()
        (320, 240, 250.0, 159.5)
        """
        shift = 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
        return replace(
            self,
            projection=matrix @ self.projection,
            width=int(self.width * scale),  # rounded down, as `interpolate` does
            height=int(self.height * scale),
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> "PinholeCamera":
        """The camera of a window of the rectified image; it may reach over the border.

        >>> projection = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
        >>> window = PinholeCamera(projection, 640, 480, np.eye(4)).cropped(20, 40, 600, 400)
        >>> window.projection[:2, 2].tolist()
        [300.0, 200.0]
        """
        matrix = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
        return replace(self, projection=matrix @ self.projection, width=width, height=height)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixels `(N, 2)` and depths `(N,)` of detector-frame points `(N, 3+)`.

        Points behind the camera have a depth that is not positive and pixels without meaning.

        >>> projection = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 640, 480, np.eye(4))
        >>> pixels, depth = camera.project(np.array([[1.0, -0.5, 10]]))
        >>> pixels.tolist(), depth.tolist()
        ([[370.0, 215.0]], [10.0])
        """
        matrix = matching(self.image_from_lidar, points)
        homogeneous = points[:, :3] @ matrix[:, :3].T + matrix[:, 3]
        depth = homogeneous[:, 2]
        return homogeneous[:, :2] / depth[:, None], depth

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Mask `(N,)` of the detector-frame points `(N, 3+)` that fall into the image.

        >>> projection = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 640, 480, np.eye(4))
        >>> camera.sees(np.array([[0, 0, 10.0], [0, 0, -10], [20, 0, 10]])).tolist()
        [True, False, False]
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels, depth = self.project(points)
        column, row = pixels.T
        is_across = (column >= -0.5) & (column < self.width - 0.5)
        return (depth > 0) & is_across & (row >= -0.5) & (row < self.height - 0.5)

    def unproject(self, pixels: Array, depth: Array) -> Array:
        """Detector-frame points `(N, 3)` at pixels `(N, 2)` and depths `(N,)`, metres.

        >>> projection = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 640, 480, np.eye(4))
        >>> camera.unproject(np.array([[370.0, 215]]), np.array([10.0])).round(6).tolist()
        [[1.0, -0.5, 10.0]]
        """
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


def rectification_grid(camera: PinholeCamera) -> np.ndarray:
    """Where in the raw image each pixel of the rectified image of a camera comes from.

    `(H, W, 2)` float32 for `grid_sample(align_corners=True)`: column and row, -1 for the first
    pixel and 1 for the last.

    >>> intrinsics = np.array([[5.0, 0, 2, 0], [0, 5, 1, 0], [0, 0, 1, 0]])
    >>> lens = Distortion("plumb_bob", np.zeros(5), intrinsics[:, :3], np.eye(3))
    >>> grid = rectification_grid(PinholeCamera(intrinsics, 5, 3, np.eye(4), lens))
    >>> grid[1].tolist()
    [[-1.0, 0.0], [-0.5, 0.0], [0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    places = _raw_places(camera, np.arange(camera.width), np.arange(camera.height))
    return places.astype(np.float32)


def _raw_places(camera: PinholeCamera, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`(R, C, 2)`: `rectification_grid` at some columns `(C,)` and rows `(R,)` only, in float64."""
    assert camera.distortion is not None
    u, v = np.meshgrid(columns, rows)
    homogeneous = np.stack([u, v, np.ones_like(u)], -1).astype(np.float64)
    rays = homogeneous @ np.linalg.inv(camera.projection[:, :3]).T
    raw = camera.distortion.raw_pixels(rays)
    span = np.array([camera.width - 1, camera.height - 1])
    return raw / span * 2 - 1


def _numbers(values: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
