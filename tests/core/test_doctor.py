"""kd3d-doctor tells what is there and what is not, wherever it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd3d_core.cli import doctor, packages

ROOT = Path(__file__).resolve().parents[2]


class Hide:
    """A finder that makes modules look as if they were not installed."""

    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def hide(monkeypatch):
    def hide(*names):
        monkeypatch.setattr(sys, "meta_path", [Hide(*names), *sys.meta_path])
        for module in list(sys.modules):
            if module.partition(".")[0] in names:
                monkeypatch.delitem(sys.modules, module)

    return hide


@pytest.fixture
def no_imports(monkeypatch):
    """Every module that is installed imports well, which saves seconds of importing torch."""
    found = packages.Import(error="", version="4.0.0")
    monkeypatch.setattr(doctor, "try_imports", lambda names: dict.fromkeys(names, found))


def report(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kd3d-doctor", "--json"])
    status = doctor.main()
    answer = json.loads(capsys.readouterr().out)
    assert status == (0 if answer["ok"] else 1)
    return {check["name"]: check for check in answer["checks"]}, answer["ok"]


@pytest.mark.parametrize(
    "name", ["vision_msgs", "tf2_msgs", "rclpy", "torch", "mmdet3d", "rosbags", "tensorboard"]
)
def test_something_needed_is_missing(name, hide, no_imports, capsys, monkeypatch):
    hide(name)
    checks, ok = report(capsys, monkeypatch)
    assert not ok
    assert checks[name]["status"] == "missing"
    assert checks[name]["mend"]


@pytest.mark.parametrize("name", ["launch_ros", "rerun"])
def test_something_optional_is_missing(name, hide, no_imports, capsys, monkeypatch):
    _, ok_before = report(capsys, monkeypatch)
    hide(name)
    checks, ok = report(capsys, monkeypatch)
    assert ok == ok_before
    assert checks[name]["status"] == "optional"
    assert checks[name]["mend"]


@pytest.mark.parametrize(
    ("machine", "mend"), [("x86_64", "pip install embreex"), ("aarch64", "render on another")]
)
def test_without_embreex_nothing_is_rendered(machine, mend, hide, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    hide("embreex")
    check = next(check for check in doctor.check_packages({}) if check.name == "embreex")
    assert check.status == "optional"
    for lost in ("kd3d-synth", "make demo without --data", "studies with render"):
        assert lost in check.found
    assert mend in check.mend


def test_every_check_that_is_not_ok_says_what_to_do(hide, no_imports):
    needed = [package.module for package in doctor.PACKAGES]
    hide("rclpy", "torch", "cv2", *doctor.MESSAGES, *needed)
    checks = doctor.examine()
    assert not doctor.healthy(checks)
    for check in checks:
        assert (check.status == "ok") == (check.mend == ""), check
        assert "\n" not in check.found + check.mend


def test_this_environment_has_what_kd3d_needs(capsys, monkeypatch):
    checks, ok = report(capsys, monkeypatch)
    assert ok, [check for check in checks.values() if check["status"] == "missing"]
    assert checks["middleware"]["found"].startswith("rmw_")


def test_text_names_what_is_missing():
    checks = [
        doctor.Check("Group", "here", "ok", "1.0"),
        doctor.Check("Group", "away", "missing", "not installed", "pip install away"),
        doctor.Check("Group", "spare", "optional", "not installed", "pip install spare"),
    ]
    text = doctor.as_text(checks)
    for line in ("ok        here   1.0", "MISSING   away   not installed", "-> pip install away"):
        assert line in text
    assert text.endswith("missing: away")


def test_runs_on_a_bare_python():
    """Not even jsonargparse is there: -S leaves out every installed package."""
    process = subprocess.run(
        [sys.executable, "-S", "-m", "kd3d_core.cli.doctor", "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    missing = {c["name"] for c in json.loads(process.stdout)["checks"] if c["status"] == "missing"}
    assert {"torch", "rclpy", "jsonargparse", "numpy"} <= missing


def test_a_module_that_breaks_hides_no_other(tmp_path, monkeypatch):
    (tmp_path / "well.py").write_text("__version__ = '1.2'")
    (tmp_path / "raises.py").write_text("raise ImportError('built for NumPy 1\\nsecond line')")
    (tmp_path / "crashes.py").write_text("import os; os._exit(139)")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ["raises", "crashes", "hangs", "well"]
    results = packages.try_imports(names, timeout_s=3)
    assert results["raises"].error == "ImportError: built for NumPy 1"
    assert "139" in results["crashes"].error
    assert "longer than 3 s" in results["hangs"].error
    assert results["well"] == packages.Import(error="", version="1.2")


def test_opencv_5_is_too_new():
    imports = {"cv2": packages.Import(error="", version="5.0.0")}
    opencv = next(check for check in doctor.check_packages(imports) if check.name == "opencv")
    assert opencv.status == "missing"
    assert "below 5" in opencv.found


@pytest.mark.parametrize(
    ("profile", "status"), [("fastdds.xml", "ok"), ("away.xml", "missing"), (None, "optional")]
)
def test_fast_dds_profile(profile, status, monkeypatch):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    if profile:
        path = str(ROOT / "config" / profile)
        monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", path)
    rclpy = packages.Import(error="", version="9.1.2", detail="rmw_fastrtps_cpp")
    checks = {check.name: check for check in doctor.check_transport(rclpy)}
    assert checks["Fast DDS profile"].status == status
    cyclone = packages.Import(error="", version="9.1.2", detail="rmw_cyclonedds_cpp")
    assert "Fast DDS profile" not in {check.name for check in doctor.check_transport(cyclone)}


@pytest.mark.parametrize(("distro", "version"), [("humble", "3.3.1"), ("", "7.1.6")])
def test_fast_dds_2_reads_another_variable(distro, version, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", distro)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    rclpy = packages.Import(error="", version=version, detail="rmw_fastrtps_cpp")
    checks = {check.name: check for check in doctor.check_transport(rclpy)}
    assert checks["Fast DDS profile"].status == "optional"
    assert checks["Fast DDS profile"].mend.startswith("export FASTRTPS_DEFAULT_PROFILES_FILE=")


def test_a_ros_install_that_is_not_active_is_found(tmp_path, monkeypatch):
    (tmp_path / "jazzy").mkdir()
    setup = tmp_path / "jazzy" / "setup.bash"
    setup.touch()
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(doctor, "ROS_ROOT", tmp_path)
    distribution = doctor.check_ros({})[0]
    assert (distribution.status, distribution.mend) == ("missing", f"source {setup}")


def test_an_active_ros_install_is_named(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/home/me/ws/install/mine:/opt/ros/jazzy")
    distribution, *others = doctor.check_ros({})
    assert distribution.found == "jazzy, installed in /opt/ros/jazzy"
    mends = {check.name: check.mend for check in others}
    assert mends["vision_msgs"] == "sudo apt install ros-jazzy-vision-msgs"
