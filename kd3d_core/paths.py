"""Where kd3d finds its own configuration and weights, and keeps what it downloads."""

import os
from pathlib import Path

from kd3d_core.errors import Kd3dError

CACHE_FORMAT = 1
"""Of what commands compute and keep under `cache_dir`; part of every file's key there.

To be raised when code changes what pseudo-LiDAR, a teacher's answers or cut out objects are.
"""


def share_dir() -> Path:
    """Folder of `config/` and `weights/`: the source tree, or once installed, `share/kd3d_ros`.

    Walking up from this file finds it for a checkout, for `pip install` and for a colcon
    workspace alike, without asking ROS.
    """
    for parent in Path(__file__).resolve().parents:
        if (parent / "package.xml").is_file() and (parent / "config").is_dir():
            return parent
        installed = parent / "share" / "kd3d_ros"
        if (installed / "config").is_dir():
            return installed
    raise Kd3dError(
        f"kd3d's config folder was not found above {Path(__file__).resolve()}: reinstall kd3d_ros"
    )


def cache_dir() -> Path:
    """Folder for downloads and what is computed once.

    `$KD3D_CACHE`, else `$XDG_CACHE_HOME/kd3d`, else `~/.cache/kd3d`.
    """
    if "KD3D_CACHE" in os.environ:
        return Path(os.environ["KD3D_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kd3d"
