"""kd3d-doctor: what kd3d finds on this machine and, for each thing missing, the line that mends it.

It has to work where nearly nothing else does, so it imports no package that it reports on.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kd3d_core.cli.needs import (
    MESSAGES,
    PACKAGES,
    ROS_EXTRAS,
    Package,
    mend_package,
    mend_ros,
    python,
)
from kd3d_core.cli.packages import Import, folders_of, is_installed, try_imports, version_of
from kd3d_core.errors import Kd3dError
from kd3d_core.paths import cache_dir, share_dir

OK, MISSING, OPTIONAL = "ok", "missing", "optional"

# rclpy's version tells the distribution when no setup file says it.
DISTRO_OF_RCLPY = {"3.3": "humble", "7.1": "jazzy", "9.1": "kilted"}
ROS_ROOT = Path("/opt/ros")

SHM_BYTES = 128 * 2**20  # a 32 MB segment for each of the processes of `make demo`, with room


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        group: heading that it belongs under.
        name: what was looked for.
        status: "ok", "missing" (and kd3d needs it) or "optional" (missing, and kd3d works).
        found: version, place or what is wrong.
        mend: the command or step that brings it; empty when there is nothing to mend.
    """

    group: str
    name: str
    status: str
    found: str
    mend: str = ""


def doctor(json: bool = False) -> int:
    """Report what is installed and how to mend what is not.

    Args:
        json: print it for programs: {"ok": ..., "checks": [{"group", "name", "status", ...}]}.

    Returns:
        0 if everything that kd3d needs is there, else 1.
    """
    checks = examine()
    print(as_json(checks) if json else as_text(checks))
    return 0 if healthy(checks) else 1


def examine() -> list[Check]:
    """All checks, in the order of the report."""
    modules = ["rclpy", *MESSAGES, *ROS_EXTRAS, "cv2", "torch"]
    imports = try_imports([name for name in modules if is_installed(name)])
    return [
        *check_python(),
        *check_ros(imports),
        *check_transport(imports.get("rclpy")),
        *check_packages(imports),
        *check_folders(),
    ]


def healthy(checks: Iterable[Check]) -> bool:
    """True if nothing that kd3d needs is missing."""
    return all(check.status != MISSING for check in checks)


# ---- the report ----


def as_json(checks: Sequence[Check]) -> str:
    """The report for programs."""
    return json.dumps({"ok": healthy(checks), "checks": [asdict(c) for c in checks]}, indent=2)


def as_text(checks: Sequence[Check]) -> str:
    """The report for people: a line for each check, and under it how to mend it."""
    marks = {OK: "ok      ", MISSING: "MISSING ", OPTIONAL: "optional"}
    width = max(len(check.name) for check in checks)
    lines = []
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += ["", group]
        lines.append(f"  {marks[check.status]}  {check.name:<{width}}  {check.found}")
        if check.mend:
            lines.append(f"  {'':8}  {'':<{width}}  -> {check.mend}")
    missing = [check.name for check in checks if check.status == MISSING]
    lines += ["", f"missing: {', '.join(missing)}" if missing else "kd3d has all that it needs"]
    return "\n".join(lines).lstrip("\n")


# ---- the checks ----


