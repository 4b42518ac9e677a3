"""The ROS messages that kd3d reads and writes, as plain data.

They carry what the ROS messages of the same meaning carry, with arrays in place of nested fields.
`stamp_ns` is the header's stamp in nanoseconds, `frame_id` its frame: of cameras, the optical one.
The names of ROS types stand here and nowhere else: `Image.ros_type`, `MARKER_ARRAY`.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kd3d_core.messages.pixels import decode_compressed, decode_rgb, spread_bits, value_bytes

if TYPE_CHECKING:  # it imports torch, which reading bags doesn't need
    from kd3d_core.geometry.camera import PinholeCamera

FLOAT64 = "std_msgs/msg/Float64"
HEADER = "std_msgs/msg/Header"
MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"


@dataclass(frozen=True, eq=False)
class Image:
    """`sensor_msgs/Image`.

    Attributes:
        step: bytes per row.
        data: `(step * height,)` uint8.
    """

    ros_type: ClassVar[str] = "sensor_msgs/msg/Image"
    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    step: int
    data: np.ndarray
    is_bigendian: bool = False

    @classmethod
    def from_rgb(cls, pixels: np.ndarray, stamp_ns: int, frame_id: str) -> "Image":
        """`rgb8` message of `(H, W, 3)` uint8 pixels."""
        height, width, _ = pixels.shape
        data = np.ascontiguousarray(pixels, np.uint8).reshape(-1)
        return cls(stamp_ns, frame_id, height, width, "rgb8", 3 * width, data)

    def rgb(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB, perhaps a view of `data`; `ImageError` as `decode_rgb` has it."""
        return decode_rgb(
            self.height, self.width, self.step, self.encoding, self.data, self.is_bigendian
        )

    def with_bits(self, bits: int) -> "Image":
        """The same image with its 16-bit values, of which a camera uses `bits`, scaled to all 16.

        Images with 8 bits stay as they are. `ImageError` as `spread_bits` and `decode_rgb` have it.
        """
        size = self.step * self.height
        if bits == 16 or value_bytes(self.encoding) != 2 or self.step % 2 or len(self.data) < size:
            return self  # what is wrong with it is said once it is decoded
        values = self.data[:size].view(">u2" if self.is_bigendian else "<u2")
        spread = spread_bits(self.encoding, values, bits)
        return replace(self, data=spread.astype("<u2").view(np.uint8), is_bigendian=False)


