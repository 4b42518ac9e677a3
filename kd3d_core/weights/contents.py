"""Tells from a downloaded file itself whether it is whole, where no hash is published."""

import json
import zipfile
from pathlib import Path

from kd3d_core.errors import shown

_OTHERS = {
    b"\x1f\x8b": "compressed with gzip",
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # before 1.6: nothing tells its length


def damage(path: Path, kind: str) -> str:
    """Why a file isn't what its name says; empty if it may be.

    Args:
        path: the file.
        kind: ending that its name will have: `.json`, `.safetensors`, or `.pth` and `.bin`, which
            are zip files with a checksum for each tensor. Others are taken as they are.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        start = file.read(64).lstrip()
    for beginning, what in _OTHERS.items():
        if start.startswith(beginning):
            return f"is {what}, no {kind} file"
    try:
        if kind == ".json":
            json.loads(path.read_bytes())
        elif kind == ".safetensors":
            with safe_open(path, framework="np"):
                pass  # compares the header with the length
        elif kind in (".pth", ".bin") and not start.startswith(_OLD_TORCH):
            with zipfile.ZipFile(path) as archive:
                if (part := archive.testzip()) is not None:
                    return f"is damaged: {shown(part)} in it fails its checksum"
    except (ValueError, RecursionError, SafetensorError, zipfile.BadZipFile, EOFError):
        return f"is cut off or damaged: it can't be read as a {kind} file"
    return ""
