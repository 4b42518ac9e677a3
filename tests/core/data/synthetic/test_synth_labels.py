"""Occlusion, truncation and who gets a label, in scenes whose answer is known."""

import numpy as np
import pytest

from kd3d_core.data.synthetic.dataset import Frame
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.labels import make_labels, truncation, visibility
from kd3d_core.data.synthetic.lighting import draw_light
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Mesh, box, merge
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import CameraConfig, Rig
from kd3d_core.geometry import boxes

_GREY = (0.5, 0.5, 0.5)
# Level, without a lens offset: the LiDAR's axes are the camera's but for their order.
_CAMERA = Rig(CameraConfig()).rectified_camera


def _moment(target: Mesh, *others: Mesh) -> Moment:
    low, high = target.bounds
    bounds = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2], *(high - low), 0.0]
    meshes = [target, *others]
    owner = np.repeat([0] + [-1] * len(others), [len(mesh) for mesh in meshes]).astype(np.int16)
    light = draw_light(np.random.default_rng(0))
    return Moment(merge(meshes), owner, ("Car",), np.array([bounds], np.float32), np.eye(4), light)


def _block(x: float, y: tuple[float, float], z: tuple[float, float] = (-1.73, -0.23)) -> Mesh:
    return box((x, y[0], z[0]), (x + 4, y[1], z[1]), Material.CAR_PAINT, _GREY)


def _wall(x: float, y: tuple[float, float]) -> Mesh:
    return box((x, y[0], -1.73), (x + 0.1, y[1], 3), Material.CONCRETE, _GREY)


def _labels(moment: Moment) -> list:
    return make_labels(moment, RayCaster(moment.mesh.triangles), _CAMERA)


@pytest.mark.parametrize(
    ("wall_y", "level"),
    [((3.0, 9.0), 0), ((0.30, 9.0), 1), ((-0.30, 9.0), 2)],
)
def test_occlusion_level_follows_the_hidden_share(wall_y: tuple[float, float], level: int) -> None:
    """A wall at half the distance hides what lies to the left of twice its edge."""
    (label,) = _labels(_moment(_block(20, (-0.9, 0.9)), _wall(10, wall_y)))
    assert label.type == "Car"
    assert label.occluded == level


def test_hidden_share_is_measured() -> None:
    moment = _moment(_block(20, (-1.0, 1.0)), _wall(10, (0.25, 9.0)))
    rectangle = np.array(_labels(moment)[0].bbox)
    seen = visibility(moment, RayCaster(moment.mesh.triangles), _CAMERA, 0, rectangle)
    # In the image of the rear face the wall's edge, seen from the camera 6 cm to the left of the
    # middle, is at y = 0.25 * 2 within a centimetre or five: a quarter is hidden.
    assert seen.hidden == pytest.approx(0.25, abs=0.05)


def test_what_is_nearly_hidden_becomes_a_region_and_what_is_hidden_nothing() -> None:
    nearly = _labels(_moment(_block(20, (-0.9, 0.9)), _wall(10, (-0.42, 9.0))))
    assert [label.type for label in nearly] == ["DontCare"]
    assert _labels(_moment(_block(20, (-0.9, 0.9)), _wall(10, (-9.0, 9.0)))) == []


def test_what_is_far_becomes_a_region_and_what_is_behind_nothing() -> None:
    assert [label.type for label in _labels(_moment(_block(72, (-0.9, 0.9))))] == ["DontCare"]
    assert _labels(_moment(_block(-20, (-0.9, 0.9)))) == []


def test_truncation_is_the_share_of_the_2d_box_outside() -> None:
    """The border of the image cuts a plate that is seen head on; its area says the rest."""
    plate = box((20, 0, -1), (20.001, 4, 1), Material.METAL, _GREY)
    moment = _moment(plate)
    (untouched,) = truncation(moment.boxes, _CAMERA)
    assert untouched == 0
    left = _CAMERA.project(np.array([[20.0, 4.0, 0.0]]))[0][0, 0]
    right = _CAMERA.project(np.array([[20.0, 0.0, 0.0]]))[0][0, 0]
    middle = (left + right) / 2
    cropped = _CAMERA.cropped(round(middle), 0, 600, 375)
    (half,) = truncation(moment.boxes, cropped)
    assert half == pytest.approx((round(middle) - left) / (right - left), abs=0.01)


def test_labels_agree_with_the_picture(frames: list[Frame]) -> None:
    """The hidden share by the raster of the picture, with the object cast alone beside it."""
    compared = 0
    for frame in frames:
        moment = frame.moment
        full = RayCaster(moment.mesh.triangles)
        for index in range(len(moment.types)):
            visible = int((frame.picture.owner == index).sum())
            if visible < 500:
                continue
            corners = boxes.corners(moment.boxes[index : index + 1].astype(float))[0]
            pixels, depth = _CAMERA.project(corners)
            if depth.min() < 0.5:
                continue
            left, top = np.maximum(np.floor(pixels.min(0)), 0)
            right, bottom = np.minimum(np.ceil(pixels.max(0)), (_CAMERA.width, _CAMERA.height))
            alone = _covered(moment, index, np.arange(left, right), np.arange(top, bottom))
            rectangle = np.array([left, top, right, bottom])
            seen = visibility(moment, full, _CAMERA, index, rectangle)
            assert seen.hidden == pytest.approx(1 - visible / alone, abs=0.06)
            assert seen.pixels == pytest.approx(alone, rel=0.1)
            compared += 1
    assert compared > 8


def _covered(moment: Moment, index: int, columns: np.ndarray, rows: np.ndarray) -> int:
    """How many pixels see an object that is alone in the world."""
    pixels = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    points = _CAMERA.unproject(pixels, np.ones(len(pixels)))
    origin = _CAMERA.rays[1]
    caster = RayCaster(moment.mesh.triangles[moment.owner == index])
    return int((caster.cast(origin, points - origin).face >= 0).sum())
