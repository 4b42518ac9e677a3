"""Unpacks what bags hold compressed, never to more than is believable."""

import hashlib
import shutil
import sys
from bz2 import BZ2Decompressor
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lz4.frame import LZ4FrameDecompressor

from kd3d_core.errors import DataError, shown
from kd3d_core.files import claimed, write_whole

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_BYTES = 2**29
"""Of a message, or of a chunk of messages: 512 MiB are an image of 170 million pixels."""

_RATIO, _PLAUSIBLE_BYTES = 1000, 2**26
"""More than 64 MiB that were packed to less than a thousandth are empty, or mean ill."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_FILE_RATIO = 2000
_FILE_BYTES = 2**30
_BLOCK = 2**20


def is_zstd(data: bytes) -> bool:
    """Whether data is compressed; no CDR message is taken for it, as their first byte is 0."""
    return data[:4] == _ZSTD_MAGIC


def unzstd(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """One zstd frame unpacked; `DataError` if it is damaged or more than `limit` bytes.

    More than 64 MiB must be less than a thousand times what they were packed to.
    """
    try:
        declared = zstd.get_frame_info(data[:18]).decompressed_size
    except zstd.ZstdError:
        raise DataError("what should be compressed with zstd isn't") from None
    _check(declared or 0, _believable(data, limit))
    return _unpacked(zstd.ZstdDecompressor(), data, limit)


def unlz4(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """As `unzstd`, for an LZ4 frame."""
    return _unpacked(LZ4FrameDecompressor(), data, limit)


def unbz2(data: bytes, limit: int = MAX_BYTES) -> bytes:
    """As `unzstd`, for bzip2."""
    return _unpacked(BZ2Decompressor(), data, limit)


def unpack(kind: str, data: bytes, limit: int) -> bytes:
    """A chunk's content; `kind` is `""`, `zstd`, `lz4` or `bz2`. Bounded as `unzstd`."""
    if not kind:
        return data
    if kind not in _UNPACKERS:
        raise DataError(f"there is no compression {shown(kind)!r}")
    return _UNPACKERS[kind](data, limit)


def unpack_start(kind: str, data: bytes) -> bytes:
    """As much as there is of a chunk that was cut off; nothing if it is damaged, too."""
    if not kind:
        return data
    if kind not in _DECOMPRESSORS:
        return b""
    try:
        content: bytes = _DECOMPRESSORS[kind]().decompress(
            data, max_length=_believable(data, MAX_BYTES)
        )
    except MemoryError:
        raise
    except Exception:  # each library has errors of its own
        return b""
    return content


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": LZ4FrameDecompressor,
    "bz2": BZ2Decompressor,
}
_UNPACKERS = {"zstd": unzstd, "lz4": unlz4, "bz2": unbz2}


def unzstd_file(path: Path, folder: Path) -> tuple[Path, str]:
    """Unpack a whole file of a bag into a folder, under its name without `.zstd`.

    With it comes why that isn't all of it, where it is damaged or was cut off; else "".

    Raises:
        DataError: nothing of it can be had, or it is more than 2000 times (and 1 GiB) larger than
            it was, or more than half of what is free on the disk.
    """
    target = folder / path.stem
    limit = _FILE_BYTES + _FILE_RATIO * path.stat().st_size
    limit = min(limit, shutil.disk_usage(folder).free // 2)
    written = 0
    try:
        with zstd.open(path, "rb") as source, target.open("wb") as file:
            while block := source.read1(_BLOCK):  # what there is, before the error
                written += len(block)
                _check(written, limit)
                file.write(block)
    except (zstd.ZstdError, EOFError):
        fault = f"{path}: it is damaged, or was cut off"
        if not written:
            raise DataError(fault) from None
        return target, f"{fault}, after {written} unpacked bytes"
    return target, ""


def unzstd_kept(path: Path, folder: Path) -> tuple[Path, str]:
    """As `unzstd_file`, once for all processes that are given the same folder, which keep it."""
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    place = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    fault = place / "fault"  # written last
    with claimed(folder, place.name, wait=True):
        if not fault.is_file():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            write_whole(fault, unzstd_file(path, place)[1].encode())
    return place / path.stem, fault.read_text()


def _unpacked(decompressor: Any, data: bytes, limit: int) -> bytes:
    limit = _believable(data, limit)
    try:
        content: bytes = decompressor.decompress(data, max_length=limit + 1)
    except MemoryError:
        raise
    except Exception:  # each library has errors of its own
        raise DataError("compressed messages are damaged") from None
    _check(len(content), limit)
    if not decompressor.eof:
        raise DataError("compressed messages are cut off")
    return content


def _believable(data: bytes, limit: int) -> int:
    return min(limit, max(_PLAUSIBLE_BYTES, _RATIO * len(data)))


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise DataError(f"compressed messages unpack to more than {limit / 2**20:.0f} MiB")
