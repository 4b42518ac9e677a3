"""The node with a fake detector, in one process, over DDS: what it takes, and what it tells."""

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector
from node_helpers import LATCHED, SENSOR, camera_info, image_message, stamp_of
from node_setup import Start
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.card import ONLY_RENDERED, ModelCard, TrainingFrames
from kd3d_ros import placement


def test_results_of_one_image(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector)
    setup.connect()
    setup.info(focal=55.0)
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    setup.send(image_message(pixels, "bgr8", stamp=12.25))
    camera = setup.camera
    setup.spinner.until("results", lambda: camera.points and camera.detections and camera.markers)
    (seen, seen_camera), *others = detector.calls
    assert not others
    np.testing.assert_array_equal(seen, pixels[..., ::-1])
    assert seen_camera.focal_px == 55
    np.testing.assert_array_equal(seen_camera.lidar_from_camera, virtual_lidar_from_camera(1.65))
    for message in (camera.points[0], camera.detections[0], *camera.markers[0].markers):
        assert stamp_of(message) == (12, 250_000_000)
        assert message.header.frame_id == "kd3d_lidar"
    assert setup.node.counters.processed == 1


def test_first_image_waits_for_its_camera_info(start: Start) -> None:
    setup = start()
    setup.connect()
    setup.camera.images.publish(image_message())
    setup.spinner.until("the image", lambda: setup.node.counters.received == 1)
    setup.info()
    setup.spinner.until("the image is processed", lambda: setup.node.counters.processed == 1)


BAD_IMAGES = {
    "wrong_step": {"step": 64},
    "short_data": {"height": 49},
    "unknown_encoding": {"encoding": "no_such_encoding"},
    "zero_size": {"width": 0},
}


def test_bad_images_are_counted_and_said_once(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = start().ready()
    for changes in BAD_IMAGES.values():
        for _ in range(2):
            message = image_message()
            for field, value in changes.items():
                setattr(message, field, value)
            setup.send(message)
    setup.send(image_message())
    assert setup.node.counters.rejected == dict.fromkeys(BAD_IMAGES, 2)
    assert setup.node.counters.processed == 1
    said = capfd.readouterr().err
    for kind in BAD_IMAGES:
        assert said.count(f"/diagnostics counts rejected/{kind})") == 1
    status = setup.fresh_status()
    assert setup.camera.value("rejected/wrong_step") == "2"
    assert status.level == DiagnosticStatus.WARN
    # Of the time since the last status, which on a slow machine isn't all of it.
    assert "rejected: images are rejected" in status.message


MALFORMED = (b"", b"\0\1\0\0" + b"\xff" * 40, bytes(serialize_message(image_message()))[:200])


@pytest.mark.parametrize("data", MALFORMED, ids=["empty", "nonsense", "cut off"])
def test_malformed_messages_are_counted_and_said_once(
    start: Start, capfd: pytest.CaptureFixture[str], data: bytes
) -> None:
    setup = start().ready()
    setup.send(data, data)
    setup.camera.infos.publish(data)
    broadcaster = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    broadcaster.publish(data)
    noticed = setup.node.counters.noticed
    setup.spinner.until("CameraInfo and TF", lambda: noticed["malformed_message"] == 2)
    assert setup.node.counters.rejected == {"malformed_message": 2}
    assert capfd.readouterr().err.count("are no Image") == 1
    setup.send(image_message())
    assert setup.node.counters.processed == 1
    setup.fresh_status()
    assert setup.camera.value("rejected/malformed_message") == "2"
    assert setup.camera.value("noticed/malformed_message") == "2"


@pytest.mark.parametrize("field", ["encoding", "frame_id"])
def test_long_texts_are_cut_where_they_are_shown(
    start: Start, capfd: pytest.CaptureFixture[str], field: str
) -> None:
    setup = start()
    setup.connect()
    text = "rgb\n8" * 200_000
    message = image_message()
    info = camera_info()
    if field == "encoding":
        message.encoding = text
    else:
        message.header.frame_id = info.header.frame_id = text
    setup.camera.infos.publish(info)
    setup.send(message)
    assert setup.done() == 1
    status = setup.fresh_status()
    texts = [status.message, status.hardware_id, *(pair.value for pair in status.values)]
    assert max(map(len, texts)) <= 1000
    assert len(capfd.readouterr().err) < 4000


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"focal": float("nan")}, "bad_camera_info"),
        ({"focal": 0.0}, "bad_camera_info"),
        ({"focal": 1.0}, "bad_camera_info"),
        ({"width": 640, "height": 480}, "size_mismatch"),
    ],
)
def test_camera_infos_that_cannot_be(start: Start, values: dict[str, float], kind: str) -> None:
    setup = start()
    setup.connect()
    setup.info(**values)
    setup.send(image_message(), image_message())
    assert setup.node.counters.rejected == {kind: 2}
    setup.info()
    setup.send(image_message())
    assert setup.node.counters.processed == 1


