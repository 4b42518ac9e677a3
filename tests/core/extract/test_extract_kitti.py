"""KITTI's own frames through a recording and back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import lens_grid
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from small_recording import MS, START_NS, cloud, static, write

from kd3d_core.data.bag import BagReader, BagWriter, typestore
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import write_kitti_bag
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract
from kd3d_core.messages.types import CameraInfo, CompressedImage, Image

# Sharp colours, as at the borders of signs, suffer most where four pixels share one.
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
FEW = [f"{number:06d}" for number in range(4)]


@pytest.fixture(scope="module")
def few(tracking: KittiDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of the first frames."""
    path = tmp_path_factory.mktemp("bags") / "kitti"
    write_kitti_bag(tracking.subset(FEW), path, 10.0)
    return path


def assert_same_frames(out: Path, source: KittiDataset) -> None:
    """Identical images, points bit for bit, calibration to 1e-6."""
    dataset = KittiDataset(out)
    assert dataset.names == source.names
    for frame, original in zip(dataset, source, strict=True):
        np.testing.assert_array_equal(frame.image(), original.image())
        assert frame.points().tobytes() == original.points().tobytes()
        assert_same_camera(frame, original)


def assert_same_camera(frame, original) -> None:
    ours, theirs = frame.camera(), original.camera()
    np.testing.assert_allclose(ours.projection, theirs.projection, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.lidar_from_camera, theirs.lidar_from_camera, atol=1e-6)


@pytest.mark.slow
def test_all_frames_of_a_sequence(tracking: KittiDataset, tmp_path: Path) -> None:
    write_kitti_bag(tracking, tmp_path / "bag", 10.0)
    report = extract([tmp_path / "bag"], tmp_path / "out", ExtractConfig(), workers=2).report
    assert report is not None
    ((camera,),) = [recording.cameras for recording in report.recordings]
    assert {tally.used for tally in camera.tallies.values()} == {31}
    assert not any(tally.skipped or tally.rejected for tally in camera.tallies.values())
    assert {frame.offset_s for frame in camera.frames} == {0.0}
    assert_same_frames(tmp_path / "out", tracking)


def test_labels_are_those_in_the_image(tracking: KittiDataset, few: Path, tmp_path: Path) -> None:
    extract([few], tmp_path / "out", ExtractConfig())
    for frame, original in zip(KittiDataset(tmp_path / "out"), tracking.subset(FEW), strict=True):
        wanted = {label.location: label for label in original.objects()}
        assert len(frame.labels()) == len(wanted) > 0
        for label in frame.labels():
            nearest = min(
                wanted, key=lambda place: np.linalg.norm(np.subtract(place, label.location))
            )
            assert label.type == wanted[nearest].type
            np.testing.assert_allclose(label.location, nearest, atol=0.02)
            np.testing.assert_allclose(label.dimensions, wanted[nearest].dimensions, atol=0.01)
            turn = (label.rotation_y - wanted[nearest].rotation_y + np.pi) % (2 * np.pi) - np.pi
            assert abs(turn) < 0.02


def copy_ros2(source: Path, target: Path) -> Path:
    """The same messages in SQLite."""
    with (
        BagReader(source) as reader,
        Ros2Writer(target, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        connections = {
            topic.name: writer.add_connection(
                topic.name, topic.type, typestore=typestore((topic.type,))
            )
            for topic in reader.topics.values()
        }
        for raw in reader.messages():
            writer.write(connections[raw.topic], raw.stamp_ns, raw.data)
    return target


def copy_ros1(source: Path, target: Path) -> Path:
    """The same messages in a ROS 1 bag, whose headers have a number more; without labels."""
    store = get_typestore(Stores.ROS1_NOETIC)
    tf = "tf2_msgs/msg/TFMessage"
    store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", tf))
    target = target.with_suffix(".bag")
    with BagReader(source) as reader, Ros1Writer(target) as writer:
        names = [topic.name for topic in reader.topics.values() if "vision" not in topic.type]
        connections = {}
        for name in names:
            kind = reader.topics[name].type
            connections[name] = writer.add_connection(name, kind, typestore=store)
        for raw in reader.messages(names):
            ours = typestore((raw.type,)).deserialize_cdr(raw.data, raw.type)
            writer.write(connections[raw.topic], raw.stamp_ns, as_ros1(store, ours, raw.type))
    return target


def as_ros1(store, message, name: str) -> bytes:
    """A message's bytes in ROS 1: the same fields, but for names and the header's number."""

    def converted(value, kind: str):
        if kind == "std_msgs/msg/Header":
            return store.types[kind](seq=0, stamp=value.stamp, frame_id=value.frame_id)
        fields = {}
        for field, (node, detail) in store.fielddefs[kind][1]:
            inner = getattr(value, field if hasattr(value, field) else field.lower())
            if int(node) == 2:
                inner = converted(inner, detail)
            elif int(node) in (3, 4) and int(detail[0][0]) == 2:
                inner = [converted(each, detail[0][1]) for each in inner]
            fields[field] = inner
        return store.types[kind](**fields)

    return bytes(store.serialize_ros1(converted(message, name), name))


@pytest.mark.parametrize("copy", [copy_ros2, copy_ros1])
def test_other_kinds_of_recordings(
    tracking: KittiDataset, few: Path, tmp_path: Path, copy: Callable[[Path, Path], Path]
) -> None:
    extract([copy(few, tmp_path / "copy")], tmp_path / "out", ExtractConfig())
    assert_same_frames(tmp_path / "out", tracking.subset(FEW))


def as_jpeg(image: Image) -> CompressedImage:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image.rgb()[..., ::-1]), JPEG)
    return CompressedImage(image.stamp_ns, image.frame_id, "jpeg", data)


