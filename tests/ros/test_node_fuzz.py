"""Messages that no driver should send, through every input: the node counts them and goes on."""

import array

import cv2
import numpy as np
import pytest
from fake_detector import FakeDetector
from node_helpers import CAMERA_FRAME, LATCHED, camera_info, image_message
from node_setup import Setup, Start
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage
from test_node_frames import transform
from tf2_msgs.msg import TFMessage

from kd3d_ros.inputs import ReceivedImage

MESSAGES = 400
"""Of each kind; 10,000 in all by `pytest -m slow`."""


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with some changed, cut off, doubled, or numbers made large, not finite or none."""
    values = bytearray(data)
    for _ in range(random.integers(1, 5)):
        # Half of them in what stands before the pixels.
        last = max(5, min(len(values) - 8, 90 if random.integers(2) else len(values)))
        place = int(random.integers(4, last))
        way = random.integers(5)
        if way == 0:
            values[place : place + 4] = random.bytes(4)
        elif way == 1:
            del values[place:]
        elif way == 2:
            values[place:place] = values[place : place + int(random.integers(1, 64))]
        elif way == 3:
            special = [np.nan, np.inf, -np.inf, 0.0, 1e300]
            values[place : place + 8] = np.float64(random.choice(special)).tobytes()
        else:
            values[place : place + 4] = np.uint32(random.choice([0, 1, 2**31, 2**32 - 1])).tobytes()
    return bytes(values)


def compressed() -> CompressedImage:
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    message = CompressedImage(format="bgr8; jpeg compressed bgr8")
    message.header = image_message().header
    message.data = array.array("B", cv2.imencode(".jpg", pixels)[1].tobytes())
    return message


def good_again(setup: Setup) -> None:
    """A right CameraInfo and image are worked on."""
    setup.info()
    before = setup.node.counters.processed
    setup.send(image_message(stamp=1e6))
    assert setup.node.counters.processed == before + 1


def fuzz_images(setup: Setup, random: np.random.Generator, count: int, kind: str) -> None:
    template = serialize_message(image_message() if kind == "raw" else compressed())
    for _ in range(count):
        done = setup.done() + 1
        image = ReceivedImage(mutated(template, random), 0.0, setup.node.intake.kind)
        setup.node.intake.receive(image)
        setup.spinner.until("it is dealt with", lambda done=done: setup.done() >= done)


def fuzz_topic(
    setup: Setup, random: np.random.Generator, count: int, kind: type, topic: str, template: bytes
) -> None:
    qos = LATCHED if topic == "/tf_static" else 10
    publisher = setup.camera.create_publisher(kind, topic, qos)
    setup.spinner.until("it is heard", publisher.get_subscription_count)
    for number in range(count):
        publisher.publish(mutated(template, random))
        if number % 5 == 4:
            setup.spinner.during(0.002)
            setup.node.intake.receive(ReceivedImage(serialize_message(image_message(stamp=0)), 0.0))
    setup.spinner.until("all is dealt with", lambda: setup.done() == setup.node.counters.received)


def tf_bytes() -> bytes:
    frames = [transform("odom", "base", x=1.0), transform("base", CAMERA_FRAME, z=1.2)]
    return bytes(serialize_message(TFMessage(transforms=frames)))


def run(start: Start, count: int) -> None:
    random = np.random.default_rng(0)
    setup = start(FakeDetector(), tf_timeout=0.0, lazy=False).ready()
    fuzz_images(setup, random, count, "raw")
    infos = bytes(serialize_message(camera_info()))
    fuzz_topic(setup, random, count, CameraInfo, "/camera_info", infos)
    good_again(setup)
    # Whether an image meets a wrong CameraInfo before the next one comes is a matter of time.
    kinds = {"malformed_message", "unknown_encoding"}
    assert kinds <= setup.node.counters.rejected.keys()
    assert setup.node.counters.failed == 0
    setup.node.trigger_deactivate()


@pytest.mark.parametrize("count", [MESSAGES, pytest.param(2500, marks=pytest.mark.slow)])
def test_raw_images_and_camera_infos(start: Start, count: int) -> None:
    run(start, count)


@pytest.mark.parametrize("count", [MESSAGES, pytest.param(2500, marks=pytest.mark.slow)])
def test_compressed_images(start: Start, count: int) -> None:
    setup = start(image_transport="compressed", lazy=False)
    setup.spinner.until("activation", lambda: setup.node.state == "active")
    setup.spinner.until("CameraInfo is wanted", setup.camera.infos.get_subscription_count)
    setup.info()
    fuzz_images(setup, np.random.default_rng(1), count, "compressed")
    counters = setup.node.counters
    assert counters.failed == 0
    assert counters.rejected["bad_compression"] + counters.rejected["malformed_message"] > 0
    setup.node.intake.receive(
        ReceivedImage(serialize_message(compressed()), 0.0, setup.node.intake.kind)
    )
    setup.spinner.until("it is dealt with", lambda: setup.done() == counters.received)
    assert counters.processed > 0
    assert counters.failed == 0


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("topic", ["/tf", "/tf_static"])
@pytest.mark.parametrize("count", [MESSAGES // 2, pytest.param(1250, marks=pytest.mark.slow)])
def test_transforms(start: Start, topic: str, count: int) -> None:
    frames = {"target_frame": "odom", "tracking": True, "tracking_frame": "odom"}
    setup = start(**frames, tf_timeout=0.0, lazy=False).ready()
    fuzz_topic(setup, np.random.default_rng(2), count, TFMessage, topic, tf_bytes())
    assert setup.node.counters.failed == 0
    assert setup.node.counters.noticed["malformed_message"] > 0
    assert setup.node.counters.processed > 0
    # A frame that no message has had: TF works as before.
    fixed = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    message = image_message(stamp=1e6)
    message.header.frame_id = "fresh"
    fixed.publish(TFMessage(transforms=[transform("odom", "fresh", x=2.0)]))

    def is_known() -> bool:
        return setup.node._frames.transforms.ancestors("fresh") == ["odom"]

    setup.spinner.until("the transform", is_known)
    setup.info()
    processed = setup.node.counters.processed
    setup.send(message)
    assert setup.node.counters.processed == processed + 1