def test_binning_is_honoured_and_what_cannot_be_told_is_said_once(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = start()
    setup.connect()
    setup.info(width=128, height=96, binning=2, k1=-0.3)
    setup.send(image_message(), image_message())
    assert setup.node.counters.processed == 2
    assert setup.node.counters.noticed["camera_info"] == 1
    assert capfd.readouterr().err.count("images of /image are taken to be rectified") == 1


def test_camera_info_that_never_comes(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "_PATIENCE_S", 0.05)
    setup = start()
    setup.connect()
    setup.send(image_message(), image_message(), image_message())
    assert setup.node.counters.rejected == {"no_camera_info": 3}
    assert capfd.readouterr().err.count("no CameraInfo has arrived") == 1
    assert "no CameraInfo" in setup.fresh_status().message


def test_stamps_that_go_back(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    setup = start().ready()
    setup.send(*(image_message(stamp=stamp) for stamp in (10.0, 10.1, 2.0, 2.1, 1.0)))
    assert setup.node.counters.processed == 5
    assert setup.node.counters.noticed == {"stamp_went_back": 2}
    assert capfd.readouterr().err.count("/diagnostics counts noticed/stamp_went_back)") == 1
    setup.spinner.until("points", lambda: len(setup.camera.points) == 5)
    assert [stamp_of(m)[0] for m in setup.camera.points] == [10, 10, 2, 2, 1]


def test_detector_that_raises_on_one_frame(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    detector = FakeDetector()
    setup = start(detector).ready()

    def fail() -> None:
        raise RuntimeError("out of luck")

    detector.before = fail
    setup.send(image_message(), image_message())
    said = capfd.readouterr().err
    assert said.count("a frame failed: RuntimeError('out of luck')") == said.count("Traceback") == 1
    assert "/diagnostics counts failed)" in said
    status = setup.fresh_status()
    assert setup.camera.value("failed") == "2"
    assert status.level == DiagnosticStatus.ERROR
    assert "2 failed" in status.message
    assert "out of luck" in status.message
    detector.before = lambda: None
    setup.send(image_message())
    assert (setup.node.counters.failed, setup.node.counters.processed) == (2, 1)
    assert setup.fresh_status().level == DiagnosticStatus.OK


def test_compressed_images(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, image_transport="compressed")
    camera = setup.camera
    camera.destroy_publisher(camera.images)
    camera.images = camera.create_publisher(CompressedImage, "/image/compressed", SENSOR)
    setup.connect()
    setup.info()
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    message = CompressedImage(format="rgb8; png compressed bgr8")
    message.header = image_message(stamp=3.5).header
    message.data.frombytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    cut_off = CompressedImage(header=message.header, data=message.data[:500])
    setup.send(message, cut_off)
    assert setup.node.counters.processed == 1
    assert setup.node.counters.rejected == {"bad_compression": 1}
    ((seen, _),) = detector.calls
    np.testing.assert_array_equal(seen, pixels)
    setup.spinner.until("points", lambda: camera.points)
    assert stamp_of(camera.points[0]) == (3, 500_000_000)


def test_a_camera_unlike_those_of_the_training_is_told_once(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    scenes = TrainingFrames("7 rendered scenes", rendered=True)
    notices = {"camera_height": "the camera is 9 m over the ground"}
    setup = start(FakeDetector(card=ModelCard(scenes, scenes), camera_notices=notices)).ready()
    for _ in range(2):
        setup.send(image_message())
    setup.spinner.until("boxes", lambda: len(setup.camera.detections) == 2)
    status = setup.fresh_status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message == notices["camera_height"]
    assert setup.camera.value("camera") == notices["camera_height"]
    assert setup.camera.value("trained_on") == "7 rendered scenes"
    assert setup.camera.value("noticed/camera_height") == "1"
    said = capfd.readouterr().err
    assert said.count("9 m over the ground") == 1
    assert "trained on: 7 rendered scenes" in said
    assert ONLY_RENDERED.text in said


def test_diagnostics(start: Start) -> None:
    setup = start(FakeDetector(trained=False)).ready()
    setup.fresh_status()
    status = setup.fresh_status()
    assert status.level == DiagnosticStatus.WARN
    assert "no images on /image: they have stopped" in status.message
    setup.send(image_message())
    status = setup.fresh_status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith("UNTRAINED")
    assert setup.camera.value("state") == "active"
    assert setup.camera.value("detector") == "a fake detector"
    assert (setup.camera.value("received"), setup.camera.value("processed")) == ("1", "1")
