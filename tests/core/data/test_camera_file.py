"""Calibration files of every known format, and what is said of others."""

import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd3d_core.data.camera_file import CameraFile, read_camera_file
from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera_info import camera_from_info
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera

K = [500.0, 0, 320, 0, 501, 240, 0, 0, 1]
D = [-0.3, 0.1, 0.001, 0.002, 0.05]
P = [450.0, 0, 318, 0, 0, 452, 239, 0, 0, 0, 1, 0]

ROS_YAML = f"""\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix: {{rows: 3, cols: 3, data: {K}}}
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: {D}
rectification_matrix: {{rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}}
projection_matrix: {{rows: 3, cols: 4, data: {P}}}
"""
INI = """\
# oST version 5.0 parameters


[image]

width
640

height
480

[narrow_stereo]

camera matrix
500.0 0.0 320.0
0.0 501.0 240.0
0.0 0.0 1.0

distortion
-0.3 0.1 0.001 0.002 0.05

rectification
1.0 0.0 0.0
0.0 1.0 0.0
0.0 0.0 1.0

projection
450.0 0.0 318.0 0.0
0.0 452.0 239.0 0.0
0.0 0.0 1.0 0.0
"""
MESSAGE = f"""\
header:
  stamp: {{sec: 3, nanosec: 4}}
  frame_id: camera
height: 480
width: 640
distortion_model: plumb_bob
d: {D}
k: {K}
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: {P}
binning_x: 0
binning_y: 0
roi:
  x_offset: 0
  y_offset: 0
  height: 0
  width: 0
  do_rectify: false
---
"""
KALIBR = f"""\
cam0:
  cam_overlaps: [1]
  camera_model: pinhole
  distortion_coeffs: {D[:4]}
  distortion_model: radtan
  intrinsics: [500.0, 501.0, 320.0, 240.0]
  resolution: [640, 480]
  rostopic: /cam0/image_raw
"""
KITTI_RAW = """\
calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_00: 1.392000e+03 5.120000e+02
K_00: 984 0 690 0 980 233 0 0 1
S_02: 1.392000e+03 5.120000e+02
K_02: 959 0 696 0 956 224 0 0 1
D_02: -3.691481e-01 1.968681e-01 1.353473e-03 5.677587e-04 -6.770705e-02
R_02: 1 0 0 0 1 0 0 0 1
T_02: 0 0 0
S_rect_02: 1.242000e+03 3.750000e+02
R_rect_02: 1 0 0 0 1 0 0 0 1
P_rect_02: 721.5 0 609.6 44.86 0 721.5 172.9 0.2164 0 0 1 0.0027
"""


def read(tmp_path: Path, text: str, rectified: bool = True) -> CameraFile:
    path = tmp_path / "camera.file"  # the ending says nothing
    path.write_text(text)
    return read_camera_file(path, rectified)


@pytest.mark.parametrize("text", [ROS_YAML, INI, MESSAGE], ids=["yaml", "ini", "message"])
@pytest.mark.parametrize("mangle", [str, lambda text: "\ufeff" + text.replace("\n", "\r\n")])
def test_files_of_ros_say_the_same(tmp_path: Path, text: str, mangle) -> None:
    info = read(tmp_path, mangle(text)).info
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert info.d.tolist() == D
    assert info.k.tolist() == K
    assert info.r.tolist() == np.eye(3).reshape(9).tolist()
    assert info.p.tolist() == P


def test_a_stereo_ini_gives_its_first_camera(tmp_path: Path) -> None:
    other = INI[INI.index("[narrow_stereo]") :].replace("500.0", "700.0").replace("-0.3", "-0.9")
    info = read(tmp_path, INI + "\n" + other.replace("narrow_stereo", "narrow_stereo/right")).info
    assert info.k.tolist() == K
    assert info.d.tolist() == D


@pytest.mark.parametrize(
    ("names", "coefficients", "model"),
    [
        (("camera_matrix", "distortion_coefficients"), D, "plumb_bob"),
        (("Camera_Matrix", "Distortion_Coefficients"), [0.5, -0.2, 0, 0, 0, 0.8, -0.1, 0],
         "rational_polynomial"),
        (("cameraMatrix", "distCoeffs"), D[:4], "plumb_bob"),
        (("M1", "D1"), D, "plumb_bob"),
        (("K", "D"), D, "plumb_bob"),
    ],
)  # fmt: skip
def test_what_opencv_writes(
    tmp_path: Path, names: tuple[str, str], coefficients: list[float], model: str
) -> None:
    path = tmp_path / "camera.yaml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 480)
    storage.write(names[0], np.array(K).reshape(3, 3))
    storage.write(names[1], np.array([coefficients]))
    storage.release()
    assert path.read_text().startswith("%YAML:1.0")
    file = read_camera_file(path)
    assert (file.info.width, file.info.height, file.info.distortion_model) == (640, 480, model)
    assert file.info.k.tolist() == K
    assert file.info.d.tolist() == coefficients
    camera = camera_from_info(file.info, virtual_lidar_from_camera(1.65))
    assert camera.projection[:, :3].reshape(9).tolist() == K  # there is no P


