"""The LiDAR's beams, and what it makes of distance, angle and material."""

import numpy as np
import pytest

from kd3d_core.data.synthetic.dataset import Frame
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.lidar import LidarConfig, beam_directions, beam_elevations, scan
from kd3d_core.data.synthetic.lighting import draw_light
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Mesh, box
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.errors import ConfigError

_GREY = (0.5, 0.5, 0.5)


def _scan(mesh: Mesh, config: LidarConfig, seed: int = 0) -> np.ndarray:
    light = draw_light(np.random.default_rng(0))
    owner = np.full(len(mesh), -1, np.int16)
    moment = Moment(mesh, owner, (), np.zeros((0, 7), np.float32), np.eye(4), light)
    return scan(moment, RayCaster(mesh.triangles), config, np.random.default_rng(seed)).points


def _wall(distance: float, material: Material, color: tuple = _GREY) -> Mesh:
    return box((distance, -60, -60), (distance + 1, 60, 60), material, color)


def test_beams_are_those_of_an_hdl_64e() -> None:
    degrees = np.rad2deg(beam_elevations())
    steps = -np.diff(degrees)
    assert len(degrees) == 64
    assert (degrees[0], degrees[-1]) == (pytest.approx(2.0), pytest.approx(-24.9))
    np.testing.assert_allclose(steps[:31], 1 / 3, atol=0.01)
    np.testing.assert_allclose(steps[31:], 0.5, atol=0.03)


def test_shots_cover_the_field_and_are_centred() -> None:
    directions = beam_directions(LidarConfig(azimuth_step=0.2, field=90))
    assert directions.shape == (64 * 450, 3)
    azimuth = np.rad2deg(np.arctan2(directions[:, 1], directions[:, 0]))
    assert azimuth.max() == pytest.approx(44.9)
    assert azimuth.min() == pytest.approx(-44.9)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert len(beam_directions(LidarConfig(azimuth_step=0.5, field=360))) == 64 * 720


def test_range_noise_is_along_the_beam_and_as_wide_as_asked() -> None:
    config = LidarConfig(range_noise=0.03, dropout=False)
    points = _scan(_wall(20, Material.CONCRETE), config)[:, :3].astype(np.float64)
    distance = np.linalg.norm(points, axis=1)
    truth = 20 / (points[:, 0] / distance)
    assert (distance - truth).std() == pytest.approx(0.03, rel=0.05)
    assert abs((distance - truth).mean()) < 0.001
    exact = _scan(_wall(20, Material.CONCRETE), LidarConfig(range_noise=0, dropout=False))
    np.testing.assert_allclose(exact[:, 0], 20, atol=1e-4)


def test_dark_and_far_surfaces_are_seen_less() -> None:
    config = LidarConfig(field=20)
    count = {
        (distance, name): len(_scan(_wall(distance, Material.CAR_PAINT, color), config))
        for distance in (20.0, 80.0)
        for name, color in (("white", (0.8,) * 3), ("black", (0.02,) * 3))
    }
    assert count[20.0, "white"] > 0.95 * 64 * 116
    assert count[20.0, "black"] > 0.9 * 64 * 116
    assert count[80.0, "white"] > 0.8 * 64 * 116
    assert count[80.0, "black"] < 0.5 * count[80.0, "white"]


def test_glass_lets_shots_through_and_nothing_is_beyond_120_m() -> None:
    config = LidarConfig(field=20)
    glass = len(_scan(_wall(10, Material.CAR_GLASS), config))
    assert 0.2 < glass / (64 * 116) < 0.5
    assert len(_scan(_wall(121, Material.REFLECTOR), config)) == 0


def test_intensity_tells_materials_apart() -> None:
    config = LidarConfig(dropout=False)
    mean = {
        material: _scan(_wall(10, material), config)[:, 3].mean()
        for material in (Material.REFLECTOR, Material.MARKING, Material.ASPHALT, Material.RUBBER)
    }
    values = list(mean.values())
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9
    assert values[-1] < 0.1


def test_scans_look_like_kittis(frames: list[Frame]) -> None:
    """As many points in the camera's quarter, a flat road at -1.73 m, intensities in [0, 1]."""
    for frame in frames:
        points = frame.scan.points
        assert points.dtype == np.float32
        assert 15_000 < len(points) < 33_500
        assert points[:, 3].min() >= 0
        assert points[:, 3].max() <= 1
        assert np.linalg.norm(points[:, :3], axis=1).max() < 120.2
        road = points[(frame.scan.owner < 0) & (np.abs(points[:, 1]) < 1) & (points[:, 0] < 12)]
        assert np.median(road[:, 2]) == pytest.approx(-1.73, abs=0.01)


@pytest.mark.parametrize("wrong", [{"azimuth_step": 0.0}, {"field": 400.0}, {"range_noise": -1.0}])
def test_impossible_scans_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give"):
        LidarConfig(**wrong)
