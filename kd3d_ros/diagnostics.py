"""What the node counts and measures, and how it tells `/diagnostics`."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from kd3d_core.errors import shown
from kd3d_core.models.card import UNTRAINED
from kd3d_core.paths import share_dir

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
        skipped: not looked at because nobody subscribed to any result (`lazy`).
        rejected: could not be used, by kind.
        failed: the detector, or publishing its results, raised an exception.
        noticed: oddities by kind that cost no frame, such as `stamp_went_back`.
        lost: images that never reached the node, as far as DDS counts them.
        camera_infos: CameraInfo messages, which tell a camera that is silent from lost images.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    noticed: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    camera_infos: int = 0

    def values(self) -> dict[str, int]:
        """All numbers by name, those by kind as `rejected/KIND` and `noticed/KIND`."""
        return {
            "received": self.received,
            "processed": self.processed,
            "dropped": self.dropped,
            "skipped": self.skipped,
            "rejected": self.rejected.total(),
            "failed": self.failed,
            "lost": self.lost,
            "camera_infos": self.camera_infos,
            **{f"rejected/{kind}": count for kind, count in sorted(self.rejected.items())},
            **{f"noticed/{kind}": count for kind, count in sorted(self.noticed.items())},
        }

    def __str__(self) -> str:
        by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(self.rejected.items()))
        return (
            f"received {self.received} = processed {self.processed} + dropped {self.dropped} + "
            f"skipped {self.skipped} + rejected {self.rejected.total()}"
            f"{f' ({by_kind})' if by_kind else ''} + failed {self.failed}"
        )


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
    """Says each kind of problem once in the log; `/diagnostics` counts how often.

    Attributes:
        last: the latest problem of any kind.
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        """Say things through `warn`, cut to a line."""
        self._warn = warn
        self._said: set[str] = set()
        self.last = ""

    def add(self, kind: str, text: str, counter: str, details: str = "") -> None:
        """Note a problem.

        Args:
            kind: what is said once.
            text: what is wrong, and what to do about it.
            counter: under which `FrameCounters.values` counts it.
            details: for the log only, such as a traceback.
        """
        self.last = text = shown(text, LINE)
        if kind not in self._said:
            self._said.add(kind)
            hint = f"(said once; /diagnostics counts {counter})"
            self._warn(f"{text} {hint}\n{details[-_DETAILS:]}".rstrip())


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
        detector: the detector's own description; empty while there is none.
        trained: False if its weights are random.
        trained_on: which frames, as the model's card says it; empty while there is no detector.
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
    reliability: str = ""
    camera_frame: str = ""
    conflict: str = ""
    trouble: str = ""
    detector: str = ""
    trained: bool = True
    trained_on: str = ""
    camera_notices: tuple[str, ...] = ()

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
        "detector": health.detector,
        "weights": "trained" if health.trained else "UNTRAINED",
        "trained_on": health.trained_on,
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
