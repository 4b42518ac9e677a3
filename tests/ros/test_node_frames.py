"""Frames of the node: where it gets them from, what it tells TF."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector, answer
from geometry_msgs.msg import Quaternion, TransformStamped
from node_helpers import CAMERA_FRAME, LATCHED, camera_info, image_message
from node_setup import Start
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from scipy.spatial.transform import Rotation
from tf2_msgs.msg import TFMessage

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.boxes import corners
from kd3d_core.geometry.pose import matrix_from_pose
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_ros import placement


def transform(parent: str, child: str, x: float = 0.0, z: float = 0.0) -> TransformStamped:
    """Of a child that is moved and not turned."""
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = parent
    stamped.transform.translation.x, stamped.transform.translation.z = float(x), float(z)
    stamped.transform.rotation.w = 1.0
    return stamped


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
    monkeypatch.setattr(placement, "_PATIENCE_S", 0.05)
    detector = FakeDetector()
    setup = start(detector, detector_frame="velodyne").ready()
    setup.send(image_message(), image_message())
    assert setup.node.counters.rejected == {"no_transform": 2}
    assert capfd.readouterr().err.count("no transform from") == 1

    broadcaster = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    broken = transform("base", "broken")
    broken.transform.rotation.w = 0.0
    frames = [transform("base", "velodyne", z=1.5), transform("base", CAMERA_FRAME, z=1.25), broken]
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
    setup = start(detector, detector_frame="base").ready()
    broadcaster = setup.camera.create_publisher(TFMessage, "/tf", 10)
    broadcast(broadcaster, "base", CAMERA_FRAME)

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


def test_another_parent_of_the_virtual_frame_is_told(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = start().ready()
    setup.send(image_message())
    spinner, node = setup.spinner, setup.node
    spinner.until("the node hears itself", lambda: node._frames._parents == {CAMERA_FRAME})
    assert setup.fresh_status().level != DiagnosticStatus.ERROR
    broadcaster = setup.camera.create_publisher(TFMessage, "/tf_static", LATCHED)
    broadcaster.publish(TFMessage(transforms=[transform("rear_optical", "/kd3d_lidar")]))
    spinner.until("the other transform", lambda: "rear_optical" in node._frames._parents)
    setup.node.publish_diagnostics()
    statuses = setup.camera.statuses  # one from before may still be on its way
    spinner.until("an error", lambda: statuses and statuses[-1].level == DiagnosticStatus.ERROR)
    assert "by another node, of rear_optical" in statuses[-1].message
    assert "set virtual_frame" in capfd.readouterr().err


def test_two_cameras_have_frames_and_diagnostics_of_their_own(start: Start) -> None:
    for side in ("left", "right"):
        setup = start(namespace=f"/{side}", listen=False)
        setup.spinner.until("activation", lambda node=setup.node: node.state == "active")
        status = setup.fresh_status()
        assert status.name == f"{side}/kd3d_detector: detector"
        assert status.hardware_id == f"/{side}/image"
        assert setup.node._outputs.frames.results == f"{side}/kd3d_lidar"


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


def test_results_are_where_tf_has_them_at_the_stamp(start: Start) -> None:
    """The robot drives, and its camera is tilted: what is published is where the ground is."""
    setup = start(
        target_frame="/odom", camera_pitch=0.2, camera_height=1.0, tf_timeout=10.0
    ).ready()
    camera = setup.camera
    moving = camera.create_publisher(TFMessage, "/tf", 10)
    setup.spinner.until("TF is heard", moving.get_subscription_count)
    # The transforms come after the image: a lookup that waits for them is needed.
    camera.images.publish(image_message(stamp=10.25))
    setup.spinner.until("the image", lambda: setup.node.counters.received == 1)
    broadcast(moving, "odom", CAMERA_FRAME)
    setup.spinner.until("results", lambda: camera.points and camera.detections and camera.markers)
    assert camera.points[0].header.frame_id == "odom"
    # `transform` doesn't turn the camera: odom's axes are those of its optical frame.
    move = np.eye(4)
    move[0, 3] = 10.25
    odom_from_detector = move @ np.linalg.inv(virtual_lidar_from_camera(1.0, 0.2))
    sent = np.array(answer().points, np.float64)
    points = np.frombuffer(camera.points[0].data, np.float32).reshape(-1, 4)
    expected = sent[:, :3] @ odom_from_detector[:3, :3].T + odom_from_detector[:3, 3]
    np.testing.assert_allclose(points[:, :3], expected, atol=1e-4)
    np.testing.assert_array_equal(points[:, 3], answer().points[:, 3])
    for box, found in zip(answer().boxes, camera.detections[0].detections, strict=True):
        place, turn = found.bbox.center.position, found.bbox.center.orientation
        center = odom_from_detector @ [*box[:2], box[2] + box[5] / 2, 1]
        np.testing.assert_allclose([place.x, place.y, place.z], center[:3], atol=1e-5)
        upright = Rotation.from_euler("z", box[6])
        expected_turn = odom_from_detector[:3, :3] @ upright.as_matrix()
        np.testing.assert_allclose(
            Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix(),
            expected_turn,
            atol=1e-6,
        )
    lines = next(marker for marker in camera.markers[0].markers if marker.ns == "boxes")
    first = lines.points[0]
    corner = odom_from_detector @ [*corners(answer().boxes[:1].astype(float))[0, 0], 1]
    np.testing.assert_allclose([first.x, first.y, first.z], corner[:3], atol=1e-5)


def broadcast(publisher: Publisher, parent: str, child: str) -> None:
    """At 10 and 11 s, the seconds are where it is."""
    for second in (10, 11):
        moved = transform(parent, child, x=second)
        moved.header.stamp.sec = second
        publisher.publish(TFMessage(transforms=[moved]))


def test_images_without_a_transform_to_the_target_are_rejected_and_counted(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = start(target_frame="odom", tf_timeout=0.02).ready()
    setup.send(image_message(stamp=1), image_message(stamp=2))
    assert setup.node.counters.rejected == {"no_target_transform": 2}
    assert "no transform from 'camera_optical' to 'odom'" in setup.fresh_status().message
    assert capfd.readouterr().err.count("publish it, or leave target_frame empty") == 1


def test_the_virtual_frame_stays_level_by_a_gravity_frame(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, gravity_frame="odom", camera_height=1.0).ready()
    transforms: list[TFMessage] = []
    moving = setup.camera.create_publisher(TFMessage, "/tf", 10)
    for second, pitch in ((10, 0.0), (11, 0.2)):
        stamped = transform("odom", CAMERA_FRAME)
        stamped.header.stamp.sec = second
        turn = Rotation.from_matrix(virtual_lidar_from_camera(1.0, pitch)[:3, :3])
        heading = Rotation.from_euler("z", 0.7) * turn
        x, y, z, w = heading.as_quat()
        stamped.transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
        moving.publish(TFMessage(transforms=[stamped]))
    setup.spinner.until("the transforms", lambda: setup.node._frames.transforms.moves(CAMERA_FRAME))
    setup.camera.listen(TFMessage, "/tf", transforms, 10)
    setup.connect()
    setup.node.set_parameters([Parameter("tf_timeout", value=10.0)])
    setup.send(image_message(stamp=10.5), image_message(stamp=11))
    for (_, camera), pitch in zip(detector.calls, (0.1, 0.2), strict=True):
        np.testing.assert_allclose(
            camera.lidar_from_camera, virtual_lidar_from_camera(1.0, pitch), atol=1e-9
        )

    def own() -> list[TransformStamped]:
        every = [stamped for message in transforms for stamped in message.transforms]
        return [stamped for stamped in every if stamped.child_frame_id == "kd3d_lidar"]

    setup.spinner.until("the virtual frame of each image", lambda: len(own()) == 2)
    assert [(stamped.header.stamp.sec, stamped.header.stamp.nanosec) for stamped in own()] == [
        (10, 500_000_000), (11, 0),
    ]  # fmt: skip
