"""Edges of LiDAR and image: of boards that were drawn, and of KITTI's frames."""

from functools import cache

import numpy as np
import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.extract.edges import TURNS, TurnScores, score_turns, turned
from kd3d_core.extract.summary import Sample
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import transform

WIDTH, HEIGHT, FOCAL = 960, 400, 700.0
LIDAR_FROM_CAMERA = np.array([[0, 0, 1, 0.3], [-1, 0, 0, 0.05], [0, -1, 0, -0.1], [0, 0, 0, 1.0]])
CAMERA = PinholeCamera(
    np.array([[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, HEIGHT / 2, 0], [0, 0, 1, 0]]),
    WIDTH,
    HEIGHT,
    LIDAR_FROM_CAMERA,
)


@cache
def boards(seed: int) -> Sample:
    """A few upright boards of different greys before a far wall."""
    rng = np.random.default_rng(seed)
    depth = np.sort(rng.uniform(6, 18, 14))[::-1]
    left = rng.uniform(-0.7, 0.6, 14) * depth
    top = rng.uniform(-0.25, 0.15, 14) * depth
    right, bottom = left + rng.uniform(1, 2.5, 14), top + rng.uniform(0.8, 2, 14)
    boxes = np.stack([left, top, right, bottom], -1)
    image = np.full((HEIGHT, WIDTH), 90.0)
    for each, box in zip(depth, boxes, strict=True):
        u0, u1 = (np.round(FOCAL * box[[0, 2]] / each + WIDTH / 2).clip(0, WIDTH)).astype(int)
        v0, v1 = (np.round(FOCAL * box[[1, 3]] / each + HEIGHT / 2).clip(0, HEIGHT)).astype(int)
        image[v0:v1, u0:u1] = rng.uniform(0, 255)
    image += rng.normal(0, 3, image.shape)
    azimuth, elevation = np.meshgrid(
        np.radians(np.arange(-38, 38, 0.15)), np.radians(np.arange(-18, 18, 0.35))
    )
    rays = np.stack([np.tan(-azimuth), np.tan(-elevation) / np.cos(azimuth)], -1).reshape(-1, 2)
    # Seen from the LiDAR, whose place isn't the camera's.
    offset = np.linalg.inv(LIDAR_FROM_CAMERA)[:3, 3]
    ranges = np.full(len(rays), 40.0)
    for each, box in zip(depth, boxes, strict=True):
        places = rays * (each - offset[2]) + offset[:2]
        inside = ((places > box[:2]) & (places < box[2:])).all(1)
        ranges[inside] = each - offset[2]
    hits = np.column_stack([rays * ranges[:, None], ranges]) + offset
    points = np.zeros((len(hits), 4), np.float32)
    points[:, :3] = transform(hits, LIDAR_FROM_CAMERA)
    pixels = np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    return Sample(f"{seed:06d}", pixels, CAMERA, points)


def with_camera(sample: Sample, camera: PinholeCamera) -> Sample:
    return Sample(sample.name, sample.image, camera, sample.points)


def opposite(turn: str) -> str:
    return ("-" if turn[0] == "+" else "+") + turn[1]


def test_a_degree_about_any_axis_makes_the_score_worse() -> None:
    found = score_turns(map(boards, range(5)))
    assert found is not None
    assert found.frames == 5
    assert found.score > 1.5
    assert all(change < -0.05 for change in found.changes.values()), found
    assert not found.best_turn


@pytest.mark.parametrize("turn", TURNS)
def test_a_degree_is_found(turn: str) -> None:
    samples = [with_camera(boards(seed), turned(CAMERA, turn)) for seed in range(5)]
    found = score_turns(samples)
    assert found is not None
    assert found.best_turn == opposite(turn), found


def test_turns_are_about_the_cameras_own_axes() -> None:
    ahead = np.linalg.inv(LIDAR_FROM_CAMERA)
    point = transform(np.array([[0.0, 0, 10]]), np.linalg.inv(ahead))
    pixels, _ = turned(CAMERA, "+y").project(point)
    # The camera looks to the right, so that what was in its middle is to the left.
    assert pixels[0, 0] == pytest.approx(WIDTH / 2 - FOCAL * np.tan(np.radians(1)))
    assert pixels[0, 1] == pytest.approx(HEIGHT / 2)


def test_frames_without_edges_tell_nothing() -> None:
    sample = boards(0)
    assert sample.points is not None
    flat = Sample("0", sample.image, CAMERA, sample.points[:0])
    assert score_turns([flat, Sample("1", sample.image, CAMERA)]) is None
    wall = sample.points.copy()
    wall[:, 0] = 30
    assert score_turns([Sample("2", sample.image, CAMERA, wall)]) is None
    black = Sample("3", np.zeros_like(sample.image), CAMERA, sample.points)
    assert score_turns([black]) is None


def kitti_samples(frames: KittiDataset, every: int) -> list[Sample]:
    samples = []
    for index in range(0, len(frames), every):
        frame = frames[index]
        image = frame.image()
        camera = frame.camera(image.shape[:2])
        samples.append(Sample(frame.name, image, camera, frame.points()))
    return samples


def table(name: str, found: TurnScores) -> str:
    changes = ", ".join(f"{turn} {change:+.1%}" for turn, change in found.changes.items())
    return f"{name}, {found.frames} frames: {found.score:.3f}; turned by a degree: {changes}"


@pytest.mark.parametrize(("name", "every"), [("kitti_object", 2), ("tracking", 8)])
def test_real_frames(request: pytest.FixtureRequest, name: str, every: int) -> None:
    samples = kitti_samples(request.getfixturevalue(name), every)
    found = score_turns(samples)
    assert found is not None
    print(table(name, found))
    assert all(change < -0.02 for change in found.changes.values()), found
    for turn in ("-x", "+y", "-z"):
        off = [with_camera(sample, turned(sample.camera, turn)) for sample in samples]
        scores = score_turns(off)
        assert scores is not None
        assert scores.score < found.score
        assert scores.best_turn == opposite(turn), table(f"{name} off by {turn}", scores)
