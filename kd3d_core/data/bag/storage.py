"""The files of a bag, opened: by their index, or, where that is missing or wrong, scanned."""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError

from kd3d_core.config import parse_yaml
from kd3d_core.data.bag.compression import unzstd_file, unzstd_kept
from kd3d_core.data.bag.indexed import UNINDEXED, SqliteIndexed, mcap_reader, ros1_reader
from kd3d_core.data.bag.parts import DamageError, PartsReader, scan_once
from kd3d_core.data.bag.scan_mcap import McapParts
from kd3d_core.data.bag.scan_ros1 import Ros1Parts
from kd3d_core.data.bag.scan_sqlite import SqliteParts
from kd3d_core.errors import ConfigError, DataError, Kd3dError, first_line, listed
from kd3d_core.files import files_in, read_text

_ROS2_FILES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
_ROS1_FILES = (".bag", ".bag.active")  # the second one while it is being recorded

_METADATA_BYTES = 4_000_000  # thousands of topics and files
_REINDEX = "`ros2 bag reindex` writes it anew"

_log = logging.getLogger(__name__)


class Storage(Protocol):
    """A file of a bag: its topics, and messages of some in the order of their stamps.

    `start_ns` and `end_ns` are the first and the last stamp, crossed if there is no message.
    """

    connections: list[Connection]
    start_ns: int
    end_ns: int

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]: ...

    def close(self) -> None: ...


@dataclass
class BagFile:
    """An open file of a bag.

    Attributes:
        path: as it is called in the bag.
        file: itself, or what was compressed in it.
        storage: what reads it.
        stopped: where and why its messages end before it does; empty while that isn't known.
    """

    path: Path
    file: Path
    storage: Storage
    stopped: str = ""

    def __post_init__(self) -> None:
        self._closing = [self.storage.close]

    def close(self) -> None:
        """Close it."""
        for close in self._closing:
            close()

    def messages(
        self, connections: Collection[Connection], start: int | None, stop: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """As `Storage`; where that fails, the file is scanned, and read on up to the damage."""
        last, given = start, Counter[int]()
        try:
            for item in self.storage.messages(connections, start, stop):
                if item[1] != last:
                    last, given = item[1], Counter()
                given[item[0].id] += 1
                yield item
            return
        except (OSError, MemoryError):
            raise
        except Exception as error:
            reason = describe_damage(error)
        self.storage, stopped = _scanned(self.path, self.file, reason)
        self._closing.append(self.storage.close)
        self.stopped = stopped or f"{self.path}: {reason}: some messages may be wrong or lacking"
        _log.warning("%s", self.stopped)
        for item in self.storage.messages(connections, last, stop):
            if item[1] == last and given[item[0].id]:
                given[item[0].id] -= 1
            else:
                yield item


def open_files(
    path: Path, stack: ExitStack, unpacked: Path | None = None
) -> tuple[list[BagFile], list[str]]:
    """Open all files of a bag, which `stack` closes, and say which of several can't be.

    What is compressed is unpacked into the folder `unpacked` and stays there, or is gone once it is
    closed. `DataError` if the bag is missing or not understood, or nothing of it can be read.
    """
    opened: list[BagFile] = []
    faults: list[DataError] = []
    for packed in _files(path):
        try:
            with explained(packed):
                file, fault = _unpacked(packed, stack, unpacked)
                storage, stopped = _open(packed, file)
        except DataError as error:
            faults.append(error)
            continue
        opened.append(BagFile(packed, file, storage, stopped or fault))
        stack.callback(opened[-1].close)
    if not opened:
        raise faults[0]
    return opened, [str(fault) for fault in faults]


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: by its ending, or by what a folder holds."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_ros2_files(path))
    return path.name.endswith((*_ROS2_FILES, *_ROS1_FILES))


def _ros2_files(folder: Path) -> list[Path]:
    """Files of rosbag2 in a folder."""
    files = files_in(folder, (".mcap", ".db3", ".zstd"))
    return [file for file in files if file.name.endswith(_ROS2_FILES)]


def _open(path: Path, file: Path) -> tuple[Storage, str]:
    """What reads a file, and where and why it stops before its end; empty if it doesn't."""
    if file.suffix not in _READERS:
        raise DataError(f"{path}: no bag: give a rosbag2 folder, .mcap, .db3 or .bag file")
    try:
        return _READERS[file.suffix](file), ""
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = describe_damage(error)
    return _scanned(path, file, reason)


def _scanned(path: Path, file: Path, reason: str) -> tuple[Storage, str]:
    """As `_open`, without the file's index, because of which there is a reason."""
    kind = _PARTS[file.suffix]
    contents = scan_once(kind, file)
    if contents.stopped and not contents.parts:
        raise ReaderError(f"there is no message up to {contents.stopped}")
    if not contents.stopped and reason not in UNINDEXED:
        _log.warning("%s: its index is damaged and isn't used: %s", path, reason)
    stopped = f"{path}: it is read only up to {contents.stopped}" if contents.stopped else ""
    return kind(file, contents), stopped


def describe_damage(error: Exception) -> str:
    """What rosbags and its decoders say of a bad file, or that they don't understand it."""
    is_said = isinstance(error, (ReaderError, Ros1Error, apsw.Error, DamageError))
    return first_line(error).rstrip(".") if is_said else "its records contradict each other"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever is raised on bad files into one line that names `path`."""
    try:
        yield
    except Kd3dError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such bag") from None
    except OSError as error:
        raise DataError(f"{path}: it can't be read: {error.strerror or error}") from None
    except Exception as error:
        raise DataError(f"{path}: the bag is damaged: {describe_damage(error)}") from error


def _files(path: Path) -> list[Path]:
    """A bag's files; a folder that lost its metadata has all that are in it."""
    if not path.exists():
        raise DataError(f"{path}: there is no such bag")
    if not path.is_dir():
        return [path]
    if (path / "metadata.yaml").is_file():
        return _listed_files(path / "metadata.yaml")
    files = _ros2_files(path)
    # A recorder that compresses a file removes it last.
    files = [file for file in files if file.suffix != ".zstd" or file.with_suffix("") not in files]
    if not files:
        raise DataError(f"{path}: no bag: there is no metadata.yaml, .mcap or .db3 in it")
    return files


def _unpacked(path: Path, stack: ExitStack, kept: Path | None) -> tuple[Path, str]:
    """The file itself, or what is compressed in it, and why that may not be all."""
    if path.suffix != ".zstd":
        return path, ""
    if kept is not None:
        return unzstd_kept(path, kept)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kd3d-bag-")))
    return unzstd_file(path, folder)


def _listed_files(metadata: Path) -> list[Path]:
    """The files that `metadata.yaml` names. All else in it is in the files, too."""
    try:
        content = parse_yaml(read_text(metadata, _METADATA_BYTES), _METADATA_BYTES)
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        files = [metadata.parent / PurePath(name).name for name in names]
    except ConfigError as error:
        raise DataError(f"{metadata}: {error}; {_REINDEX}") from None
    except (TypeError, KeyError):
        raise DataError(f"{metadata}: it names no files: {_REINDEX}") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise DataError(f"{metadata.parent}: files of the bag are missing: {listed(missing)}")
    return files


_READERS: dict[str, Callable[[Path], Storage]] = {
    ".mcap": mcap_reader,
    ".db3": SqliteIndexed,
    ".bag": ros1_reader,
    ".active": ros1_reader,
}
_PARTS: dict[str, type[PartsReader]] = {
    ".mcap": McapParts,
    ".db3": SqliteParts,
    ".bag": Ros1Parts,
    ".active": Ros1Parts,
}
