"""Point files: KITTI's are read, others are refused with their layout, or read where it is said."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.point_files import read_points
from kd3d_core.data.point_layout import PointLayout
from kd3d_core.errors import DataError


def scan() -> np.ndarray:
    """`(4000, 4)` float32 as a LiDAR of 40 rings would see a street."""
    angle, ring = np.meshgrid(np.linspace(-3.1, 3.1, 100), np.linspace(-0.4, 0.05, 40))
    far = np.minimum(1.7 / np.maximum(-np.sin(ring), 0.02), 15 + 20 * np.abs(np.sin(5 * angle)))
    x, y = far * np.cos(ring) * np.cos(angle), far * np.cos(ring) * np.sin(angle)
    points = np.stack([x, y, far * np.sin(ring), np.abs(np.sin(40 * angle + 9 * ring))], -1)
    return points.reshape(-1, 4).astype(np.float32)


def rings(count: int) -> np.ndarray:
    return np.repeat(np.arange(40, dtype=np.float32), count // 40)


def times(count: int) -> np.ndarray:
    return np.linspace(1e-4, 0.1, count, dtype=np.float32)


def mixed(points: np.ndarray, **columns: np.ndarray) -> np.ndarray:
    """Packed records of x, y, z and other columns, of types of their own."""
    kinds = [(name, "<f4") for name in "xyz"] + [(name, c.dtype) for name, c in columns.items()]
    records = np.zeros(len(points), kinds)
    for name, column in [*zip("xyz", points.T, strict=False), *columns.items()]:
        records[name] = column
    return records


POINTS = scan()
XYZ, INTENSITY = POINTS[:, :3], POINTS[:, 3]
RING, TIME = rings(len(POINTS)), times(len(POINTS))
BYTE = (255 * INTENSITY).astype(np.uint8)

OTHERS = {
    "doubles": POINTS.astype(np.float64),
    "exact doubles": POINTS * np.float64(0.99999999),
    "nuScenes": np.column_stack([XYZ, 255 * INTENSITY, RING]),
    "five": np.column_stack([POINTS, RING]),
    "five with time": np.column_stack([POINTS, TIME]),
    "six": np.column_stack([POINTS, RING, TIME]),
    "eight": np.column_stack([POINTS, TIME, RING, RING, TIME]),
    "three": XYZ,
    "three doubles": XYZ.astype(np.float64),
    "velodyne driver": mixed(POINTS, intensity=INTENSITY, ring=RING.astype("<u2")),
    "with ring and time": mixed(POINTS, intensity=INTENSITY, ring=RING.astype("<u2"), time=TIME),
    "bytes": mixed(POINTS, intensity=BYTE),
    "0 to 255": np.column_stack([XYZ, 255 * INTENSITY]),
    "0 to 65535": np.column_stack([XYZ, 65535 * INTENSITY]),
}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_other_layouts_are_refused_and_read_with_the_setting_that_the_error_names(
    tmp_path: Path, name: str, shuffled: bool
) -> None:
    order = np.random.default_rng(0).permutation(len(POINTS)) if shuffled else slice(None)
    velodyne = tmp_path / "training" / "velodyne"
    velodyne.mkdir(parents=True)
    OTHERS[name][order].tofile(velodyne / "000000.bin")
    with pytest.raises(DataError, match=r"000000\.bin: .*it looks like x, y, z") as caught:
        KittiDataset(tmp_path)[0].points()
    message = str(caught.value)
    assert "\n" not in message
    setting = message[message.index('"points"') : message.index(" into meta.json")]
    (tmp_path / "meta.json").write_text("{" + setting + "}")
    points = KittiDataset(tmp_path)[0].points()
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[:, :3], XYZ[order], atol=1e-5)
    if name not in ("three", "three doubles"):
        np.testing.assert_allclose(points[:, 3], INTENSITY[order], atol=1 / 255)


def refusal(tmp_path: Path, data: np.ndarray | bytes, layout: PointLayout | None = None) -> str:
    path = tmp_path / "000000.bin"
    path.write_bytes(data if isinstance(data, bytes) else data.tobytes())
    with pytest.raises(DataError) as caught:
        read_points(path, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_nonsense_in_some_points_is_counted(tmp_path: Path) -> None:
    for wrong, reason in ((np.nan, "not finite"), (np.inf, "not finite"), (1e38, "1000 m away")):
        points = POINTS.copy()
        points[[3, 70], 1] = wrong
        assert refusal(tmp_path, points).startswith(f"2 of 4000 points are {reason}")
        assert refusal(tmp_path, points).endswith("leave those points out of the file")
        assert refusal(tmp_path, points, PointLayout()).startswith(f"2 of 4000 points are {reason}")
    points = POINTS.copy()
    points[5, 3] = np.nan
    assert "intensity" in refusal(tmp_path, points)
    points[5, 3] = -0.5
    assert refusal(tmp_path, points).startswith("intensity is -0.5 to 1 and not 0 to 1")


def test_what_is_no_cloud_at_all_is_refused(tmp_path: Path) -> None:
    for data in (
        POINTS.astype(">f4"),
        (1000 * POINTS).astype("<f4"),
        (1000 * POINTS).clip(-3e4, 3e4).astype("<i2"),
        POINTS.tobytes()[:-5],
    ):
        assert "damaged or has an unknown layout" in refusal(tmp_path, data)
    assert refusal(tmp_path, b"\0" * 30).startswith("30 bytes are no whole number of points")


def test_clouds_that_only_look_odd_are_read(tmp_path: Path) -> None:
    path = tmp_path / "000000.bin"
    nothing_met = POINTS * (np.arange(len(POINTS)) % 3 > 0)[:, None]
    for points in (
        POINTS,
        POINTS[:0],
        POINTS[:1],
        nothing_met,
        np.round(POINTS, 1),
        POINTS * np.float32([1, 1, 0, 1]),  # a scanner of a single plane
        POINTS * np.float32([1, 1, 1, 0]),
        POINTS[:, [1, 0, 2, 3]],
    ):
        points.astype("<f4").tofile(path)
        np.testing.assert_array_equal(read_points(path), points.astype(np.float32))


def test_real_files_are_read(kitti_object: KittiDataset) -> None:
    for frame in kitti_object:
        np.testing.assert_array_equal(
            frame.points(), np.fromfile(frame.path("velodyne"), "<f4").reshape(-1, 4)
        )


def test_a_layout_that_is_said_is_believed_but_for_impossible_points(tmp_path: Path) -> None:
    path = tmp_path / "000000.bin"
    whole = np.rint(POINTS * [1, 1, 1, 0]).astype("<f4")
    whole.tofile(path)
    np.testing.assert_array_equal(read_points(path, PointLayout()), whole)
    assert "whole numbers" in refusal(tmp_path, whole)
    nuscenes = PointLayout.from_meta(
        {"columns": dict.fromkeys(("x", "y", "z", "intensity", "ring"), "float32")}, "meta"
    )
    data = np.column_stack([XYZ, 255 * INTENSITY, RING]).astype("<f4")
    assert "intensity is 0 to 25" in refusal(tmp_path, data, nuscenes)
    assert "points of 20 bytes" in refusal(tmp_path, data.tobytes()[:-4], nuscenes)


@pytest.mark.parametrize(
    "points",
    [
        5,
        {"colums": {}},
        {"columns": ["x", "y", "z"]},
        {"columns": {"x": "float32", "y": "float32"}},
        {"columns": {"x": "float32", "y": "float32", "z": "object"}},
        {"columns": {"x": "float32", "y": "float32", "z": ["float32"]}},
        {"intensity_max": 0},
        {"intensity_max": True},
        {"intensity_max": "255"},
        {"intensity_max": float("inf")},
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, points: object) -> None:
    (tmp_path / "velodyne").mkdir()
    POINTS.tofile(tmp_path / "velodyne" / "000000.bin")
    (tmp_path / "meta.json").write_text(json.dumps({"points": points}))
    with pytest.raises(DataError, match=r"meta\.json: .*points") as caught:
        KittiDataset(tmp_path)[0].points()
    assert "\n" not in str(caught.value)


def test_layouts_survive_meta_json() -> None:
    layout = PointLayout((*PointLayout().columns, ("ring", "uint16")), 255)
    assert PointLayout.from_meta(json.loads(json.dumps(layout.to_meta())), "") == layout
    assert PointLayout.from_meta({}, "") == PointLayout()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", [None, PointLayout()])
@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"# .PCD v0.7 - Point Cloud Data", "a PCD file"),
        (b"VERSION 0.7\nFIELDS x y z", "a PCD file"),
        (b"ply\nformat binary_little_endian", "a PLY file"),
        (b"\x93NUMPY\x01\0", "a NumPy file"),
        (b"PK\x03\x04", "a zip or NumPy archive"),
        (gzip.compress(b"points"), "compressed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS: .* git lfs pull"),
        (b"x,y,z,intensity\n1.25,-3.5,0.75,0.1\n2.5,-3.5,0.75,0.1\n2.5,-3.5,0.75\n", "text"),
    ],
)
def test_other_kinds_of_files_are_named(
    tmp_path: Path, beginning: bytes, name: str, layout: PointLayout | None
) -> None:
    for data in (beginning, beginning + POINTS.tobytes(), beginning * (16 * 40)):
        message = refusal(tmp_path, data, layout)
        assert re.fullmatch(f"it holds no bare numbers of points but is {name}", message)


@pytest.mark.filterwarnings("error")
def test_a_damaged_file_of_mostly_zeros_is_refused_without_warnings(tmp_path: Path) -> None:
    points = np.concatenate([np.zeros((1200, 4), np.float32), POINTS])
    points[-1, 0] = np.nan
    assert refusal(tmp_path, points).startswith("1 of 5200 points are not finite")
