"""Messages written as the bytes that DDS sends, or read from them, without making message objects.

A message of some boxes is hundreds of Python objects, with setters that check what they are given,
and at camera rate none of that stays in the CPU's caches. Bytes cost a fraction of it
(docs/results/node_overhead.md), `Publisher.publish` takes them on every ROS 2 from Humble on, and
bags hold them as they are.

The format is plain CDR (XCDR version 1; OMG DDSI-RTPS 2.5, section 10): four bytes that name it,
then the fields in the order of the .msg file. Each number starts at a multiple of its own size,
counted from behind those four bytes; a string is its length with the final zero byte, then its
UTF-8 bytes and that zero; a sequence is its length, then its elements.
"""

import struct
from functools import cache

import numpy as np

from kd3d_core.errors import DataError

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"


class CdrWriter:
    """Appends fields, each where its alignment wants it.

    >>> writer = CdrWriter()
    >>> writer.text("a")
    >>> writer.numbers("d", 1.0)
    >>> writer.content()
    b'\\x02\\x00\\x00\\x00a\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?'
    """

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def block(self, alignment: int, content: bytes | memoryview) -> None:
        """Fields encoded before, none of which is wider than `alignment` bytes."""
        gap = -self._size % alignment
        if gap:
            self._parts.append(bytes(gap))
        self._parts.append(content)
        self._size += gap + len(content)

    def numbers(self, layout: str, *values: float) -> None:
        """Numbers, the widest first, so that there are no gaps between them.

        The layout is as in `struct`, without byte order, such as `10d` or `iI?`. A bool is one of
        them, `?`, and so is the length of a sequence, `I`.
        """
        alignment, packer = _packer(layout)
        self.block(alignment, packer.pack(*values))

    def array(self, values: np.ndarray) -> None:
        """The elements of an array of numbers, row by row; the length of a sequence not included.

        The array must stay as it is until `message` or `content` has been called.
        """
        if values.size == 0:
            return  # elements that aren't there need no alignment
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        self.block(values.itemsize, little.reshape(-1).view(np.uint8).data)

    def sequence(self, values: np.ndarray) -> None:
        """A sequence of numbers: its length, then its elements."""
        self.numbers("I", values.size)
        self.array(values)

    def text(self, value: str) -> None:
        """A string."""
        content = value.encode() + b"\0"
        self.block(4, struct.pack("<I", len(content)) + content)

    def header(self, stamp_ns: int, frame_id: str) -> None:
        """A `std_msgs/Header`; `DataError` if its 32 bits of seconds can't hold the stamp."""
        try:
            self.numbers("iI", *divmod(stamp_ns, 10**9))
        except struct.error:
            raise DataError(f"no ROS header can hold the stamp {stamp_ns} ns") from None
        self.text(frame_id)

    def content(self) -> bytes:
        """The fields, for `block`."""
        return b"".join(self._parts)

    def message(self) -> bytes:
        """The whole message, for `Publisher.publish` and `BagWriter.write`."""
        return b"".join([_LITTLE_ENDIAN, *self._parts])


class CdrReader:
    """Takes fields in their order.

    >>> writer = CdrWriter()
    >>> writer.text("a")
    >>> writer.numbers("I", 7)
    >>> reader = CdrReader(writer.message())
    >>> reader.text(), reader.number("I")
    ('a', 7)
    """

    def __init__(self, message: bytes) -> None:
        """`ValueError` if it isn't plain CDR with the lowest byte first."""
        if message[:2] != _LITTLE_ENDIAN[:2]:
            raise ValueError(f"{message[:2].hex()} is another encoding")
        self._content = memoryview(message)[4:]
        self._at = 0

    def number(self, code: str) -> int:
        """One of `struct`'s codes for integers; `ValueError` behind the end, as the others."""
        size, packer = _packer(code)
        start = -(-self._at // size) * size
        self._at = start + size
        return int(packer.unpack(self._taken(start))[0])

    def text(self) -> str:
        """A string, up to its first zero byte, as rclpy has it."""
        return bytes(self.block()).partition(b"\0")[0].decode(errors="replace")

    def block(self) -> memoryview:
        """The bytes of a `uint8[]`, which stay where they are."""
        count = self.number("I")
        start = self._at
        self._at += count
        return self._taken(start)

    def _taken(self, start: int) -> memoryview:
        if self._at > len(self._content):
            raise ValueError(f"it ends after {len(self._content)} of {self._at} bytes")
        return self._content[start : self._at]


@cache
def _packer(layout: str) -> tuple[int, struct.Struct]:
    """Width of the first number, and what packs all."""
    return struct.calcsize("<" + layout.lstrip("0123456789")[0]), struct.Struct("<" + layout)


def header_block(stamp_ns: int, frame_id: str) -> bytes:
    """A `std_msgs/Header` that is needed several times, for `CdrWriter.block` with alignment 4."""
    writer = CdrWriter()
    writer.header(stamp_ns, frame_id)
    return writer.content()
