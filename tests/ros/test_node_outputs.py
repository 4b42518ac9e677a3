"""What the node publishes beside points: by threshold, when it is wanted, depth and times."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector, answer
from node_helpers import CAMERA_FRAME, image_message, stamp_of
from node_setup import Start
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64

from kd3d_core.geometry.window import ImageWindow
from kd3d_core.messages import types as messages
from kd3d_core.messages.decode import decode
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
    assert 10 < (drawn != 90).any(-1).sum() < 48 * 64 / 2
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
