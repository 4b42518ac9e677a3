"""Streets and traffic: who is where, and that nothing runs into anything."""

import numpy as np
import pytest
from shapely import STRtree, affinity
from shapely.geometry import Polygon

from kd3d_core.data.synthetic.drive import Drive
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.street import KERB_M, draw_street
from kd3d_core.data.synthetic.traffic import draw_traffic
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT

DURATION_S = 6.0
LANE, HILL = 5, 0
OPEN = (3, 4)  # plain streets of these seeds leave much of the horizon open


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(np.random.SeedSequence(11), DURATION_S)


def test_boxes_are_the_tight_boxes_of_the_meshes(drive: Drive) -> None:
    moment = drive.moment(1.0)
    for index, box in enumerate(moment.boxes.astype(np.float64)):
        offset = moment.mesh.triangles[moment.owner == index].reshape(-1, 3) - box[:3]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        local = np.stack(
            [offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin,
             offset[:, 2]], -1,
        )  # fmt: skip
        half = box[3:5] / 2
        np.testing.assert_allclose(local.min(0), [*-half, 0], atol=2e-3)
        np.testing.assert_allclose(local.max(0), [*half, box[5]], atol=2e-3)


@pytest.mark.parametrize(
    ("seed", "varied"), [(0, False), (1, False), (2, False), (3, True), (4, True), (LANE, True)]
)
def test_nothing_runs_into_anything(seed: int, varied: bool) -> None:
    """Footprints of all objects, and of the ego car, are apart at all times."""
    rng = np.random.default_rng(seed)
    street, speed = draw_street(rng, -45, 230, varied), rng.uniform(5, 11)
    actors = draw_traffic(street, rng, speed, DURATION_S)
    assert len(actors) > 10
    ego = Polygon([(-2.6, -0.9), (2.1, -0.9), (2.1, 0.9), (-2.6, 0.9)])
    sizes = [actor.shape.mesh(0.0).bounds[1, :2] - 0.02 for actor in actors]
    for time_s in np.arange(0, DURATION_S, 0.7):
        footprints = [affinity.translate(ego, speed * time_s)]
        for actor, (half, side) in zip(actors, sizes, strict=True):
            corner = Polygon([(-half, -side), (half, -side), (half, side), (-half, side)])
            turned = affinity.rotate(corner, actor.heading, (0, 0), use_radians=True)
            footprints.append(affinity.translate(turned, *actor.place(time_s)))
        pairs = STRtree(footprints).query(footprints, "intersects").T
        assert (pairs[:, 0] == pairs[:, 1]).all()


def test_a_lane_between_houses_is_one_car_wide() -> None:
    street = draw_street(np.random.default_rng(LANE), -45, 230, varied=True)
    assert len(street.lanes) == 1
    assert street.left.lanes_end - street.right.lanes_end < 3.6
    assert not street.marked


def test_on_a_hill_all_stands_on_the_road_and_the_car_follows_it() -> None:
    drive = Drive(np.random.SeedSequence(HILL), DURATION_S, varied=True)
    line = drive.street.line
    grades = [line.grade(s) for s in range(-40, 160, 10)]
    assert 0.01 < np.abs(grades).max() < 0.05
    pose = drive.pose(3.0)
    lidar_from_world = np.linalg.inv(pose)
    s = drive._speed * 3.0 + np.linspace(-3, 3, 7)
    road = np.stack([*line.place(s, np.zeros(7))[:3], np.ones(7)])
    under = (lidar_from_world @ road)[2]
    assert under == pytest.approx(np.full(7, -KITTI_LIDAR_HEIGHT), abs=0.02)
    moment = drive.moment(3.0)
    bottoms = moment.boxes[:, :3] @ pose[:3, :3].T + pose[:3, 3]
    places = [line.place(*actor.place(3.0))[:3] for actor in drive.actors]
    apart = np.linalg.norm(bottoms[:, None, :2] - np.array(places)[None, :, :2], axis=-1)
    above = bottoms[:, 2] - np.array(places)[apart.argmin(1), 2]
    assert len(above) > 5
    assert above.min() > -0.001  # on the road, or on the pavement
    assert above.max() < KERB_M + 0.001


def test_the_ego_car_and_others_move_and_houses_do_not(drive: Drive) -> None:
    start, later = drive.moment(0.0), drive.moment(0.5)
    way = later.world_from_lidar[:2, 3] - start.world_from_lidar[:2, 3]
    assert 2.0 < np.linalg.norm(way) < 6.0
    moved = {
        actor.type: abs(np.hypot(*np.subtract(actor.place(0.5), actor.place(0.0))))
        for actor in drive.actors
        if actor.speed
    }
    assert moved["Car"] > 1.0
    street = [
        moment.mesh.triangles[moment.owner < 0][:, 0] @ moment.world_from_lidar[:3, :3].T
        + moment.world_from_lidar[:3, 3]
        for moment in (start, later)
    ]
    first, second = ({tuple(point) for point in np.round(points, 1)} for points in street)
    assert len(first & second) > 0.85 * len(first)


def test_a_seed_makes_one_drive_and_another_seed_another(drive: Drive) -> None:
    again = Drive(np.random.SeedSequence(11), DURATION_S).moment(0.3)
    here = drive.moment(0.3)
    np.testing.assert_array_equal(here.mesh.triangles, again.mesh.triangles)
    np.testing.assert_array_equal(here.mesh.color, again.mesh.color)
    other = Drive(np.random.SeedSequence(12), DURATION_S).moment(0.3)
    assert len(other.mesh) != len(here.mesh)


def test_scenes_have_all_kinds_of_things() -> None:
    types: set[str] = set()
    cars = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        actors = draw_traffic(draw_street(rng, -45, 170), rng, 8.0, 0.0)
        types |= {actor.type for actor in actors}
        cars.append(sum(actor.type == "Car" and 5 < actor.s < 60 for actor in actors))
    assert types == {"Car", "Van", "Truck", "Pedestrian", "Cyclist"}
    assert np.mean(cars) > 5
    assert min(cars) < np.mean(cars) / 2 < np.mean(cars) * 1.4 < max(cars)


def test_varied_streets_have_woods_rails_and_roads_of_all_kinds() -> None:
    streets = [
        draw_street(np.random.default_rng(seed), -45, 170, varied=True) for seed in range(30)
    ]
    sides = [side for street in streets for side in street.sides]
    assert 0.3 < np.mean([side.wooded > 0 for side in sides]) < 0.9
    assert 0.1 < np.mean([side.avenue for side in sides]) < 0.6
    assert 0.3 < np.mean([side.paved for side in sides]) < 1
    assert 0 < sum(not street.marked for street in streets) < 15
    tones = [street.asphalt[1] for street in streets]
    assert 0.07 <= min(tones) < 0.09
    assert 0.18 < max(tones) <= 0.24


def test_varied_streets_hide_more_of_the_horizon() -> None:
    """Share of rays to the sides, a little upwards, that hit anything."""
    angles = np.deg2rad(np.linspace(15, 75, 60))
    rays = np.column_stack([np.cos(angles), np.sin(angles), np.full(60, 0.06)])
    shares = []
    for varied in (False, True):
        moments = (Drive(np.random.SeedSequence(seed), varied=varied).moment() for seed in OPEN)
        casters = [RayCaster(moment.mesh.triangles) for moment in moments]
        hits = [caster.cast(np.zeros(3), rays * (1, side, 1)) for caster in casters
                for side in (-1, 1)]  # fmt: skip
        shares.append(np.mean([hit.face >= 0 for hit in hits]))
    assert shares[1] > shares[0] + 0.05
