"""The camera's rays, lens and light."""

import numpy as np
import pytest

from kd3d_core.data.synthetic import texture
from kd3d_core.data.synthetic.dataset import Frame
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.lighting import Light
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Mesh, box, merge
from kd3d_core.data.synthetic.picture import pixel_rays
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import CameraConfig, Rig, RigVariation
from kd3d_core.data.synthetic.sensor import expose
from kd3d_core.data.synthetic.shading import radiance
from kd3d_core.errors import CalibrationError

_GREY = (0.5, 0.5, 0.5)
_LENS = (-0.32, 0.11, 0.001, -0.0008, 0.01)


def _light() -> Light:
    """A sun half way up on the left."""
    return Light(
        sun=np.array([0, 1, 1], np.float32) / np.sqrt(2, dtype=np.float32),
        sun_color=np.full(3, 2, np.float32),
        zenith=np.full(3, 0.5, np.float32),
        horizon=np.full(3, 1, np.float32),
        clouds=0.0,
        cloud_offset=np.zeros(2, np.float32),
        haze_m=1e9,
    )


def _moment(mesh: Mesh) -> Moment:
    owner = np.full(len(mesh), -1, np.int16)
    return Moment(mesh, owner, (), np.zeros((0, 7), np.float32), np.eye(4), _light())


