"""What the node publishes beside points: by threshold, when it is wanted, depth and times."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector, answer
from node_helpers import CAMERA_FRAME, LATCHED, image_message, stamp_of
from node_setup import Start
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64
from test_node_frames import transform
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from kd3d_core.geometry.boxes import corners
from kd3d_core.geometry.window import ImageWindow
from kd3d_core.messages import types as messages
from kd3d_core.messages.decode import decode
from kd3d_core.models.box_errors import BoxErrors
from kd3d_core.models.card import ModelCard
from kd3d_ros import results


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


def test_debug_images_show_the_boxes(start: Start) -> None:
    setup = start(listen=False)
    images: list[Image] = []
    jpegs: list[CompressedImage] = []
    setup.camera.listen(Image, "/kd3d_detector/debug_image", images)
    setup.camera.listen(CompressedImage, "/kd3d_detector/debug_image/compressed", jpegs)
    setup.ready()
    setup.send(image_message(np.full((48, 64, 3), 90, np.uint8), stamp=4))
    setup.spinner.until("both", lambda: images and jpegs)
    for message in (*images, *jpegs):
        assert (message.header.frame_id, stamp_of(message)) == (CAMERA_FRAME, (4, 0))
    drawn = decode(images[0], messages.Image.ros_type).rgb()
    packed = decode(jpegs[0], messages.CompressedImage.ros_type).rgb()
    # Fronts are filled, and the image is small.
    assert 10 < (drawn != 90).any(-1).sum() < 0.75 * 48 * 64
    assert np.abs(packed.astype(int) - drawn).mean() < 15


def test_score_threshold_can_be_changed(start: Start) -> None:
    setup = start(FakeDetector(answer(boxes=8))).ready()
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
    setup = start(FakeDetector(answer(boxes=8), card=card)).ready()
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


def test_boxes_in_the_image_are_where_the_camera_sees_them(start: Start) -> None:
    beside = answer(boxes=1).boxes.copy()
    beside[0, 1] = 30.0  # out of view, to the left
    ahead = answer(boxes=2)
    boxes = np.concatenate([ahead.boxes, beside])
    three = replace(
        ahead, boxes=boxes, scores=np.array([0.9, 0.8, 0.7], np.float32), labels=np.array([0, 1, 2])
    )
    setup = start(FakeDetector(three), listen=False)
    found: list[Detection2DArray] = []
    setup.camera.listen(Detection2DArray, "/kd3d_detector/detections_2d", found)
    setup.ready()
    setup.send(image_message(stamp=4))
    setup.spinner.until("boxes", lambda: found)
    (message,) = found
    assert (message.header.frame_id, stamp_of(message)) == (CAMERA_FRAME, (4, 0))
    assert [each.results[0].hypothesis.class_id for each in message.detections] == [
        "Car",
        "Pedestrian",
    ]
    assert [each.results[0].hypothesis.score for each in message.detections] == pytest.approx(
        [0.9, 0.8]
    )
    for each, box in zip(message.detections, ahead.boxes, strict=True):
        # In the fake camera, 1 m to the left at 10 m is 6 pixels.
        corner = corners(box[None].astype(float))[0]
        u = 31.5 - 60 * corner[:, 1] / corner[:, 0]
        v = 23.5 - 60 * (corner[:, 2] + 1.73 - 1.65) / corner[:, 0]
        center, size = each.bbox.center.position, (each.bbox.size_x, each.bbox.size_y)
        assert (center.x - size[0] / 2, center.x + size[0] / 2) == pytest.approx(
            (max(u.min(), 0), min(u.max(), 63)), abs=1e-4
        )
        assert (center.y - size[1] / 2, center.y + size[1] / 2) == pytest.approx(
            (max(v.min(), 0), min(v.max(), 47)), abs=1e-4
        )


def test_label_info_comes_to_late_subscribers_and_follows_the_thresholds(start: Start) -> None:
    card = ModelCard(score_thresholds={"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.75})
    setup = start(FakeDetector(card=card)).ready()
    infos: list[LabelInfo] = []
    setup.camera.listen(LabelInfo, "/kd3d_detector/label_info", infos, LATCHED)
    setup.spinner.until("the classes", lambda: infos)
    classes = [(each.class_id, each.class_name) for each in infos[0].class_map]
    assert classes == [(0, "Car"), (1, "Pedestrian"), (2, "Cyclist")]
    assert infos[0].threshold == 0.25
    setup.node.set_parameters([Parameter("score_threshold", value=0.5)])
    setup.spinner.until("the threshold", lambda: infos[-1].threshold == 0.5)


@pytest.mark.parametrize("is_measured", [True, False])
def test_covariances_are_those_of_the_card_or_zero(
    start: Start, capfd: pytest.CaptureFixture[str], is_measured: bool
) -> None:
    table = (BoxErrors(50.0, 9, along_m=2.0, across_m=0.5, up_m=0.25, yaw_rad=0.125),)
    ahead = answer(boxes=1)
    ahead.boxes[0, 1] = 0.0
    card = ModelCard(box_errors=table, box_errors_from="9 boxes") if is_measured else ModelCard()
    setup = start(FakeDetector(ahead, card=card)).ready()
    setup.send(image_message())
    setup.spinner.until("boxes", lambda: setup.camera.detections)
    (found,) = setup.camera.detections[0].detections
    covariance = found.results[0].pose.covariance.reshape(6, 6)
    expected = [4.0, 0.25, 0.0625, 0.0, 0.0, 0.015625] if is_measured else [0.0] * 6
    np.testing.assert_allclose(covariance, np.diag(expected), atol=1e-9)
    setup.fresh_status()
    origin = "9 boxes" if is_measured else "not measured: covariances are zero"
    assert setup.camera.value("box_errors_from") == origin
    assert ("pose covariances are zero" in capfd.readouterr().err) != is_measured


def test_points_have_the_colours_of_the_image(start: Start) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = (250, 100, 3)
    pixels[:, 32:] = (1, 2, 200)
    points = np.array([[10, 1, 0, 0.5], [10, -1, 0, 0.5]], np.float32)  # left and right
    setup = start(FakeDetector(replace(answer(), points=points)), points_rgb=True).ready()
    setup.send(image_message(pixels))
    setup.spinner.until("points", lambda: setup.camera.points)
    (message,) = setup.camera.points
    assert [(field.name, field.offset) for field in message.fields] == [
        ("x", 0), ("y", 4), ("z", 8), ("intensity", 12), ("rgb", 16),
    ]  # fmt: skip
    packed = np.frombuffer(message.data, np.uint32).reshape(2, 5)[:, 4]
    assert [hex(value) for value in packed] == ["0xfa6403", "0x102c8"]
    assert message.is_dense


def test_objects_keep_their_ids_and_move_over_ground_where_the_robot_moves(start: Start) -> None:
    """The robot drives towards a car that stands, 1 m with each image."""
    detector = FakeDetector()
    setup = start(detector, tracking=True, tracking_frame="odom", tf_timeout=10.0, listen=False)
    found: list[Detection3DArray] = []
    in_image: list[Detection2DArray] = []
    markers: list[MarkerArray] = []
    setup.camera.listen(Detection3DArray, "/kd3d_detector/detections", found)
    setup.camera.listen(Detection2DArray, "/kd3d_detector/detections_2d", in_image)
    setup.camera.listen(MarkerArray, "/kd3d_detector/markers", markers)
    setup.ready()
    moving = setup.camera.create_publisher(TFMessage, "/tf", 10)
    setup.spinner.until("TF is heard", moving.get_subscription_count)
    for number in range(8):
        setup.camera.images.publish(image_message(stamp=1 + number / 10))
        moved = transform("odom", CAMERA_FRAME, z=number)  # z of the camera is ahead
        moved.header.stamp = image_message(stamp=1 + number / 10).header.stamp
        one = answer(boxes=1)
        one.boxes[0, :2] = 20 - number, 0
        detector.detections = one
        moving.publish(TFMessage(transforms=[moved]))
        setup.spinner.until("results", lambda number=number: len(markers) == number + 1)
    setup.spinner.until("all", lambda: len(found) == len(in_image) == 8)
    (last,), (flat,) = found[-1].detections, in_image[-1].detections
    assert last.id == flat.id == found[-2].detections[0].id == "1"
    (path,) = (each for each in markers[-1].markers if each.ns == "velocities")
    begin, end = path.points
    assert abs(end.x - begin.x) < 1.0  # 10 m/s, if it were relative to the robot

    setup.node.set_parameters([Parameter("tracking", value=False)])
    setup.send(image_message(stamp=3))
    setup.spinner.until("boxes", lambda: len(found) == 9)
    assert found[-1].detections[0].id == ""
