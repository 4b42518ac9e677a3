"""Writes bags."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer

from kd3d_core.data.bag import codec
from kd3d_core.data.bag.topics import QosProfile, rosbags_qos
from kd3d_core.data.bag.types import typestore
from kd3d_core.data.messages import Message
from kd3d_core.errors import DataError

# Version 9 writes QoS in a form that Humble cannot parse; every distribution since reads 8.
_ROSBAG2_VERSION: Literal[8] = 8


class BagWriter:
    """Writes a rosbag2 folder with one MCAP file; a context manager.

    The bag appears under its name when it is complete. After an error nothing is left of it, and a
    bag that was to be overwritten is still there.

    Args:
        path: the folder to write.
        overwrite: whether it may replace a bag of that name.

    Attributes:
        counts: messages written, by topic.

    Raises:
        DataError: the folder exists, or cannot be written; also while messages are written.
    """

    def __init__(self, path: Path | str, overwrite: bool = False) -> None:
        self.path = Path(path).expanduser().absolute()
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        self._check_free(overwrite)
        with self._explain():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self.path.name}.partial-"
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.path.parent))
            self._writer = Writer(
                self._folder / self.path.name,
                version=_ROSBAG2_VERSION,
                storage_plugin=StoragePlugin.MCAP,
            )
            self._writer.open()

    def _check_free(self, overwrite: bool) -> None:
        if not self.path.exists():
            return
        if not overwrite:
            raise DataError(f"{self.path} exists already: give another name, or --overwrite")
        if not (self.path / "metadata.yaml").is_file():
            raise DataError(f"{self.path} is no bag, so it isn't overwritten: give another name")

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add_topic(self, name: str, type_name: str, qos: QosProfile | None = None) -> None:
        """Declare a topic, once, before its first message.

        Raises:
            DataError: the type's definition isn't found.
        """
        with self._explain():
            self._connections[name] = self._writer.add_connection(
                name,
                type_name,
                typestore=typestore((type_name,)),
                offered_qos_profiles=[rosbags_qos(qos or QosProfile())],
            )
        self.counts[name] = 0

    def write(self, topic: str, stamp_ns: int, message: Message | bytes) -> None:
        """Append a message of kd3d's own, or CDR bytes as they are."""
        connection = self._connections[topic]
        if not isinstance(message, bytes):
            store = typestore((connection.msgtype,))
            encoded = codec.encode(message, store.types)
            message = bytes(store.serialize_cdr(encoded, connection.msgtype))
        with self._explain():
            self._writer.write(connection, stamp_ns, message)
        self.counts[topic] += 1

    def _finish(self) -> None:
        if not any(self.counts.values()):
            self._writer.abort()
            raise DataError(f"{self.path}: there is no message to write, so there is no bag")
        with self._explain():
            self._writer.close()
            if self.path.exists():
                self.path.rename(self._folder / "replaced")
            (self._folder / self.path.name).rename(self.path)

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path}: the bag cannot be written: {error.strerror or error}"
            ) from error