def _look(mesh: Mesh, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radiance and sunlight at points, seen from the origin."""
    caster = RayCaster(mesh.triangles)
    hits = caster.cast(np.zeros(3), targets)
    return radiance(_moment(mesh), caster, np.zeros(3), targets, hits, 0.001)


@pytest.mark.parametrize("config", [CameraConfig(), CameraConfig(distortion=_LENS)])
def test_rays_go_through_their_pixels(config: CameraConfig) -> None:
    camera = Rig(config).camera
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (camera.width - 1, camera.height - 1), (200, 2))
    origin, directions = pixel_rays(camera, pixels)
    points = origin + directions * rng.uniform(2, 60, (200, 1))
    found, depth = camera.project(points)
    np.testing.assert_allclose(np.linalg.norm(points - origin, axis=1) /
                               np.linalg.norm(directions, axis=1), depth)  # fmt: skip
    if camera.distortion is not None:
        assert np.abs(found - pixels).max() > 5
        rays = np.c_[found, np.ones(200)] @ np.linalg.inv(camera.projection[:, :3]).T
        found = camera.distortion.raw_pixels(rays)
    np.testing.assert_allclose(found, pixels, atol=1e-3)


def test_the_rig_is_level_and_at_its_heights() -> None:
    rig = Rig(CameraConfig(mount_height=1.2))
    camera = rig.rectified_camera
    ahead = camera.project(np.array([[1000.0, 0.0, -1.73 + 1.2]]))[0]
    assert ahead[0, 1] == pytest.approx(camera.projection[1, 2], abs=0.1)
    origin = camera.rays[1]
    assert origin[2] == pytest.approx(1.2 - 1.73)


def test_a_camera_looks_down_by_its_pitch_and_leans_to_the_right_by_its_roll() -> None:
    camera = Rig(CameraConfig(pitch_deg=2.0, roll_deg=3.0)).rectified_camera
    level = Rig(CameraConfig()).rectified_camera
    far_ahead, right = np.array([[1e6, 0, 0]]), np.array([[1e6, -1e5, 0]])
    ahead = camera.project(far_ahead)[0][0] - level.project(far_ahead)[0][0]
    assert ahead[1] == pytest.approx(-721.5377 * np.tan(np.deg2rad(2)), abs=0.5)
    # Leaning to the right, the horizon rises there.
    horizon = camera.project(right)[0][0] - camera.project(far_ahead)[0][0]
    slope = np.rad2deg(np.arctan2(horizon[1], horizon[0]))
    assert slope == pytest.approx(-3.0, abs=0.1)
    # It turns about KITTI's camera 0, 6 cm beside it.
    np.testing.assert_allclose(camera.rays[1], level.rays[1], atol=0.004)


def test_variation_draws_other_cameras_within_its_limits() -> None:
    variation = RigVariation(height=0.2, pitch_deg=0.5, roll_deg=0.1, focal=0.05)
    rng = np.random.default_rng(0)
    drawn = [variation.draw(CameraConfig(), rng) for _ in range(300)]
    heights, pitches, focal = (
        np.array([getattr(camera, name) for camera in drawn])
        for name in ("mount_height", "pitch_deg", "fx")
    )
    assert 1.45 <= heights.min() < 1.48
    assert 1.82 < heights.max() <= 1.85
    assert pitches.std() == pytest.approx(0.5, abs=0.06)
    assert 0.95 <= focal.min() / 721.5377 < 0.96
    assert RigVariation().draw(CameraConfig(), rng) == CameraConfig()
    with pytest.raises(CalibrationError, match="pitch_deg"):
        RigVariation(pitch_deg=40)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 3},
        {"fx": -1.0},
        {"mount_height": 0.0},
        {"distortion": (1.0,)},
        {"pitch_deg": 60.0},
    ],
)
def test_impossible_cameras_are_refused(wrong: dict) -> None:
    with pytest.raises(CalibrationError, match=r"give|must be"):
        CameraConfig(**wrong)


@pytest.mark.parametrize(
    ("lens", "fits"),
    [
        ((-0.3, 0.0, 0.0, 0.0), False),  # folds over at 0.70 focal lengths; the corner is at 0.92
        ((-0.1, 0.0, 0.0, 0.0), True),  # at 1.22
        ((-0.16, 0.0, 0.0, 0.0), True),  # at 0.96
        ((-0.3, 0.09, 0.0, 0.0, 0.0), True),
        ((-0.3, 0.09, 0.0, 0.0, -0.05), False),
        ((0.4, 0.0, 0.0, 0.0), True),
        ((0.4, 0.0, 0.0, 0.0, -0.9), False),
    ],
)
def test_lenses_that_do_not_reach_the_corners_are_refused(
    lens: tuple[float, ...], fits: bool
) -> None:
    # Where f(r) first stops rising, looked for among many radii.
    k1, k2, _, _, k3 = (*lens, 0.0)[:5]
    r = np.linspace(0, 3, 300_001)
    f = r * (1 + k1 * r**2 + k2 * r**4 + k3 * r**6)
    falling = np.flatnonzero(np.diff(f) <= 0)
    widest = f[falling[0]] if len(falling) else np.inf
    corner = np.hypot(632.4407, 201.146) / 721.5377
    assert (corner < widest) == fits
    if fits:
        CameraConfig(distortion=lens)
    else:
        with pytest.raises(CalibrationError, match=r"doesn't reach the image's corners"):
            CameraConfig(distortion=lens)
        # A longer lens sees only the middle, where the function rises.
        CameraConfig(distortion=lens, fx=2000, fy=2000)


def test_things_cast_shadows_away_from_the_sun() -> None:
    floor = box((0, -20, -3), (40, 20, -2), Material.CONCRETE, _GREY)
    pillar = box((9, -0.5, -2), (11, 0.5, 0.5), Material.CONCRETE, _GREY)
    targets = np.array([[10.0, y, -2.0] for y in (4.0, 2.0, -1.5, -2.5, -4.0)])
    color, lit = _look(merge([floor, pillar]), targets)
    assert lit.tolist() == [True, True, False, False, True]
    assert color[2].mean() < 0.6 * color[0].mean()


def test_light_is_darker_where_things_stand_close() -> None:
    floor = box((0, -20, -3), (40, 20, -2), Material.CONCRETE, _GREY)
    table = box((8, -2, -1.5), (12, 2, -1.4), Material.CONCRETE, _GREY)
    targets = np.array([[9.5, 0.0, -2.0], [20.0, 0.0, -2.0]])
    mesh = merge([floor, table])
    origin = np.array([0.0, 0.0, -1.8])
    directions = targets - origin
    caster = RayCaster(mesh.triangles)
    hits = caster.cast(origin, directions)
    color, lit = radiance(_moment(mesh), caster, origin, directions, hits, 0.001)
    assert lit.tolist() == [False, True]
    assert color[0].mean() < 0.25 * color[1].mean()


def test_the_sky_is_brightest_at_the_sun() -> None:
    nothing = box((0, 0, -99), (1, 1, -98), Material.CONCRETE, _GREY)
    sun = _light().sun.astype(float)
    color, lit = _look(nothing, np.array([sun, [0, -1.0, 1.0], [1.0, 0, 0.01]]))
    assert not lit.any()
    assert color[0].mean() > color[1].mean() + 0.5
    np.testing.assert_allclose(color[2], 1, atol=0.1)


@pytest.mark.parametrize("material", list(Material))
def test_textures_keep_the_mean_and_fade_in_the_distance(material: Material) -> None:
    rng = np.random.default_rng(0)
    count = 20_000
    points = rng.uniform(0, 60, (count, 3)).astype(np.float32)
    normals = np.tile(np.array([1, 0, 0], np.float32), (count, 1))
    kinds = np.full(count, material)
    color = np.full((count, 3), 0.3, np.float32)
    near, far = (
        texture.vary(kinds, color, points, normals, np.full(count, footprint, np.float32))
        for footprint in (0.005, 1.0)
    )
    assert near.mean() == pytest.approx(0.3, rel=0.2)
    assert far.std() <= near.std() + 1e-6
    assert near.min() >= 0
    assert near.max() <= 1


def test_stains_on_asphalt_are_no_streaks() -> None:
    """As far apart along the road as across it, two places look equally alike."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(0, 5, (4000, 2)), np.zeros(4000)]).astype(np.float32)
    kinds, color = np.full(4000, Material.ASPHALT), np.full((4000, 3), 0.3, np.float32)
    up, sharp = np.tile(np.array([0, 0, 1], np.float32), (4000, 1)), np.full(4000, 1e-4, np.float32)
    stains = texture._asphalt(points, up, sharp)
    alike = [
        np.corrcoef(stains, texture._asphalt(points + np.float32(shift), up, sharp))[0, 1]
        for shift in ((0.15, 0, 0), (0, 0.15, 0))
    ]
    assert alike[0] == pytest.approx(alike[1], abs=0.12)
    assert texture.vary(kinds, color, points, up, sharp).std() > 0.01


def test_exposure_adapts_and_noise_grows_with_light() -> None:
    ramp = np.tile(np.linspace(0.05, 1, 200, dtype=np.float32)[None, :, None], (150, 1, 3))
    images = [
        expose(ramp * gain, np.random.default_rng(0), np.random.default_rng(1)).astype(float)
        for gain in (1.0, 10.0)
    ]
    assert abs(images[0].mean() - images[1].mean()) < 10
    assert (np.diff(images[0].mean((0, 2))[5:100:5]) > 0).all()
    other = expose(ramp, np.random.default_rng(0), np.random.default_rng(2)).astype(float)
    assert 0.2 < (other - images[0]).std() < 12


def test_pictures_have_a_sky_a_road_and_contrast(frames: list[Frame]) -> None:
    for frame in frames:
        image, depth = frame.picture.image, frame.picture.depth
        assert image.shape == (375, 1242, 3)
        assert np.isinf(depth).any()
        assert np.isfinite(depth[-1]).all()
        assert image.std() > 25
        row = depth[300]
        assert (row[np.isfinite(row)] < 1.73 * 721.6 / (300 - 172.9) + 0.5).all()