def test_opencvs_fisheye_and_a_file_without_size(tmp_path: Path) -> None:
    text = f"%YAML:1.0\n---\nfisheye_model: 1\nK: {K}\nD: {D[:4]}\n"
    info = read(tmp_path, text).info
    assert info.distortion_model == "equidistant"
    assert (info.width, info.height) == (0, 0)


@pytest.mark.parametrize(
    ("lens", "model"), [("radtan", "plumb_bob"), ("equidistant", "equidistant")]
)
def test_kalibr(tmp_path: Path, lens: str, model: str) -> None:
    info = read(tmp_path, KALIBR.replace("radtan", lens)).info
    assert (info.width, info.height, info.distortion_model) == (640, 480, model)
    assert info.k.tolist() == K
    assert info.d.tolist() == D[:4]
    assert not info.p.any()


def test_kalibrs_imu_and_second_camera_are_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = KALIBR.replace("cam0:", "cam1:").replace("500.0", "900.0")
    imu = "  T_cam_imu:\n  - [1, 0, 0, 0]\n  - [0, 1, 0, 0]\n  - [0, 0, 1, 0]\n  - [0, 0, 0, 1]\n"
    with caplog.at_level(logging.WARNING):
        file = read(tmp_path, second + KALIBR + imu)
    assert file.info.k.tolist() == K
    assert file.lidar_from_camera is None
    assert "of Kalibr's 2 cameras cam0" in caplog.text
    assert "T_cam_imu" in caplog.text


def test_kitti_raw_recordings_have_rectified_and_raw_images(tmp_path: Path) -> None:
    rectified, raw = (read(tmp_path, KITTI_RAW, rectified).info for rectified in (True, False))
    assert (rectified.width, rectified.height) == (1242, 375)
    assert (raw.width, raw.height) == (1392, 512)
    assert rectified.p[0] == 721.5
    assert raw.k[0] == 959
    assert raw.d.size == 5


def test_kittis_other_files_know_where_the_lidar_is(tmp_path: Path) -> None:
    text = "P0: 1\nP2: 721 0 609 44 0 721 172 0.2 0 0 1 0.003\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.3\n"
    file = read(tmp_path, text)
    assert file.lidar_from_camera is not None
    np.testing.assert_allclose(file.lidar_from_camera @ [0, 0, 9.7, 1], [10, 0, 0, 1])
    assert (file.info.width, file.info.p[0], file.info.d.size) == (0, 721, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty file; known are ROS camera_calibration"),
        ("hello", "'hello'; known are"),
        ("- 1\n- 2\n", "known are"),
        ("fx: 500\nfy: 500\n", "the keys fx, fy; known are"),
        (
            '%YAML:1.0\nCamera.fx: 500.0\nCamera.type: "PinHole"\n',
            "the keys Camera.fx, Camera.type",
        ),
        ("<?xml version='1.0'?>\n<opencv_storage>\n", "save it as YAML"),
        ("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\ndelta_f: 0 0\n", r"calib_cam_to_cam\.txt"),
        (ROS_YAML.replace("image_height: 480", "image_height: [480"), "no valid YAML"),
        (ROS_YAML.replace("image_width: 640", "image_width: wide"), "image_width is 'wide'"),
        (ROS_YAML.replace(str(D), "[a, b]"), r"distortion_coefficients\.data must be"),
        (ROS_YAML.replace(str(D), "[[1], [2, 3]]"), r"distortion_coefficients\.data must be"),
        (ROS_YAML.replace(str(K), "[.nan" + str(K)[6:]), r"camera_matrix\.data has values that"),
        (ROS_YAML.replace("camera_matrix: {", "camera_matrix: 5 #"), "camera_matrix has 1 numbers"),
        (INI.replace("0.0 501.0 240.0", "0.0 501.0"), "camera matrix has 8 numbers"),
        (INI.replace("camera matrix", "matrix"), "camera matrix is missing"),
        (MESSAGE.replace("binning_x: 0", "binning_x: 2"), "binning"),
        (MESSAGE.replace("x_offset: 0", "x_offset: 20"), "region of interest"),
        (KALIBR.replace("pinhole", "omni"), "omni-radtan isn't supported"),
        (KALIBR.replace("radtan", "fov"), "pinhole-fov isn't supported"),
        (KALIBR.replace("  resolution: [640, 480]\n", ""), "cam0: .*'resolution'"),
        (KALIBR.replace("[640, 480]", "640"), "cam0: not as Kalibr writes it"),
        ("cam0: 5\n", "cam0: not as Kalibr writes it"),
        (KITTI_RAW.replace("P_rect_02: 721.5", "P_rect_02: x"), "P_rect_02 is not a row"),
        (KITTI_RAW.replace("K_02", "K_03"), "no line K_02"),
        ("camera_matrix: !!python/object/apply:os.system ['true']\n", "no valid YAML"),
        ("a: &a [1]\ncamera_matrix: *a\n", "aliases"),
        pytest.param("[" * 5000, "no valid YAML", id="nested"),
    ],
)
def test_other_files_are_named_in_a_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "camera.file"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_camera_file(path)
    path.write_bytes(b"\x89PNG")
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_camera_file(path)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(CalibrationError, match="aliases"):
        read(tmp_path, "\n".join(lines))


def test_no_torch_is_needed() -> None:
    code = "import sys, kd3d_core.data.camera_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
