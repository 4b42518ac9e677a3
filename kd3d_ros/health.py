"""The state of the node as one status on `/diagnostics`."""

import sys
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from kd3d_core.errors import shown
from kd3d_core.models.card import UNTRAINED
from kd3d_core.paths import share_dir
from kd3d_core.runtime.detections import Detector
from kd3d_ros.diagnostics import LINE

_CLOSED = {
    "disabled": "disabled by ~/enable",
    "unwatched": "nobody subscribes to a result (parameter lazy)",
}
_STALE = "is the camera's clock this node's?"


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
        closed_by: why no images are received on purpose, `unwatched` for example; else empty.
        device_memory: of the GPU, in a few words; empty where there is none.
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
    closed_by: str
    device_memory: str
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
    if health.closed_by:
        fine = f"no images are received: {_CLOSED[health.closed_by]}"
    values = {
        "state": health.state,
        "detector": health.detector.description if health.detector else "",
        "weights": "trained" if health.trained else "UNTRAINED",
        "trained_on": health.detector.card.trained_on if health.detector else "",
        "box_errors_from": _box_errors_from(health.detector),
        "device_memory": health.device_memory,
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
    if stale := health.since("skipped/stale"):
        problems.append((warn, f"{stale} images older than stale_after: {_STALE}"))
    if health.closed_by:
        pass  # on purpose
    elif not health.since("received"):
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


def _box_errors_from(detector: Detector | None) -> str:
    """What pose covariances are made of."""
    if detector is None:
        return ""
    card = detector.card
    if not card.box_errors:
        return "not measured: covariances are zero"
    return card.box_errors_from or "not said"


def device_memory() -> str:
    """Memory of the GPU that this process uses, where there is one; once a model is loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    used, most = torch.cuda.memory_reserved(), torch.cuda.max_memory_allocated()
    free, total = torch.cuda.mem_get_info()
    return (
        f"{used >> 20} MiB reserved, {most >> 20} MiB used at most, {free >> 20} of "
        f"{total >> 20} MiB free"
    )


def _how_to_keep() -> str:
    return (
        "under Fast DDS start the camera driver with FASTDDS_DEFAULT_PROFILES_FILE (up to Jazzy: "
        f"FASTRTPS_DEFAULT_PROFILES_FILE)={share_dir() / 'config' / 'fastdds.xml'} or let it "
        "publish reliably; in Docker give its container --ipc=host or a larger --shm-size"
    )