@dataclass(frozen=True, eq=False)
class CompressedImage:
    """`sensor_msgs/CompressedImage`.

    Attributes:
        layout: the message's `format`, such as `bgr8; jpeg compressed bgr8`.
        data: `(N,)` uint8, the bytes of a JPEG or PNG file.
    """

    ros_type: ClassVar[str] = "sensor_msgs/msg/CompressedImage"
    stamp_ns: int
    frame_id: str
    layout: str
    data: np.ndarray

    def rgb(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB; `ImageError` as `decode_compressed` has it."""
        return decode_compressed(self.layout, self.data)


@dataclass(frozen=True)
class RegionOfInterest:
    """`sensor_msgs/RegionOfInterest`: the part of the sensor that was read; all zero is all of it.

    `do_rectify` says whether a rectified image has only this part.
    """

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass(frozen=True, eq=False)
class CameraInfo:
    """`sensor_msgs/CameraInfo`; `geometry.camera_info` says what it means for an image.

    Attributes:
        distortion_model: `plumb_bob`, for example.
        d: `(C,)` distortion coefficients.
        k: `(9,)` intrinsics of the raw image.
        r: `(9,)` rotation from raw to rectified rays.
        p: `(12,)` projection into the rectified image.
        binning_x, binning_y: pixels of the sensor that make one of the image; 0 means 1.
        roi: the part of the sensor that was read.
    """

    ros_type: ClassVar[str] = "sensor_msgs/msg/CameraInfo"
    stamp_ns: int
    frame_id: str
    height: int
    width: int
    distortion_model: str
    d: np.ndarray
    k: np.ndarray
    r: np.ndarray
    p: np.ndarray
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = RegionOfInterest()

    @classmethod
    def of_camera(cls, camera: "PinholeCamera", stamp_ns: int, frame_id: str) -> "CameraInfo":
        """Message of a camera: of its raw images where it has a distortion, else rectified ones."""
        raw = camera.distortion
        return cls(
            stamp_ns,
            frame_id,
            camera.height,
            camera.width,
            "plumb_bob" if raw is None else raw.model,
            np.zeros(5) if raw is None else raw.coefficients.copy(),
            (camera.projection[:, :3] if raw is None else raw.intrinsics).reshape(9).copy(),
            (np.eye(3) if raw is None else raw.rectified_from_raw).reshape(9).copy(),
            camera.projection.reshape(12).copy(),
        )


@dataclass(frozen=True, eq=False)
class PointCloud:
    """`sensor_msgs/PointCloud2` with its x, y, z, intensity and time.

    Attributes:
        points: `(N, 4)` float32: x, y, z in metres, intensity from 0 to 1 (0 where the cloud has
            none).
        rgb: `(N, 3)` uint8 colour of each point; None where the cloud has none.
        times_s: `(N,)` float64: when each point was measured, seconds after the header stamp
            (before it where negative); None where the cloud doesn't say.
        not_finite, zero: points that were recorded but measure nothing, and are not in `points`:
            a coordinate isn't finite, or all three are 0.
    """

    ros_type: ClassVar[str] = "sensor_msgs/msg/PointCloud2"
    stamp_ns: int
    frame_id: str
    points: np.ndarray
    times_s: np.ndarray | None = None
    not_finite: int = 0
    zero: int = 0
    rgb: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Transform:
    """`geometry_msgs/TransformStamped`.

    Attributes:
        parent: frame into which the matrix takes points (`header.frame_id`).
        child: frame from which it takes them (`child_frame_id`).
        parent_from_child: 4x4 rigid transform.
    """

    stamp_ns: int
    parent: str
    child: str
    parent_from_child: np.ndarray


@dataclass(frozen=True, eq=False)
class Transforms:
    """`tf2_msgs/TFMessage`."""

    ros_type: ClassVar[str] = "tf2_msgs/msg/TFMessage"
    transforms: tuple[Transform, ...]


@dataclass(frozen=True, eq=False)
class Odometry:
    """`nav_msgs/Odometry` without its velocities and covariances.

    Attributes:
        transform: where its `child_frame_id` is in the frame of its header.
    """

    ros_type: ClassVar[str] = "nav_msgs/msg/Odometry"
    transform: Transform


@dataclass(frozen=True, eq=False)
class ObjectBoxes:
    """`vision_msgs/Detection3DArray`, each detection with its best hypothesis.

    Attributes:
        boxes: `(N, 7)` float32, bottom centres, as in `kd3d_core.geometry.boxes`.
        scores: `(N,)` float64.
        frame_from_boxes: 4x4 from the frame in which boxes are upright into `frame_id`; None if
            that is it.
        covariances: `(N, 6, 6)` of x, y, z (m) and the turns about them (rad), in the boxes' own
            frame; 0 where it isn't known, None if it is nowhere.
        ids: `(N,)` of the objects, the same over time; empty for one that isn't followed, or if
            none is.
        velocities: `(N, 3)` metres per second in the boxes' frame, NaN where it isn't known; None
            if it is nowhere. The message has no place for them, markers show them.
    """

    ros_type: ClassVar[str] = "vision_msgs/msg/Detection3DArray"
    stamp_ns: int
    frame_id: str
    boxes: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray
    frame_from_boxes: np.ndarray | None = None
    covariances: np.ndarray | None = None
    ids: tuple[str, ...] = ()
    velocities: np.ndarray | None = None

    @property
    def captions(self) -> tuple[str, ...]:
        """What pictures and markers write above each box: class, id if there is one, score.

        >>> box = np.zeros((1, 7), np.float32)
        >>> ObjectBoxes(0, "velodyne", box, ("Car",), np.array([0.9]), ("12",)).captions
        ('Car 12 0.90',)
        """
        ids = self.ids or ("",) * len(self.names)
        return tuple(
            " ".join(filter(None, (name, number, f"{score:.2f}")))
            for name, number, score in zip(self.names, ids, self.scores.tolist(), strict=True)
        )

    def select(self, index: np.ndarray) -> "ObjectBoxes":
        """Those at some places `(M,)`, in that order."""
        names = tuple(self.names[each] for each in index.tolist())
        return replace(
            self,
            boxes=self.boxes[index],
            names=names,
            scores=self.scores[index],
            covariances=None if self.covariances is None else self.covariances[index],
            ids=tuple(self.ids[each] for each in index.tolist()) if self.ids else (),
            velocities=None if self.velocities is None else self.velocities[index],
        )


Message = Image | CompressedImage | CameraInfo | PointCloud | Transforms | Odometry | ObjectBoxes
