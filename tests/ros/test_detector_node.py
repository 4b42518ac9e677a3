"""The node with a fake detector, in one process, over DDS."""

import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector, answer
from geometry_msgs.msg import TransformStamped
from node_helpers import CAMERA_FRAME, SENSOR, camera_info, image_message, stamp_of
from node_setup import Start, held_in_model
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64
from tf2_msgs.msg import TFMessage

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.pose import matrix_from_pose
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import ImageWindow
from kd3d_core.models.card import ONLY_RENDERED, ModelCard, TrainingFrames
from kd3d_ros import detector_node, results, worker

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


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


def test_virtual_frame_is_published_once_per_camera(start: Start) -> None:
    setup = start()
    transforms: list[TFMessage] = []
    setup.connect()
    setup.info()
    setup.send(image_message(), image_message())
    # Latched: who comes later gets it as well.
    setup.camera.listen(TFMessage, "/tf_static", transforms, LATCHED)
    setup.spinner.until("the transform", lambda: transforms)
    ((stamped,),) = [message.transforms for message in transforms]
    assert (stamped.header.frame_id, stamped.child_frame_id) == (CAMERA_FRAME, "kd3d_lidar")
    move, turn = stamped.transform.translation, stamped.transform.rotation
    camera_from_lidar = matrix_from_pose((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    np.testing.assert_allclose(
        camera_from_lidar, np.linalg.inv(virtual_lidar_from_camera(1.65)), atol=1e-9
    )
    # A point on the ground, 5 m ahead.
    np.testing.assert_allclose(camera_from_lidar @ [5, 0, -1.73, 1], [0, 1.65, 5, 1], atol=1e-9)


def test_named_frame_comes_from_tf_static(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "_PATIENCE_S", 0.05)
    detector = FakeDetector()
    setup = start(detector, detector_frame="velodyne")
    setup.connect()
    setup.info()
    setup.send(image_message(), image_message())
    assert setup.node.counters.rejected == {"no_transform": 2}
    assert capfd.readouterr().err.count("no transform from") == 1

    broadcaster = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    frames = [TransformStamped(), TransformStamped(), TransformStamped()]
    for stamped, (parent, child) in zip(
        frames, [("base", "velodyne"), ("base", CAMERA_FRAME), ("base", "broken")], strict=True
    ):
        stamped.header.frame_id, stamped.child_frame_id = parent, child
        stamped.transform.rotation.w = 1.0
    frames[0].transform.translation.z = 1.5
    frames[1].transform.translation.z = 1.25
    frames[2].transform.rotation.w = 0.0
    broadcaster.publish(TFMessage(transforms=frames))
    setup.spinner.until("the transforms", lambda: setup.node.counters.noticed["bad_transform"])
    setup.send(image_message())
    assert setup.node.counters.processed == 1
    ((_, camera),) = detector.calls
    np.testing.assert_allclose(camera.lidar_from_camera[:3, 3], [0, 0, -0.25])
    setup.spinner.until("points", lambda: setup.camera.points)
    assert setup.camera.points[0].header.frame_id == "velodyne"


def test_a_camera_that_moves_is_where_tf_has_it_at_the_stamp(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, detector_frame="base")
    setup.connect()
    setup.info()
    broadcaster = setup.camera.create_publisher(TFMessage, "/tf", 10)
    for second in (10, 11):
        moved = TransformStamped()
        moved.header.frame_id, moved.child_frame_id = "base", CAMERA_FRAME
        moved.header.stamp.sec = second
        moved.transform.rotation.w = 1.0
        moved.transform.translation.x = float(second)
        broadcaster.publish(TFMessage(transforms=[moved]))

    def is_known() -> bool:
        try:
            return bool(
                setup.node._frames.transforms.lookup("base", CAMERA_FRAME, 11 * 10**9).any()
            )
        except CalibrationError:
            return False

    setup.spinner.until("the transforms", is_known)
    setup.send(image_message(stamp=10.25))
    ((_, camera),) = detector.calls
    np.testing.assert_allclose(camera.lidar_from_camera[:3, 3], [10.25, 0, 0])


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
    setup = start()
    setup.connect()
    setup.info()
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
    setup = start()
    setup.connect()
    setup.info()
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


def test_another_parent_of_the_virtual_frame_is_told(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = start()
    setup.connect()
    setup.info()
    setup.send(image_message())
    spinner, node = setup.spinner, setup.node
    spinner.until("the node hears itself", lambda: node._frames._parents == {CAMERA_FRAME})
    assert setup.fresh_status().level != DiagnosticStatus.ERROR
    other = TransformStamped(child_frame_id="/kd3d_lidar")
    other.header.frame_id = "rear_optical"
    other.transform.rotation.w = 1.0
    broadcaster = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    broadcaster.publish(TFMessage(transforms=[other]))
    spinner.until("the other transform", lambda: "rear_optical" in node._frames._parents)
    status = setup.fresh_status()
    assert status.level == DiagnosticStatus.ERROR
    assert "by another node, of rear_optical" in status.message
    assert "set virtual_frame" in capfd.readouterr().err


def test_two_cameras_have_frames_and_diagnostics_of_their_own(start: Start) -> None:
    for side in ("left", "right"):
        setup = start(namespace=f"/{side}", listen=False)
        setup.spinner.until("activation", lambda node=setup.node: node.state == "active")
        status = setup.fresh_status()
        assert status.name == f"{side}/kd3d_detector: detector"
        assert status.hardware_id == f"/{side}/image"
        assert setup.node._outputs.frame_id == f"{side}/kd3d_lidar"


def test_the_subscription_follows_the_reliability_of_the_publishers(start: Start) -> None:
    setup = start()
    camera = setup.camera
    setup.connect()
    assert camera.value("image_reliability") == "best_effort"
    setup.info()
    for qos, reliability in ((QoSProfile(depth=5), "reliable"), (SENSOR, "best_effort")):
        camera.destroy_publisher(camera.images)
        camera.images = camera.create_publisher(Image, "/image", qos)
        setup.spinner.until(
            "another QoS",
            lambda reliability=reliability: camera.value("image_reliability") == reliability,
        )
        camera.statuses.clear()
        setup.connect()
        setup.send(image_message())
    assert setup.node.counters.processed == 2


@pytest.mark.parametrize("focal", [float("nan"), 0.0, 1.0])
def test_impossible_camera_info(start: Start, focal: float) -> None:
    setup = start()
    setup.connect()
    setup.info(focal=focal)
    setup.send(image_message(), image_message())
    assert setup.node.counters.rejected == {"bad_camera_info": 2}
    setup.info()
    setup.send(image_message())
    assert setup.node.counters.processed == 1


def test_image_and_camera_info_of_different_sizes(start: Start) -> None:
    setup = start()
    setup.connect()
    setup.info(width=640, height=480)
    setup.send(image_message())
    assert setup.node.counters.rejected == {"size_mismatch": 1}
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
    monkeypatch.setattr(worker, "_PATIENCE_S", 0.05)
    setup = start()
    setup.connect()
    setup.send(image_message(), image_message(), image_message())
    assert setup.node.counters.rejected == {"no_camera_info": 3}
    assert capfd.readouterr().err.count("no CameraInfo has arrived") == 1
    assert "no CameraInfo" in setup.fresh_status().message


def test_stamps_that_go_back(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    setup = start()
    setup.connect()
    setup.info()
    setup.send(*(image_message(stamp=stamp) for stamp in (10.0, 10.1, 2.0, 2.1, 1.0)))
    assert setup.node.counters.processed == 5
    assert setup.node.counters.noticed == {"stamp_went_back": 2}
    assert capfd.readouterr().err.count("/diagnostics counts noticed/stamp_went_back)") == 1
    setup.spinner.until("points", lambda: len(setup.camera.points) == 5)
    assert [stamp_of(m)[0] for m in setup.camera.points] == [10, 10, 2, 2, 1]


def test_empty_frame_id(start: Start) -> None:
    setup = start()
    transforms: list[TFMessage] = []
    setup.camera.listen(TFMessage, "/tf_static", transforms, LATCHED)
    setup.connect()
    info = camera_info()
    info.header.frame_id = ""
    setup.camera.infos.publish(info)
    message = image_message()
    message.header.frame_id = ""
    setup.send(message, message)
    assert setup.node.counters.processed == 2
    assert setup.node.counters.noticed == {"empty_frame_id": 1}
    setup.spinner.until("points", lambda: len(setup.camera.points) == 2)
    assert not transforms


def test_detector_that_raises_on_one_frame(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    detector = FakeDetector()
    setup = start(detector)
    setup.connect()
    setup.info()

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


def test_newest_frame_wins(start: Start) -> None:
    setup, _, release = held_in_model(start)
    for i in range(2, 6):
        setup.camera.images.publish(image_message(stamp=i))
        setup.spinner.until("it arrives", lambda i=i: setup.node.counters.received == i)
    release.set()
    setup.spinner.until("points", lambda: len(setup.camera.points) == 2)
    assert [stamp_of(message)[0] for message in setup.camera.points] == [1, 5]
    assert setup.node.counters.dropped == 3
    assert setup.done() == 5


def test_images_that_come_while_the_executor_is_busy_are_all_counted(start: Start) -> None:
    setup = start()
    setup.connect()
    setup.info()
    for i in range(4):
        setup.camera.images.publish(image_message(stamp=i))
    setup.spinner.until("all have arrived", lambda: setup.node.counters.received == 4)
    setup.spinner.until("all are dealt with", lambda: setup.done() == 4)
    setup.spinner.until(
        "the newest is answered",
        lambda: setup.camera.points and stamp_of(setup.camera.points[-1]) == (3, 0),
    )


def test_a_disabled_node_skips_images_until_it_is_enabled(start: Start) -> None:
    services = pytest.importorskip("std_srvs.srv", reason="no std_srvs: run `make env`")
    detector = FakeDetector()
    setup = start(detector)
    setup.connect()
    setup.info()
    client = setup.camera.create_client(services.SetBool, "/kd3d_detector/enable")
    setup.spinner.until("the service", client.service_is_ready)
    for enable, answers in ((False, 0), (True, 1)):
        answer = client.call_async(services.SetBool.Request(data=enable))
        setup.spinner.until("the answer", answer.done)
        assert answer.result().success
        setup.send(image_message())
        assert len(detector.calls) == answers
    assert setup.node.counters.skipped == {"disabled": 1}
    assert setup.node.state == "active"


def test_no_inference_while_nobody_listens(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, listen=False)
    setup.connect()
    setup.info()
    setup.send(image_message(), image_message())
    assert not detector.calls
    assert setup.node.counters.skipped == {"unwatched": 2}

    setup.node.set_parameters([Parameter("lazy", value=False)])
    setup.send(image_message())
    assert len(detector.calls) == 1

    setup.node.set_parameters([Parameter("lazy", value=True)])
    points: list[PointCloud2] = []
    setup.camera.listen(PointCloud2, "/kd3d_detector/points", points)
    setup.connect()
    setup.spinner.until("the node sees it", setup.node._outputs.results.is_watched)
    setup.send(image_message())
    setup.spinner.until("points", lambda: points)
    assert len(detector.calls) == 2
    assert setup.done() == setup.node.counters.received == 4


def test_unwatched_messages_are_not_made(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    points_output, *others = results.FRAME_OUTPUTS
    unwanted = [replace(output, encode=lambda *_: made.append("unwanted")) for output in others]
    monkeypatch.setattr(results, "FRAME_OUTPUTS", (points_output, *unwanted))
    setup = start(listen=False)
    points: list[PointCloud2] = []
    setup.camera.listen(PointCloud2, "/kd3d_detector/points", points)
    setup.connect()
    setup.info()
    setup.send(image_message())
    setup.spinner.until("points", lambda: points)
    assert setup.node.counters.processed == 1
    assert not made


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


def test_depth_is_as_large_as_the_image_and_nan_where_nothing_is_known(start: Start) -> None:
    # Half as large as the image, and without its lowest 24 rows.
    window = ImageWindow(scale=0.5, left=0, top=0, width=32, height=12)
    depth = torch.full((12, 32), 7.0)
    depth[:, 16:] = 9.0
    setup = start(FakeDetector(replace(answer(), depth=depth, window=window)))
    depths: list[Image] = []
    setup.camera.listen(Image, "/kd3d_detector/depth", depths)
    setup.connect()
    setup.info()
    setup.send(image_message(stamp=4))
    setup.spinner.until("depth", lambda: depths)
    (message,) = depths
    assert (message.encoding, message.step, message.is_bigendian) == ("32FC1", 4 * 64, 0)
    assert (message.header.frame_id, stamp_of(message)) == (CAMERA_FRAME, (4, 0))
    metres = np.frombuffer(message.data, np.float32).reshape(48, 64)
    assert np.isnan(metres[24:]).all()
    np.testing.assert_allclose(metres[:24, :31], 7, rtol=1e-6)
    np.testing.assert_allclose(metres[:24, 33:], 9, rtol=1e-6)


def test_no_more_images_than_max_rate(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = start(max_rate=4.0)
    setup.connect()
    setup.info()
    seconds = iter(np.arange(8) * 0.1)
    monkeypatch.setattr(detector_node, "time", SimpleNamespace(
        monotonic=lambda: next(seconds), perf_counter=time.perf_counter, sleep=time.sleep
    ))  # fmt: skip
    for stamp in range(8):
        setup.send(image_message(stamp=stamp))
    monkeypatch.undo()
    assert setup.node.counters.skipped == {"max_rate": 4}
    assert setup.node.counters.processed == 4
    assert "skipped 4 (max_rate 4)" in str(setup.node.counters)
    setup.node.set_parameters([Parameter("max_rate", value=0.0)])
    setup.send(image_message(stamp=8), image_message(stamp=9))
    assert setup.node.counters.processed == 6


def test_score_threshold_can_be_changed(start: Start) -> None:
    setup = start(FakeDetector(answer(boxes=8)))
    setup.connect()
    setup.info()
    setup.send(image_message())
    setup.node.set_parameters([Parameter("score_threshold", value=0.5)])
    setup.send(image_message())
    detections = setup.camera.detections
    setup.spinner.until("boxes", lambda: len(detections) == 2)
    scores = [[d.results[0].hypothesis.score for d in m.detections] for m in detections]
    assert len(scores[0]) == 8
    assert scores[1] == [score for score in scores[0] if score >= 0.5]
    assert 0 < len(scores[1]) < 8


def test_thresholds_are_those_of_the_model_by_default(start: Start) -> None:
    """The fake detector's boxes alternate between three classes, with falling scores."""
    card = ModelCard(score_thresholds={"Car": 0.75, "Pedestrian": 1.0})
    setup = start(FakeDetector(answer(boxes=8), card=card))
    setup.connect()
    setup.info()
    setup.send(image_message())
    setup.node.set_parameters([Parameter("score_threshold", value=0.0)])
    setup.send(image_message())
    detections = setup.camera.detections
    setup.spinner.until("boxes", lambda: len(detections) == 2)
    setup.node.set_parameters([Parameter("score_threshold_cyclist", value=0.65)])
    setup.send(image_message())
    setup.spinner.until("boxes", lambda: len(detections) == 3)
    chosen, everything, without = (
        [d.results[0].hypothesis.class_id for d in message.detections] for message in detections
    )
    assert chosen == ["Car", "Cyclist", "Cyclist"]
    assert len(everything) == 8
    assert without == [*everything[:5], *everything[6:]]


def test_a_camera_unlike_those_of_the_training_is_told_once(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    scenes = TrainingFrames("7 rendered scenes", rendered=True)
    notices = {"camera_height": "the camera is 9 m over the ground"}
    setup = start(FakeDetector(card=ModelCard(scenes, scenes), camera_notices=notices))
    setup.connect()
    setup.info()
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


def test_times(start: Start) -> None:
    setup = start()
    times: list[Float64] = []
    latencies: list[Float64] = []
    setup.camera.listen(Float64, "/kd3d_detector/debug/processing_time_ms", times)
    setup.camera.listen(Float64, "/kd3d_detector/debug/pipeline_latency_ms", latencies)
    setup.connect()
    setup.info()
    message = image_message()
    message.header.stamp = setup.node.get_clock().now().to_msg()
    setup.send(message)
    setup.spinner.until("times", lambda: times and latencies)
    assert 0 < times[0].data <= latencies[0].data < 5000
    setup.fresh_status()
    assert float(setup.camera.value("median_ms/detector/depth")) == 1.5
    assert float(setup.camera.value("median_ms/total")) == pytest.approx(times[0].data, abs=0.01)


def test_diagnostics(start: Start) -> None:
    setup = start(FakeDetector(trained=False))
    setup.connect()
    setup.info()
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
