"""The bytes of CDR, field by field."""

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kd3d_core.messages.cdr import CdrWriter


@given(st.text(), st.sampled_from("bBhHiIqQfd?"), st.integers(0, 3), st.text())
def test_fields_of_any_width_between_strings(
    before: str, code: str, count: int, after: str
) -> None:
    """Alignment, against numbers read back at the next multiple of their size."""
    writer = CdrWriter()
    writer.text(before)
    writer.array(np.arange(count).astype(np.dtype(code)))
    writer.text(after)
    content = writer.content()

    end = 4 + len(before.encode()) + 1
    assert content[:end] == struct.pack("<I", end - 4) + before.encode() + b"\0"
    if count:
        size = struct.calcsize("<" + code)
        start = -(-end // size) * size
        end = start + count * size
        expected = tuple(np.arange(count).astype(np.dtype(code)).tolist())
        assert struct.unpack(f"<{count}{code}", content[start:end]) == expected
    start = -(-end // 4) * 4
    assert content[start:] == struct.pack("<I", len(after.encode()) + 1) + after.encode() + b"\0"
