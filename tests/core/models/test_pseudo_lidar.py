"""Pseudo-LiDAR: back-projection, filters, sampling."""

import numpy as np
import pytest
import torch

from kd3d_core.errors import ConfigError
from kd3d_core.geometry import points as point_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.config import PseudoLidarConfig
from kd3d_core.models.pseudo_lidar import pseudo_lidar, usable

EVERY_PIXEL = PseudoLidarConfig(keep_fraction=1.0, max_jump=0.0)


@pytest.fixture
def camera() -> PinholeCamera:
    projection = np.array([[90.0, 0, 63.5, 4.4], [0, 90, 20.2, 0.2], [0, 0, 1, 0.003]])
    return PinholeCamera(projection, 128, 40, virtual_lidar_from_camera(1.65))


def test_points_project_back_into_their_pixels(camera):
    depth = torch.rand(40, 128, generator=torch.Generator().manual_seed(1)) * 60 + 2
    points, valid = pseudo_lidar(depth, camera, EVERY_PIXEL)
    assert valid.all()
    pixels, back = camera.project(points)
    v, u = torch.meshgrid(torch.arange(40.0), torch.arange(128.0), indexing="ij")
    torch.testing.assert_close(pixels, torch.stack([u, v], -1).view(-1, 2), atol=0.01, rtol=0)
    torch.testing.assert_close(back, depth.flatten(), atol=1e-4, rtol=1e-5)
    assert (points[:, 3] == 0.5).all()


def test_a_wall_is_a_plane_in_the_detector_frame(camera):
    points, _ = pseudo_lidar(torch.full((40, 128), 20.0), camera, EVERY_PIXEL)
    torch.testing.assert_close(points[:, 0], torch.full((5120,), 20.0), atol=0.01, rtol=0)
    assert points[0, 1] > 10  # the left of the image is +y
    assert points[0, 2] > 0 > points[-1, 2]  # its top is +z


def test_unknown_and_out_of_range_depths_are_marked(camera):
    depth = torch.full((40, 128), 10.0)
    bad = [0.0, -3.0, 0.5, 79.5, 500.0, torch.nan, torch.inf, -torch.inf]
    depth[0, : len(bad)] = torch.tensor(bad)
    points, valid = pseudo_lidar(depth, camera, EVERY_PIXEL)
    assert (~valid).nonzero().flatten().tolist() == list(range(len(bad)))
    assert torch.isfinite(points).all()


def test_flying_points_at_an_edge_are_dropped_and_slopes_are_not():
    depth = torch.full((8, 20), 10.0)
    depth[:, 10:] = 30.0
    depth[:, 9] = 18.0  # what upsampling leaves between the two
    keep = usable(depth, PseudoLidarConfig(max_jump=0.1))
    assert not keep[:, 8:11].any()
    assert keep[:, :8].all()
    assert keep[:, 11:].all()
    slope = 10 * 1.05 ** torch.arange(20.0).expand(8, 20)
    assert usable(slope, PseudoLidarConfig(max_jump=0.1)).all()


def test_sparse_depth_has_no_jumps_to_unknown_neighbours():
    depth = torch.zeros(9, 9)
    depth[::2, ::2] = 12.0
    assert usable(depth, PseudoLidarConfig(max_jump=0.1)).sum() == 25


def test_sampling_keeps_its_share_evenly_and_repeats(camera):
    depth = torch.full((40, 128), 10.0)
    config = PseudoLidarConfig(keep_fraction=0.1)
    points, _ = pseudo_lidar(depth, camera, config)
    again, _ = pseudo_lidar(depth, camera, config)
    other, _ = pseudo_lidar(depth, camera, PseudoLidarConfig(keep_fraction=0.1, seed=1))
    assert len(points) == 512
    assert torch.equal(points, again)
    assert not torch.equal(points, other)
    assert len(torch.unique(points, dim=0)) == 512
    left_half = (points[:, 1] > 0).float().mean()
    assert 0.4 < left_half < 0.6


@pytest.mark.parametrize(
    "settings",
    [{"keep_fraction": 0.0}, {"keep_fraction": 1.5}, {"intensity": 2.0}, {"min_depth": 90.0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        PseudoLidarConfig(**settings)


def test_matches_the_velodyne_when_given_its_depth(tracking):
    """LiDAR depth in GLPN's place: the pseudo-LiDAR lies on the LiDAR's points."""
    frame = tracking[0]
    camera = frame.camera()
    lidar = frame.points()
    size = (camera.height, camera.width)
    depth = point_geometry.depth_map(lidar, camera.image_from_lidar, size)
    points, valid = pseudo_lidar(torch.from_numpy(depth), camera, EVERY_PIXEL)
    points = points[valid].numpy()
    assert len(points) > 10_000

    from scipy.spatial import cKDTree

    distance, _ = cKDTree(lidar[:, :3]).query(points[:, :3])
    assert np.median(distance) < 0.05
    pixels, _ = camera.project(points)
    rows, columns = np.nonzero(depth >= 1.0)
    np.testing.assert_allclose(pixels, np.stack([columns, rows], 1)[: len(pixels)], atol=0.5)
