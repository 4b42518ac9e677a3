"""The solids, and the vehicles and people that are made of them."""

from collections.abc import Callable

import numpy as np
import pytest

from kd3d_core.data.synthetic import people, plants, scenery, vehicles
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import (
    Mesh,
    box,
    cross,
    ellipsoid,
    ellipsoids,
    limb,
    rod,
    rotate,
    smooth,
)
from kd3d_core.data.synthetic.raycast import RayCaster

_RED = (0.5, 0.0, 0.0)


def _away_from(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of points from a segment."""
    line = end - start
    along = np.clip((points - start) @ line / (line @ line), 0, 1)
    return np.linalg.norm(points - start - along[:, None] * line, axis=1)


def test_a_limb_is_a_capsule() -> None:
    start, end = np.array([1.0, 2.0, 3.0]), np.array([1.5, 1.0, 3.4])
    mesh = limb(start, end, (0.2, 0.2), Material.CLOTH, _RED)
    corners = mesh.triangles.reshape(-1, 3)
    np.testing.assert_allclose(_away_from(corners, start, end), 0.2, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-5)


def test_a_rod_has_its_radii_and_ends() -> None:
    start, end = np.array([0.0, 0.0, 1.0]), np.array([0.0, 3.0, 1.0])
    mesh = rod(start, end, (0.5, 0.25), Material.METAL, _RED, 40)
    low, high = mesh.bounds
    np.testing.assert_allclose([low[1], high[1]], [0, 3], atol=1e-5)
    corners = mesh.triangles.reshape(-1, 3)
    for y, radius in ((0, 0.5), (3, 0.25)):
        rim = corners[np.isclose(corners[:, 1], y)]
        assert np.hypot(rim[:, 0], rim[:, 2] - 1).max() == pytest.approx(radius, abs=1e-5)


def test_round_things_have_round_normals_and_boxes_sharp_ones() -> None:
    ball = ellipsoid((0, 0, 0), (1, 1, 1), Material.SKIN, _RED)
    np.testing.assert_allclose(ball.normals, ball.triangles, atol=1e-5)
    cube = box((0, 0, 0), (1, 1, 1), Material.METAL, _RED)
    assert set(np.unique(np.abs(smooth(cube.triangles, Material.METAL, _RED).normals))) == {0, 1}
    ball_again = smooth(ball.triangles, Material.SKIN, _RED)
    np.testing.assert_allclose((ball_again.normals * ball.normals).sum(-1), 1, atol=2e-3)


def test_a_placed_mesh_keeps_its_shape() -> None:
    mesh = box((-2, -1, 0), (2, 1, 1.5), Material.METAL, _RED).placed(10, 5, 0, np.pi / 2)
    np.testing.assert_allclose(mesh.bounds, [[9, 3, 0], [11, 7, 1.5]], atol=1e-5)


def test_rotate_is_the_matrix_product() -> None:
    rng = np.random.default_rng(0)
    rotation, vectors = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.normal(size=(5, 4, 3))
    np.testing.assert_allclose(rotate(vectors, rotation), vectors @ rotation.T, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (vehicles.make_car, (2.9, 1.45, 1.33), (4.8, 1.9, 1.85)),
        (vehicles.make_van, (4.4, 1.7, 1.8), (5.7, 2.05, 2.55)),
        (vehicles.make_truck, (5.9, 2.2, 2.4), (10.6, 2.6, 3.8)),
    ],
)
def test_vehicles_have_the_sizes_of_their_kind(
    make: Callable[[np.random.Generator], Mesh], low: tuple, high: tuple
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mesh = make(rng)
        bounds = mesh.bounds
        size = bounds[1] - bounds[0]
        assert (size >= low).all()
        assert (size <= high).all()
        np.testing.assert_allclose(bounds[0, :2], -bounds[1, :2], atol=1e-4)
        assert bounds[0, 2] == pytest.approx(0, abs=1e-6)
        kinds = set(mesh.material.tolist())
        assert {Material.CAR_PAINT, Material.CAR_GLASS, Material.RUBBER, Material.LAMP} <= kinds


def test_cars_have_sloped_cabins_on_wheels() -> None:
    """Seen from above: lower at nose and tail than in the middle; from below: wheels touch."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        mesh = vehicles.make_car(rng)
        length, height = mesh.bounds[1, 0] * 2, mesh.bounds[1, 2]
        x = np.array([-0.05, 0.46]) * length
        above = np.column_stack([x, np.zeros(2), np.full(2, 5.0)])
        hits = RayCaster(mesh.triangles).cast(above, np.tile([0.0, 0, -1], (2, 1)))
        roof, bonnet = 5 - hits.distance
        assert roof > 0.95 * height
        assert bonnet < 0.72 * height
        low = mesh.triangles.reshape(-1, 3)
        low = low[low[:, 2] < 0.02]
        assert (np.abs(low[:, 1]) > 0.3).all()


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5, 4.5])
def test_people_have_human_sizes_in_every_phase(phase: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        looks = people.draw_looks(rng)
        walker = people.pedestrian(looks, phase, 0.45).bounds
        rider = people.cyclist(looks, (0.1, 0.1, 0.5), phase).bounds
        assert walker[1, 2] == pytest.approx(looks.height, abs=0.12)
        assert 0.3 < walker[1, 0] - walker[0, 0] < 1.3
        assert 0.35 < walker[1, 1] - walker[0, 1] < 0.9
        assert 1.6 < rider[1, 0] - rider[0, 0] < 1.9
        assert 1.2 < rider[1, 2] - rider[0, 2] < 2.0
        assert walker[0, 2] == pytest.approx(0, abs=1e-6)


def test_a_step_moves_the_legs() -> None:
    looks = people.draw_looks(np.random.default_rng(3))
    standing, striding = (people.pedestrian(looks, np.pi / 2, stride) for stride in (0.0, 0.5))
    assert np.ptp(striding.triangles[..., 0]) > np.ptp(standing.triangles[..., 0]) + 0.3


@pytest.mark.parametrize(
    "shape", [plants.tree, plants.conifer, plants.bush, scenery.sign, scenery.hoarding]
)
def test_scenery_stands_on_the_ground(shape: Callable[[np.random.Generator], Mesh]) -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        mesh = shape(rng)
        assert -0.6 < mesh.bounds[0, 2] < 0.3
        assert np.isfinite(mesh.triangles).all()
        assert (mesh.color >= 0).all()


@pytest.mark.parametrize("shape", [plants.hedge, scenery.fence, scenery.wall, scenery.guard_rail])
def test_what_borders_a_plot_is_as_long_as_it(
    shape: Callable[[np.random.Generator, float], Mesh],
) -> None:
    rng = np.random.default_rng(7)
    low, high = shape(rng, 11.0).bounds
    assert -0.3 < low[0] < 0.6
    assert 10 < high[0] < 11.3
    assert high[2] > 0.5
    assert high[1] - low[1] < 1.6


def test_a_thicket_hides_what_is_behind_it() -> None:
    mesh = plants.thicket(np.random.default_rng(1), 20.0, 6.0)
    caster = RayCaster(mesh.triangles)
    x = np.linspace(1, 19, 50)
    origins = np.column_stack([x, np.full(50, -30.0), np.full(50, 1.0)])
    hit = caster.cast(origins, np.tile([0.0, 1.0, 0.0], (50, 1)))
    assert np.isfinite(hit.distance).mean() > 0.9
    assert hit.distance[np.isfinite(hit.distance)].min() > 26
    assert 4 < mesh.bounds[1, 2] < 10


def test_a_tall_tree_leaves_room_for_cars() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        mesh = plants.tree(rng, tall=True)
        leaves = mesh.triangles[mesh.material == Material.LEAVES]
        assert mesh.bounds[1, 2] > 8
        assert leaves[..., 2].min() > 1.9


def test_ellipsoids_are_many_of_one() -> None:
    centers, radii = np.array([[0, 0, 1.0], [5, 1, 2]]), np.array([[1, 2, 3.0], [0.5, 0.5, 0.5]])
    both = ellipsoids(centers, radii, np.array([_RED, (0, 0.5, 0)]), Material.LEAVES, 1)
    first = ellipsoid(centers[0], radii[0], Material.LEAVES, _RED, 1)
    count = len(first)
    assert len(both) == 2 * count
    np.testing.assert_array_equal(both.triangles[:count], first.triangles)
    np.testing.assert_array_equal(both.normals[:count], first.normals)
    np.testing.assert_array_equal(both.color[:count], first.color)
    np.testing.assert_allclose(both.triangles[count:].mean((0, 1)), centers[1], atol=1e-5)
    np.testing.assert_array_equal(both.color[count], np.float32((0, 0.5, 0)))


def test_cross_is_the_cross_product() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 6, 3))
    np.testing.assert_allclose(cross(a, b), np.cross(a, b))


@pytest.mark.parametrize("kind", [scenery.building, scenery.hall])
@pytest.mark.parametrize("side", [1, -1])
def test_houses_stay_on_their_plot(side: int, kind: Callable[..., Mesh]) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        low, high = kind(rng, 12.0, 9.0, side).bounds
        assert low[0] > -0.5
        assert high[0] < 12.5
        inner, outer = (low[1], high[1]) if side > 0 else (-high[1], -low[1])
        assert inner > -0.5
        assert outer < 9.5