def as_bayer(image: Image) -> Image:
    """As a sensor takes it: one colour for each pixel."""
    rgb = image.rgb()
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    return replace(image, encoding="bayer_rggb8", step=image.width, data=mosaic.reshape(-1))


def as_nv12(image: Image) -> Image:
    """Y of each pixel, then U and V of four; of an even number of rows and columns, the first."""
    rgb = np.ascontiguousarray(image.rgb()[: image.height // 2 * 2, : image.width // 2 * 2])
    height, width, _ = rgb.shape
    planar = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    y, uv = planar[: height * width], planar[height * width :].reshape(2, -1)
    data = np.concatenate([y, uv.T.reshape(-1)])
    return replace(image, height=height, width=width, encoding="nv12", step=width, data=data)


@pytest.mark.parametrize(
    ("change", "psnr_db"),
    [(as_jpeg, 35), (as_bayer, 25), (as_nv12, 26)],
    ids=["jpeg", "bayer", "nv12"],
)
def test_other_kinds_of_images(
    tracking: KittiDataset,
    few: Path,
    tmp_path: Path,
    change: Callable[[Image], Image | CompressedImage],
    psnr_db: float,
) -> None:
    """What a mosaic or shared colours lose is lost at borders; the rest is as it was."""
    suffix = "/compressed" if change is as_jpeg else ""
    with BagReader(few) as reader, BagWriter(tmp_path / "bag") as writer:
        for topic in reader.topics.values():
            is_image = topic.type == Image.ros_type
            kind = CompressedImage.ros_type if is_image and suffix else topic.type
            writer.add_topic(topic.name + (suffix if is_image else ""), kind)
        for raw in reader.messages():
            message = reader.decode(raw)
            if isinstance(message, Image):
                writer.write(raw.topic + suffix, raw.stamp_ns, change(message))
            elif isinstance(message, CameraInfo) and change is as_nv12:
                height, width = message.height // 2 * 2, message.width // 2 * 2
                smaller = replace(message, height=height, width=width)
                writer.write(raw.topic, raw.stamp_ns, smaller)
            else:
                writer.write(raw.topic, raw.stamp_ns, raw.data)
    extract([tmp_path / "bag"], tmp_path / "out", ExtractConfig())
    dataset = KittiDataset(tmp_path / "out")
    assert dataset.names == tuple(FEW)
    for frame, original in zip(dataset, tracking.subset(FEW), strict=True):
        image = frame.image()
        height, width, _ = image.shape
        assert cv2.PSNR(image, original.image()[:height, :width]) > psnr_db
        assert frame.points().tobytes() == original.points().tobytes()
        assert_same_camera(frame, original)


def test_an_equidistant_lens(tmp_path: Path) -> None:
    """A grid that the lens bends is straight in the data set, to half a pixel."""
    bent = lens_grid.camera("equidistant")
    lens = bent.distortion
    assert lens is not None
    size = lens_grid.HEIGHT, lens_grid.WIDTH
    matrices = lens.intrinsics, lens.rectified_from_raw, bent.projection
    k, r, p = (matrix.reshape(-1) for matrix in matrices)
    recorded, pixels = [static(START_NS)], lens_grid.raw_grid(lens)
    for number in range(3):
        stamp = START_NS + number * 100 * MS
        info = CameraInfo(
            stamp, "camera", *size, "equidistant", np.array(lens.coefficients), k, r, p
        )
        recorded += [
            ("/camera/camera_info", stamp, info),
            ("/camera/image_raw", stamp, Image.from_rgb(pixels, stamp, "camera")),
            ("/points", stamp, cloud(number, stamp)),
        ]
    extract([write(tmp_path / "bag", recorded)], tmp_path / "out", ExtractConfig())
    dataset = KittiDataset(tmp_path / "out")
    assert len(dataset) == 3
    for frame in dataset:
        lens_grid.assert_straight(frame.image())
        np.testing.assert_allclose(frame.camera().projection, lens_grid.PROJECTION, atol=1e-6)