def check_python() -> list[Check]:
    """The interpreter that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 10) <= sys.version_info[:2] <= (3, 12)
    mend = "" if fits else "install Python 3.10 to 3.12, then: make env PYTHON=/path/to/python3.12"
    found = f"{version}, {sys.executable}"
    return [Check("Python", "python", OK if fits else MISSING, found, mend)]


def check_ros(imports: dict[str, Import]) -> list[Check]:
    """The ROS 2 distribution and the packages of it that kd3d uses."""
    group = "ROS 2"
    checks = [_distribution(imports)]
    for name in ("rclpy", *MESSAGES):
        checks.append(_imported(group, name, imports.get(name), mend_ros(name)))
    for name, purpose in ROS_EXTRAS.items():
        check = _imported(group, name, imports.get(name), mend_ros(name))
        checks.append(check if check.status == OK else _optional(check, purpose))
    for name, purpose in (("ros2", "the ros2 commands"), ("rviz2", "the RViz viewer")):
        path = shutil.which(name)
        mend = "" if path else mend_ros("ros2cli" if name == "ros2" else name)
        check = Check(group, name, OK if path else MISSING, path or "not found", mend)
        checks.append(check if path else _optional(check, purpose))
    return checks


def check_transport(rclpy: Import | None) -> list[Check]:
    """The middleware, and whether camera images get through it between processes."""
    group = "Transport"
    rmw = rclpy.detail if rclpy else ""
    checks = []
    if rmw:
        checks.append(Check(group, "middleware", OK, rmw))
    if not rmw or rmw.startswith("rmw_fastrtps"):
        distro = os.environ.get("ROS_DISTRO") or _distro_of_rclpy(rclpy.version if rclpy else "")
        checks.append(_fast_dds_profile(group, distro))
    if Path("/dev/shm").is_dir():
        usage = shutil.disk_usage("/dev/shm")
        found = f"/dev/shm: {_size(usage.free)} free of {_size(usage.total)}"
        enough = usage.free >= SHM_BYTES
        mend = "" if enough else "docker run --shm-size=512m ..., or free space in /dev/shm"
        checks.append(Check(group, "shared memory", OK if enough else OPTIONAL, found, mend))
    return checks


def check_packages(imports: dict[str, Import]) -> list[Check]:
    """PyTorch and the other Python packages, those last that kd3d works without."""
    group = "Python packages"
    checks = [_torch(group, imports.get("torch")), _opencv(group, imports.get("cv2"))]
    for package in PACKAGES:
        check = _package("Optional" if package.purpose else group, package)
        is_away = package.purpose and check.status != OK
        checks.append(_optional(check, package.purpose) if is_away else check)
    return checks


def check_folders() -> list[Check]:
    """Where kd3d reads its configuration and keeps downloads."""
    group = "Folders"
    try:
        config = Check(group, "config", OK, str(share_dir() / "config"))
    except Kd3dError as error:
        mend = f"{python()} -m pip install --force-reinstall --no-deps .  # in the checkout"
        config = Check(group, "config", MISSING, str(error), mend)
    cache = cache_dir()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    found = f"{cache}, {_size(shutil.disk_usage(existing).free)} free"
    if os.access(existing, os.W_OK):
        return [config, Check(group, "cache", OK, found)]
    mend = "export KD3D_CACHE=/a/folder/you/can/write"
    return [config, Check(group, "cache", OPTIONAL, f"{found}, but not writable", mend)]


# ---- single findings ----


def _distribution(imports: dict[str, Import]) -> Check:
    distro, prefixes = os.environ.get("ROS_DISTRO", ""), os.environ.get("AMENT_PREFIX_PATH", "")
    if distro and prefixes:
        places = prefixes.split(os.pathsep)
        base = next((p for p in places if p.startswith(str(ROS_ROOT))), places[-1])
        return Check("ROS 2", "distribution", OK, f"{distro}, installed in {base}")
    wheel = version_of("ros-rclpy")
    if wheel and "rclpy" in imports:
        distro = _distro_of_rclpy(wheel)
        return Check("ROS 2", "distribution", OK, f"{distro}, wheels in {sys.prefix}")
    setups = sorted(ROS_ROOT.glob("*/setup.bash"))
    if setups:
        found = f"installed in {setups[-1].parent} but not active"
        return Check("ROS 2", "distribution", MISSING, found, f"source {setups[-1]}")
    return Check("ROS 2", "distribution", MISSING, "none found", mend_ros("rclpy"))


def _distro_of_rclpy(version: str) -> str:
    return DISTRO_OF_RCLPY.get(version.rpartition(".")[0], "unknown")


def _fast_dds_profile(group: str, distro: str) -> Check:
    name = "Fast DDS profile"
    has_fast_dds_2 = distro in ("humble", "jazzy")
    variable = f"{'FASTRTPS' if has_fast_dds_2 else 'FASTDDS'}_DEFAULT_PROFILES_FILE"
    path = os.environ.get(variable)
    if path and Path(path).is_file():
        return Check(group, name, OK, path)
    if path:
        return Check(group, name, MISSING, f"{path} does not exist", f"unset {variable}")
    try:
        mend = f"export {variable}={share_dir() / 'config' / 'fastdds.xml'}"
    except Kd3dError:
        mend = ""
    found = "not set; without one, images between processes get lost (make and launch set it)"
    return Check(group, name, OPTIONAL, found, mend)


def _package(group: str, package: Package) -> Check:
    name, wanted = package.module, package.version
    mend = mend_package(package.distribution, wanted, in_environment=not package.purpose)
    if not is_installed(name):
        if name == "embreex" and platform.machine() == "aarch64":
            mend = "it has no wheel for ARM: render on another machine, and copy the folder"
        return Check(group, name, MISSING, "not installed", mend)
    version = version_of(package.distribution) or version_of(name) or "version unknown"
    if wanted and version != wanted:
        return Check(group, name, MISSING, f"{version}, needs {wanted}", mend)
    return Check(group, name, OK, f"{version}, {_mmcv_ops()}" if name == "mmcv" else version)


def _optional(check: Check, purpose: str) -> Check:
    """The same of something that kd3d works without."""
    return replace(check, status=OPTIONAL, found=f"{check.found}; for {purpose}")


def _torch(group: str, torch: Import | None) -> Check:
    mend = mend_package("torch", "2.13.0")
    check = _imported(group, "torch", torch, mend)
    if torch and check.status == OK and "CPU" in torch.detail and Path("/dev/nvidia0").exists():
        if torch.detail == "CPU build":
            mend = f"{python()} -m pip install --force-reinstall torch==2.13.0"
        else:
            mend = "nvidia-smi  # does the driver work, and is it new enough for this torch?"
        return Check(group, "torch", OPTIONAL, f"{check.found}, though there is a GPU", mend)
    return check


def _opencv(group: str, cv2: Import | None) -> Check:
    mend = mend_package("opencv-python-headless", "4.14.0.94")
    variants = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
    others = [name for name in variants if version_of(name)]
    if others and version_of("opencv-python-headless"):
        both = f"opencv-python-headless and {', '.join(others)} overwrite each other"
        mend = f"{python()} -m pip uninstall -y {' '.join(others)} opencv-python-headless; {mend}"
        return Check(group, "opencv", MISSING, both, mend)
    check = _imported(group, "opencv", cv2, mend)
    if cv2 and check.status == OK and not cv2.version.startswith(("3.", "4.")):
        return Check(group, "opencv", MISSING, f"{cv2.version}, needs a version below 5", mend)
    return check


def _mmcv_ops() -> str:
    compiled = [file for folder in folders_of("mmcv") for file in folder.glob("_ext*.so")]
    return "with its compiled ops" if compiled else "with kd3d's own ops"


def _imported(group: str, name: str, result: Import | None, mend: str) -> Check:
    """A check of a module that was tried in another process; None means it is not installed."""
    if result is None:
        return Check(group, name, MISSING, "not installed", mend)
    if result.error:
        return Check(group, name, MISSING, f"does not import: {result.error}", mend)
    version = result.version or version_of(f"ros-{name.replace('_', '-')}") or version_of(name)
    found = ", ".join(part for part in (version, result.detail) if part)
    return Check(group, name, OK, found or "found")


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def main() -> int:
    """Entry point of `kd3d-doctor`."""
    if not is_installed("jsonargparse"):
        return doctor(json="--json" in sys.argv[1:])
    from kd3d_core.cli.app import run

    return run(
        doctor,
        prog="kd3d-doctor",
        description="Reports what kd3d finds on this machine and how to mend what is missing.",
        examples=["kd3d-doctor", "kd3d-doctor --json"],
    )


if __name__ == "__main__":
    sys.exit(main())
