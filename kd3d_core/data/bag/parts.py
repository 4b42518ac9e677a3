"""Files of messages read in parts: where each part lies is known from an index, or from a scan.

A crash leaves recordings without an end, and so without an index. A scan goes through all of a file
once, up to the first record that is cut off or damaged, and notes which messages lie where. What is
in front of the damage is then read like any bag, in the order of its stamps.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path

from rosbags.interfaces import Connection

PART_BYTES = 2**20
"""Messages that lie one by one in a file are read by so many bytes at a time."""


class DamageError(Exception):
    """A record is cut off or contradicts itself: says why."""


def damage_behind(fault: str, count: int) -> str:
    """What is wrong with a chunk of which so many messages are sound."""
    return f"{fault}, behind its first {count} messages" if count else fault


@dataclass(frozen=True)
class Part:
    """Messages that lie together in a file: a chunk, for example.

    Attributes:
        place: position: a byte of the file, or a row of a table.
        size: bytes or rows of it that are sound; None where only reading it tells.
        start_ns, end_ns: the first and the last of their stamps.
        keys: connections that have messages in it.
    """

    place: int
    size: int | None
    start_ns: int
    end_ns: int
    keys: frozenset[int]

    def check(self, key: int, stamp_ns: int) -> None:
        """`DamageError` if a message is none of this part's."""
        if key not in self.keys or not self.start_ns <= stamp_ns <= self.end_ns:
            raise DamageError(
                f"the chunk at byte {self.place} has a message that its index doesn't know"
            )


@dataclass
class Contents:
    """What is in a file.

    Attributes:
        connections: topics and their types, by their key in the file.
        parts: stretches of the file that hold messages.
        counts: messages of each connection.
        stopped: up to where the file is sound, and why not further; empty if it is to its end.
    """

    connections: dict[int, Connection] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)
    stopped: str = ""

    def add(self, place: int, size: int | None, messages: Collection[tuple[int, int]]) -> None:
        """Note a part, by connection and stamp of each of its messages."""
        if messages:
            stamps = [stamp for _, stamp in messages]
            counts = Counter(key for key, _ in messages)
            self.parts.append(Part(place, size, min(stamps), max(stamps), frozenset(counts)))
            self.counts.update(counts)


class PartsReader(ABC):
    """Reads a file part by part; has what rosbags' readers have.

    Attributes:
        connections: the file's topics, with the number of messages that can be read.
        start_ns, end_ns: stamps of the first and the last message; crossed if there is none.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        self.path = path
        self.connections = [
            connection._replace(msgcount=contents.counts[key], owner=self)
            for key, connection in contents.connections.items()
        ]
        self.start_ns = min((part.start_ns for part in contents.parts), default=2**63 - 1)
        self.end_ns = max((part.end_ns for part in contents.parts), default=-1)
        self._parts = sorted(contents.parts, key=lambda part: part.start_ns)

    @staticmethod
    @abstractmethod
    def scan(path: Path) -> Contents:
        """Go through a file; `ReaderError` of rosbags if it is of another kind."""

    @abstractmethod
    def read(self, part: Part) -> Iterable[tuple[int, int, bytes]]:
        """Connection, stamp and data of each message of a part; may raise `DamageError`."""

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages of some connections with stamps from `start` on and before `stop`, in order.

        Raises:
            DamageError: once all messages in front of the damage have been given.
        """
        wanted = {connection.id: connection for connection in connections}
        first = self.start_ns if start is None else start
        end = self.end_ns + 1 if stop is None else stop
        ahead: list[tuple[int, int, int, bytes]] = []
        number, damage = 0, None
        for part in self._parts:
            if part.end_ns < first or part.start_ns >= end or part.keys.isdisjoint(wanted):
                continue
            while ahead and ahead[0][0] < part.start_ns:
                stamp, _, key, data = heappop(ahead)
                yield wanted[key], stamp, data
            try:
                for key, stamp, data in self.read(part):
                    if key in wanted and first <= stamp < end:
                        heappush(ahead, (stamp, number := number + 1, key, data))
            except DamageError as error:
                damage = error
                break
        while ahead:
            stamp, _, key, data = heappop(ahead)
            yield wanted[key], stamp, data
        if damage is not None:
            raise damage

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def scan_once(kind: type[PartsReader], path: Path) -> Contents:
    """`kind.scan`, kept for the next time: one command may open a bag several times."""
    status = path.stat()
    return _scan(kind, path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _scan(kind: type[PartsReader], path: Path, size: int, mtime_ns: int) -> Contents:
    return kind.scan(path)
