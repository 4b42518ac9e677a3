"""Ids and velocities: what a user sees of the tracker, over time."""

import numpy as np
import pytest

from kd3d_core.errors import CalibrationError, ConfigError
from kd3d_core.tracking import Tracker, TrackerConfig, Tracks

TENTH = 100_000_000
START = 1_700_000_000 * 10**9


def car(x: float, y: float = 0.0, yaw: float = 0.0) -> list[float]:
    return [x, y, -1.7, 4.0, 1.6, 1.5, yaw]


def pose(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, 0], [0, 0, 0, 1.0]])


class Drive:
    """A tracker, and its time."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.said: list[str] = []
        self.tracker = Tracker(config, self.said.append)
        self.stamp_ns = START

    def step(
        self,
        boxes: list[list[float]],
        world_from_detector: np.ndarray | None = None,
        names: list[str] | None = None,
        after_ns: int = TENTH,
    ) -> Tracks:
        self.stamp_ns += after_ns
        names = ["Car"] * len(boxes) if names is None else names
        scores = np.full(len(boxes), 0.9)
        found = np.array(boxes, np.float32).reshape(-1, 7)
        return self.tracker.step(found, scores, names, self.stamp_ns, world_from_detector)


def test_a_track_is_confirmed_by_detections_over_some_time():
    slow, fast = Drive(), Drive()
    slow.step([])
    fast.step([])
    assert [len(slow.step([car(20)])) for _ in range(4)] == [0, 0, 1, 1]
    counts = [len(fast.step([car(20)], after_ns=TENTH // 3)) for _ in range(7)]
    assert counts == [0, 0, 0, 0, 0, 1, 1]  # at 30 Hz, two frames more tell little


def test_time_alone_confirms_no_track():
    drive = Drive()
    drive.step([])
    assert [len(drive.step([car(20)], after_ns=2 * TENTH)) for _ in range(3)] == [0, 0, 1]


def test_what_was_seen_once_is_soon_forgotten():
    drive = Drive()
    drive.step([])
    drive.step([car(20)])
    for _ in range(3):  # a confirmed one would be kept that long
        drive.step([])
    assert [len(drive.step([car(20)])) for _ in range(3)] == [0, 0, 1]


def test_objects_of_the_first_frame_count_at_once():
    drive = Drive()
    assert drive.step([car(20), car(40)]).ids.tolist() == [1, 2]
    assert drive.step([car(20), car(30)]).ids.tolist() == [1, 2]


def test_ids_stay_with_objects_whatever_the_order_of_the_boxes():
    drive, rng = Drive(), np.random.default_rng(0)
    lanes = np.array([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0])
    owner: dict[int, float] = {}
    for step in range(30):
        order = rng.permutation(len(lanes))
        tracks = drive.step([car(20 + 0.5 * step, lanes[index]) for index in order])
        for number, box, index in zip(tracks.ids, tracks.boxes, tracks.detection, strict=True):
            lane = lanes[order[index]]
            assert owner.setdefault(number, lane) == lane
            assert abs(box[1] - lane) < 0.2
    assert sorted(owner) == [1, 2, 3, 4, 5, 6]


def test_crossing_objects_keep_their_ids():
    """They meet in the middle, where only their velocities tell them apart."""
    drive = Drive()
    for step in range(41):
        along = -10.0 + 0.5 * step
        tracks = drive.step([car(30 + along, along), car(30 + along, -along)])
        if step == 10:
            before = dict(zip(tracks.ids.tolist(), tracks.boxes[:, 1].tolist(), strict=True))
    after = dict(zip(tracks.ids.tolist(), tracks.boxes[:, 1].tolist(), strict=True))
    assert before.keys() == after.keys() == {1, 2}
    assert all(before[number] * after[number] < 0 for number in before)


def test_velocity_is_relative_without_poses_and_over_ground_with_them():
    """We drive at 10 m/s, a car before us at 15 m/s, and another one stands."""
    relative, ground = Drive(), Drive()
    for step in range(25):
        ours = 1.0 * step
        boxes = [car(20 + 1.5 * step - ours), car(60 - ours, 5)]
        without, with_poses = relative.step(boxes), ground.step(boxes, pose(x=100 + ours))
    np.testing.assert_allclose(without.velocities[:, 0], [5, -10], atol=0.3)
    np.testing.assert_allclose(with_poses.velocities[:, 0], [15, 0], atol=0.3)
    assert (without.is_over_ground, with_poses.is_over_ground) == (False, True)
    assert len(relative.said) == 1
    assert "own frame" in relative.said[0]
    assert not ground.said


def test_poses_hold_standing_objects_through_a_sharp_turn():
    """A quarter turn in a second sweeps things 40 m away sideways by 6 m a frame."""
    lost, held = Drive(), Drive()
    standing = [np.array([40.0, y, -1.7]) for y in (-9.0, -3.0, 3.0, 9.0)]
    for step in range(16):
        world_from_detector = pose(x=0.5 * step, yaw=np.pi / 2 * min(step, 10) / 10)
        turn, move = world_from_detector[:3, :3], world_from_detector[:3, 3]
        yaw = -np.pi / 2 * min(step, 10) / 10
        boxes = [car(*((place - move) @ turn)[:2], yaw) for place in standing]
        without, with_poses = lost.step(boxes), held.step(boxes, world_from_detector)
        np.testing.assert_allclose(np.abs(with_poses.velocities), 0, atol=0.1)
    assert with_poses.ids.tolist() == [1, 2, 3, 4]
    assert not set(without.ids.tolist()) & {1, 2, 3, 4}
    np.testing.assert_allclose(with_poses.boxes[0], boxes[0], atol=0.05)


def test_velocities_are_along_the_axes_of_the_turned_detector():
    drive = Drive()
    for step in range(20):  # it turns until it looks along the world's y, as a car drives
        yaw = np.pi / 2 * min(step, 10) / 10
        x, y = np.array([0, 20 + step]) @ pose(yaw=yaw)[:2, :2]
        tracks = drive.step([car(x, y)], pose(yaw=yaw))
    np.testing.assert_allclose(tracks.velocities[0], [10, 0, 0], atol=0.3)


def test_a_track_survives_misses_for_a_while_and_goes_on_moving():
    drive = Drive()
    for step in range(15):
        drive.step([car(20 + step)])
    for missed in range(1, 3):
        tracks = drive.step([])
        assert tracks.ids.tolist() == [1]
        assert tracks.detection.tolist() == [-1]
        np.testing.assert_allclose(tracks.unseen_s, 0.1 * missed)
        np.testing.assert_allclose(tracks.boxes[0, 0], 34 + missed, atol=0.4)
    assert [len(drive.step([])) for _ in range(3)] == [0] * 3
    assert drive.step([car(40)]).ids.tolist() == [1]
    assert [len(drive.step([])) for _ in range(8)] == [1] * 2 + [0] * 6
    assert [drive.step([car(49)]).ids.tolist() for _ in range(3)] == [[], [], [2]]


def test_dropped_frames_count_by_their_time_but_are_no_misses():
    drive = Drive()
    for step in range(10):
        drive.step([car(20 + step)])
    tracks = drive.step([car(29 + 15)], after_ns=15 * TENTH)
    assert tracks.ids.tolist() == [1]  # 1.5 s later: longer than it may be missed
    np.testing.assert_allclose(tracks.velocities[0, 0], 10, atol=0.5)
    assert len(drive.step([], after_ns=10 * TENTH)) == 0  # a single miss, however late
    assert drive.step([car(44 + 11)]).ids.tolist() == [1]


def test_irregular_stamps_give_the_right_velocity():
    drive, rng, place = Drive(), np.random.default_rng(1), 20.0
    for _ in range(30):
        after_ns = int(rng.integers(20_000_000, 300_000_000))
        place += 8e-9 * after_ns
        tracks = drive.step([car(place)], after_ns=after_ns)
    np.testing.assert_allclose(tracks.velocities[0, 0], 8, atol=0.1)


@pytest.mark.parametrize(("after_ns", "word"), [(-20 * TENTH, "back"), (80 * TENTH, "8 s")])
def test_time_that_jumps_begins_anew_and_is_said_once(after_ns: int, word: str):
    drive = Drive()
    for _ in range(2):
        for _ in range(5):
            tracks = drive.step([car(20)], pose())
        drive.step([car(20)], pose(), after_ns=after_ns)
    for _ in range(3):
        tracks = drive.step([car(20)], pose())
    assert tracks.ids.tolist() == [3]
    assert len(drive.said) == 1
    assert word in drive.said[0]
    assert "anew" in drive.said[0]


def test_equal_stamps_are_said_and_change_no_velocity():
    drive = Drive()
    for _ in range(5):
        drive.step([car(20)], pose())
    tracks = drive.step([car(20.2)], pose(), after_ns=0)
    assert tracks.ids.tolist() == [1]
    assert np.abs(tracks.velocities).max() < 1
    assert len(drive.said) == 1
    assert "same stamp" in drive.said[0]


def test_missing_poses_are_bridged_then_tracking_begins_anew():
    drive = Drive()
    for step in range(10):
        drive.step([car(60 - step)], pose(x=step))
    for step in range(10, 15):
        tracks = drive.step([car(60 - step)])
        assert tracks.ids.tolist() == [1]
        np.testing.assert_allclose(tracks.velocities[0], 0, atol=0.1)
    assert len(drive.said) == 1
    assert "as before" in drive.said[0]
    for step in range(15, 30):
        tracks = drive.step([car(60 - step)])
    assert tracks.ids.tolist() == [2]
    assert not tracks.is_over_ground
    assert "anew" in drive.said[1]
    assert "own frame" in drive.said[2]
    for step in range(30, 35):
        tracks = drive.step([car(60 - step)], pose(x=step))
    assert tracks.ids.tolist() == [3]
    assert tracks.is_over_ground
    assert len(drive.said) == 4


def test_a_pose_that_jumps_begins_anew():
    drive = Drive()
    for step in range(10):
        drive.step([car(60 - step)], pose(x=step))
    for step in range(10, 15):
        tracks = drive.step([car(60 - step)], pose(x=step, y=5))
    assert tracks.ids.tolist() == [2]
    assert "jumps by 5 m" in drive.said[0]


def test_a_fast_drive_is_no_jump():
    drive = Drive()
    tracks = [drive.step([car(60 - 3 * step)], pose(x=3 * step)) for step in range(5)]
    assert [each.ids.tolist() for each in tracks] == [[1]] * 5
    assert not drive.said


def test_without_poses_faster_objects_are_expected():
    """Two frames of one that comes at 40 m/s: as near traffic seems to, but nothing over ground."""
    seen = []
    for world_from_detector in (None, pose()):
        drive = Drive()
        drive.step([car(60)], world_from_detector)
        seen.append(drive.step([car(40)], world_from_detector, after_ns=5 * TENTH).ids.tolist())
    assert seen == [[1], []]


def test_a_pose_that_is_none_is_refused():
    with pytest.raises(CalibrationError, match="not a pose"):
        Drive().step([car(20)], 2 * np.eye(4))


def test_half_turns_of_a_heading_are_outvoted():
    drive = Drive()
    for step in range(12):
        flipped = np.pi if step in (3, 7, 8) else 0.0
        tracks = drive.step([car(20, yaw=0.1 + flipped)])
        if len(tracks):
            np.testing.assert_allclose(tracks.boxes[0, 6], 0.1, atol=0.02)


def test_a_wrong_first_heading_is_corrected():
    drive = Drive()
    for step in range(5):
        tracks = drive.step([car(20, yaw=0.1 + (np.pi if step == 0 else 0))])
    np.testing.assert_allclose(tracks.boxes[0, 6], 0.1, atol=0.02)


def test_a_long_known_heading_can_still_be_outvoted():
    drive = Drive()
    for step in range(30):
        tracks = drive.step([car(20, yaw=0.1 + (np.pi if step >= 23 else 0))])
    np.testing.assert_allclose(tracks.boxes[0, 6], 0.1 - np.pi, atol=0.02)


def test_headings_around_half_a_turn_wrap():
    drive, rng = Drive(), np.random.default_rng(2)
    for _ in range(20):
        yaw = np.pi + rng.normal(0, 0.1)
        tracks = drive.step([car(20, yaw=(yaw + np.pi) % (2 * np.pi) - np.pi)])
    assert abs(abs(tracks.boxes[0, 6]) - np.pi) < 0.1


def test_the_filter_is_nearer_to_the_truth_than_the_detections():
    drive, rng, errors = Drive(), np.random.default_rng(3), []
    for step in range(60):
        truth = np.array([20 + 0.8 * step, 3.0])
        seen = truth + rng.normal(0, 0.3, 2)
        tracks = drive.step([car(*seen)])
        if step >= 10:
            errors.append((np.hypot(*(tracks.boxes[0, :2] - truth)), np.hypot(*(seen - truth))))
    filtered, raw = np.mean(errors, 0)
    assert filtered < 0.75 * raw


def test_classes_are_followed_apart():
    drive = Drive()
    for _ in range(4):
        tracks = drive.step([car(20), car(20.2)], names=["Car", "Cyclist"])
    by_name = dict(zip(tracks.names, tracks.detection.tolist(), strict=True))
    assert by_name == {"Car": 0, "Cyclist": 1}
    assert tracks.ids_of_detections(2) == ("1", "2")


def test_frames_without_boxes_are_fine():
    drive = Drive()
    tracks = drive.step([])
    assert len(tracks) == 0
    assert tracks.boxes.shape == (0, 7)
    assert tracks.names == ()
    assert tracks.ids_of_detections(0) == ()
    assert tracks.velocities_of_detections(0).shape == (0, 3)


def test_trails_are_where_the_object_was_seen_from_where_we_are():
    drive = Drive()
    for step in range(30):  # it stands, we come nearer
        tracks = drive.step([car(60 - step, 2)], pose(x=step))
    assert tracks.trails.shape == (1, 20, 3)
    np.testing.assert_allclose(tracks.trails[0, :, :2], [[31, 2]] * 20, atol=0.1)
    fast = Drive()
    for step in range(30):  # at 50 Hz not every frame leaves a point
        tracks = fast.step([car(20 + 0.2 * step)], pose(), after_ns=TENTH // 5)
    points = tracks.trails[0, np.isfinite(tracks.trails[0, :, 0])]
    assert 5 <= len(points) <= 7
    assert (np.diff(points[:, 0]) < -0.5).all()


def test_a_reset_forgets_objects_but_not_which_ids_are_used():
    drive = Drive()
    for _ in range(4):
        drive.step([car(20)])
    drive.tracker.reset()
    assert [drive.step([car(20)]).ids.tolist() for _ in range(4)] == [[2]] * 4


def test_world_coordinates_may_be_huge_and_tilted():
    """Poses in UTM, in a frame whose z axis points forward, as a camera's does."""
    tilted = np.array([[0, -1, 0, 4.5e5], [0, 0, -1, 5.4e6], [1, 0, 0, 100], [0, 0, 0, 1.0]])
    drive = Drive()
    for step in range(15):
        tracks = drive.step([car(60 - step, 2, 0.3)], tilted @ pose(x=step))
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.boxes[0], car(46, 2, 0.3), atol=0.02)
    np.testing.assert_allclose(tracks.velocities[0], 0, atol=0.05)


@pytest.mark.parametrize(
    ("setting", "word"),
    [({"gate": 0}, "gate"), ({"confirm_hits": 0}, "confirm_hits"), ({"forget_s": -1}, "forget_s")],
)
def test_impossible_settings_are_named(setting: dict, word: str):
    with pytest.raises(ConfigError, match=word):
        TrackerConfig(**setting)
