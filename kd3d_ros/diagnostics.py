"""What the node counts and measures, and how it tells `/diagnostics`."""

import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from kd3d_core.errors import Once, shown
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.models.card import UNTRAINED
from kd3d_core.paths import share_dir
from kd3d_core.runtime.detections import Detector
from kd3d_core.runtime.rejection import RejectedError

LINE = 1000
"""Characters of a line that may hold text from outside, such as encodings and names of frames."""
_DETAILS = 8000


@dataclass
class FrameCounters:
    """Every image that reached the node while it was active ends up in exactly one of these.

    Each number is written by one thread only; read while frames are on their way, `received` may
    exceed the sum of the others by those.

    Attributes:
        received: images taken from the subscription.
        processed: went through the detector, and what was asked for was published.
        dropped: overtaken in the mailbox by a newer one, or left in it at the end.
        skipped: not looked at, by reason: `disabled` (by `~/enable`), `unwatched` (`lazy`, and
            nobody subscribed to a result) or `max_rate`.
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
    """Counts problems, and says each kind of them once in the log.

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
        self._counters.noticed[kind] += 1
        self._add(text, f"noticed/{kind}", once)

    def reject(self, error: RejectedError | PixelsError) -> None:
        """Note a frame that can't be used."""
        self._counters.rejected[error.kind] += 1
        self._add(f"images are rejected: {error}", f"rejected/{error.kind}")

    def fail(self, error: Exception) -> None:
        """Note a frame in which something raised `error`."""
        self._counters.failed += 1
        trace = "".join(traceback.format_exception(error))[-_DETAILS:]
        self._add(f"a frame failed: {error!r}", "failed", type(error).__name__, trace)

    def _add(self, text: str, counter: str, once: str = "", details: str = "") -> None:
        self.last = text = shown(text, LINE)
        hint = f"(said once; /diagnostics counts {counter})"
        self._warn(f"{text} {hint}\n{details}".rstrip(), once or counter)


@dataclass(frozen=True)
class Health:
    """What one diagnostics message is made of.

    Attributes:
        state: lifecycle state, such as `active`.
        counters: `FrameCounters.values()` now.
        before: the same when diagnostics were last published.
        interval_s: time since then.
        stages_ms: median of each stage.
        topic: where images are expected.
        publishers: how many publish there.
        connected: from how many of them this node gets images.
        reliability: of the subscription to images.
        camera_frame: frame of the latest image; empty before the first.
        conflict: who else publishes the frame of the results; empty if nobody does.
        trouble: the last error, or why configuring failed; empty if there was none.
        detector: None before one is loaded.
        camera_notices: how the camera differs from those of the training.
    """

    state: str
    counters: dict[str, int]
    before: dict[str, int]
    interval_s: float
    stages_ms: dict[str, float]
    topic: str
    publishers: int
    connected: int
    reliability: str
    camera_frame: str
    conflict: str
    trouble: str
    detector: Detector | None
    camera_notices: tuple[str, ...]

    @property
    def trained(self) -> bool:
        """False if the detector's weights are random."""
        return self.detector is None or self.detector.trained

    def since(self, name: str) -> int:
        """How much a counter grew since the last message."""
        return self.counters.get(name, 0) - self.before.get(name, 0)


def status(node_name: str, health: Health) -> DiagnosticStatus:
    """The state of the node in one DiagnosticStatus: worst problem first, then all numbers.

    Args:
        node_name: with its namespace, so that each node's status has a name of its own.
        health: the state.
    """
    problems = _problems(health)
    rates = {
        name: health.since(counter) / max(health.interval_s, 1e-3)
        for name, counter in (("input_rate_hz", "received"), ("output_rate_hz", "processed"))
    }
    fine = f"{rates['input_rate_hz']:.1f} images/s in, {rates['output_rate_hz']:.1f} processed"
    values = {
        "state": health.state,
        "detector": health.detector.description if health.detector else "",
        "weights": "trained" if health.trained else "UNTRAINED",
        "trained_on": health.detector.card.trained_on if health.detector else "",
        "camera": "; ".join(health.camera_notices),
        "image_topic": health.topic,
        "image_publishers": str(health.connected),
        "image_reliability": health.reliability,
        "camera_frame": health.camera_frame,
        **{name: f"{rate:.2f}" for name, rate in rates.items()},
        **{name: str(count) for name, count in health.counters.items()},
        **{f"median_ms/{name}": f"{value:.2f}" for name, value in health.stages_ms.items()},
        "last_error": health.trouble,
    }
    return DiagnosticStatus(
        level=max((level for level, _ in problems), default=DiagnosticStatus.OK),
        name=f"{node_name.lstrip('/')}: detector",
        message=shown("; ".join(text for _, text in sorted(problems, reverse=True)) or fine, LINE),
        hardware_id=shown(" ".join(filter(None, (health.topic, health.camera_frame))), LINE),
        values=[KeyValue(key=key, value=shown(value, LINE)) for key, value in values.items()],
    )


def _problems(health: Health) -> list[tuple[bytes, str]]:
    """Levels and texts of what is wrong."""
    warn, error = DiagnosticStatus.WARN, DiagnosticStatus.ERROR
    if health.state != "active":
        if health.state == "unconfigured" and health.trouble:
            return [(error, f"{health.state}: {health.trouble}")]
        return [(warn, health.state)]
    problems = []
    if health.since("failed"):
        problems.append((error, f"{health.since('failed')} failed: {health.trouble}"))
    if health.since("rejected"):
        problems.append((warn, f"{health.since('rejected')} rejected: {health.trouble}"))
    if not health.since("received"):
        problems.append((warn, f"no images on {shown(health.topic)}: {_why_none(health)}"))
    elif health.since("lost"):
        came = health.since("received")
        lost = f"{health.since('lost')} images lost by DDS, {came} received"
        problems.append((warn, f"{lost}: {_how_to_keep()}"))
    if health.conflict:
        problems.append((error, health.conflict))
    if not health.trained:
        problems.append((warn, UNTRAINED.text))
    problems += [(warn, text) for text in health.camera_notices]
    return problems


def _why_none(health: Health) -> str:
    if health.publishers == 0:
        return "nobody publishes there"
    if health.connected == 0:
        return "they are published with another QoS: set image_reliability to auto"
    if health.since("lost"):
        return f"{health.since('lost')} lost by DDS: {_how_to_keep()}"
    if health.since("camera_infos"):
        return f"CameraInfo comes, so they aren't sent, or lost by DDS: {_how_to_keep()}"
    return "they have stopped"


def _how_to_keep() -> str:
    return (
        "under Fast DDS start the camera driver with FASTDDS_DEFAULT_PROFILES_FILE="
        f"{share_dir() / 'config' / 'fastdds.xml'} or let it publish reliably; in Docker give its "
        "container --ipc=host or a larger --shm-size"
    )
