"""What the node counts and measures, and what it says once."""

import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from kd3d_core.errors import Once, shown
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.runtime.rejection import RejectedError

LINE = 1000
"""Characters of a line that may hold text from outside, such as encodings and names of frames."""
_DETAILS = 8000


@dataclass
class FrameCounters:
    """Every image that reached the node while it was active ends up in exactly one of these.

    Each number, by reason, is written by one thread only; read while frames are on their way,
    `received` may exceed the sum of the others by those.

    Attributes:
        received: images taken from the subscription.
        processed: went through the detector, and what was asked for was published.
        dropped: overtaken in the mailbox by a newer one, or left in it at the end.
        skipped: not looked at, by reason: `max_rate`; `stale` (`stale_after`); `disabled` (by
            `~/enable`) or `unwatched` (`lazy`, and nobody subscribed to a result), of which there
            are few, because then the node doesn't subscribe to images.
        rejected: could not be used, by kind.
        failed: the detector, or publishing its results, raised an exception.
        noticed: oddities by kind that cost no frame, such as `stamp_went_back`.
        lost: images that never reached the node, as far as DDS counts them.
        camera_infos: CameraInfo messages, which tell a camera that is silent from lost images.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    noticed: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    camera_infos: int = 0

    def values(self) -> dict[str, int]:
        """All numbers by name, those by kind as `rejected/KIND`, for example."""
        return {
            "received": self.received,
            "processed": self.processed,
            "dropped": self.dropped,
            "skipped": self.skipped.total(),
            "rejected": self.rejected.total(),
            "failed": self.failed,
            "lost": self.lost,
            "camera_infos": self.camera_infos,
            **{
                f"{name}/{kind}": count
                for name in ("skipped", "rejected", "noticed")
                for kind, count in sorted(getattr(self, name).items())
            },
        }

    def __str__(self) -> str:
        return (
            f"received {self.received} = processed {self.processed} + dropped {self.dropped} + "
            f"skipped {_by_kind(self.skipped)} + rejected {_by_kind(self.rejected)} + failed "
            f"{self.failed}"
        )


def _by_kind(counts: Counter[str]) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return f"{counts.total()} ({kinds})" if kinds else "0"


class StageTimes:
    """How long each stage took in the last frames."""

    def __init__(self, window: int = 100) -> None:
        """Remember `window` frames."""
        self._window = window
        self._times: dict[str, deque[float]] = {}

    def add(self, stages_ms: dict[str, float]) -> None:
        """Note the stages of one frame, milliseconds."""
        for name, value in stages_ms.items():
            self._times.setdefault(name, deque(maxlen=self._window)).append(value)

    def medians(self) -> dict[str, float]:
        """Median of each stage in milliseconds, in the order in which stages first appeared."""
        # Copies, because the worker goes on adding.
        return {name: median(list(times)) for name, times in list(self._times.items())}

    def samples(self, name: str) -> list[float]:
        """The remembered times of one stage, oldest first."""
        return list(self._times.get(name, ()))


class Complaints:
    """Says each kind of problem once in the log, and counts them: what is counted has been said.

    Attributes:
        last: the latest problem of any kind.
    """

    def __init__(self, counters: FrameCounters, warn: Callable[[str], object]) -> None:
        """Count in `counters`, and say things through `warn`."""
        self._counters = counters
        self._warn = Once(warn)
        self.last = ""

    def notice(self, kind: str, text: str, once: str = "") -> None:
        """Note an oddity that costs no frame; `once` is what is said once, if not the kind."""
        self._add(text, f"noticed/{kind}", once)
        self._counters.noticed[kind] += 1

    def reject(self, error: RejectedError | PixelsError) -> None:
        """Note a frame that can't be used."""
        self._add(f"images are rejected: {error}", f"rejected/{error.kind}")
        self._counters.rejected[error.kind] += 1

    def fail(self, error: Exception) -> None:
        """Note a frame in which something raised `error`."""
        trace = "".join(traceback.format_exception(error))[-_DETAILS:]
        self._add(f"a frame failed: {error!r}", "failed", type(error).__name__, trace)
        self._counters.failed += 1

    def _add(self, text: str, counter: str, once: str = "", details: str = "") -> None:
        self.last = text = shown(text, LINE)
        hint = f"(said once; /diagnostics counts {counter})"
        self._warn(f"{text} {hint}\n{details}".rstrip(), once or counter)
