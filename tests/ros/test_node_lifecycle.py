"""What loads, runs and ends the node, and what is left of it: with a fake detector, over DDS."""

import sys
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector
from lifecycle_msgs.srv import GetState
from node_helpers import image_message
from node_setup import Start, held_in_model
from rclpy.parameter import Parameter

from kd3d_core.errors import WeightsError


def test_missing_weights_fail_the_transition(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    there = False

    def load(*_: str) -> FakeDetector:
        if not there:
            raise WeightsError("no weights of lite: get them with `kd3d-weights get lite`")
        return FakeDetector()

    setup = start(load=load)
    setup.spinner.until("diagnostics", lambda: setup.camera.value("state") == "unconfigured")
    assert "kd3d-weights get lite" in capfd.readouterr().err
    status = setup.fresh_status()
    assert status.level == DiagnosticStatus.ERROR
    assert "kd3d-weights get lite" in status.message
    # It is mended while the node runs.
    there = True
    setup.node.trigger_configure()
    setup.node.trigger_activate()
    setup.connect()
    setup.info()
    setup.send(image_message())
    assert setup.node.counters.processed == 1


def test_loading_that_breaks_fails_the_transition(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def load(*_: str) -> FakeDetector:
        raise AttributeError("a bug")

    setup = start(load=load)
    setup.spinner.until("diagnostics", lambda: setup.camera.value("state") == "unconfigured")
    said = capfd.readouterr().err
    assert "cannot configure: AttributeError: a bug\n" in said  # where the demo looks for it
    assert "Traceback" in said
    assert "AttributeError: a bug" in setup.fresh_status().message


def test_lifecycle(start: Start) -> None:
    """Without autostart; deactivated and activated again; the numbers still add up."""
    loaded: list[tuple[str, ...]] = []
    detector = FakeDetector()

    def load(*arguments: str) -> FakeDetector:
        loaded.append(arguments)
        return detector

    setup = start(load=load, autostart=False, model="mine", device="cpu", precision="fp16")
    client = setup.camera.create_client(GetState, "/kd3d_detector/get_state")
    setup.spinner.until("the service", client.service_is_ready)

    def state() -> str:
        answer = client.call_async(GetState.Request())
        setup.spinner.until("the state", answer.done)
        return str(answer.result().current_state.label)

    assert state() == "unconfigured"
    assert not loaded
    setup.node.trigger_configure()
    assert loaded == [("mine", "cpu", "fp16")]
    setup.node.trigger_activate()
    assert state() == "active"
    setup.connect()
    setup.info()
    setup.send(image_message())

    setup.node.trigger_deactivate()
    assert state() == "inactive"
    setup.spinner.until(
        "the node is gone", lambda: not setup.camera.images.get_subscription_count()
    )
    setup.node.trigger_activate()
    setup.camera.statuses.clear()
    setup.connect()
    setup.send(image_message())  # the CameraInfo is still known
    setup.node.trigger_deactivate()
    setup.node.trigger_cleanup()
    setup.node.trigger_configure()
    assert len(loaded) == 2
    setup.node.trigger_activate()
    setup.camera.statuses.clear()
    setup.connect()
    setup.info()
    setup.send(image_message())
    setup.node.finish()
    assert setup.node.state == "finalized"
    assert setup.node.counters.processed == setup.node.counters.received == 3


def test_another_model_twenty_times_leaves_nothing_behind(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[int] = []
    loaded: list[weakref.ref[FakeDetector]] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(alive())))

    def alive() -> list[Any]:
        return [one for one in loaded if one() is not None]

    def load(model: str, *_: str) -> FakeDetector:
        assert not alive()
        detector = FakeDetector()
        detector.description = model
        detector.before = lambda: detector  # a cycle, as models have
        loaded.append(weakref.ref(detector))
        return detector

    def resources() -> tuple[int, int, int]:
        node = setup.node
        return len(list(node.subscriptions)), len(list(node.publishers)), threading.active_count()

    setup = start(load=load, autostart=False)
    after: list[tuple[int, int, int]] = []
    for number in range(20):
        (changed,) = setup.node.set_parameters([Parameter("model", value=f"model {number}")])
        assert changed.successful
        setup.node.trigger_configure()
        setup.node.trigger_activate()
        assert len(alive()) == 1
        setup.camera.statuses.clear()
        setup.ready()
        setup.send(image_message(stamp=number))
        setup.fresh_status()
        assert setup.camera.value("detector") == f"model {number}"
        setup.node.trigger_deactivate()
        setup.node.trigger_cleanup()
        after.append(resources())
    assert emptied == [0] * 20
    assert setup.node.counters.processed == 20
    assert set(after) == {after[0]}


def test_frame_in_the_mailbox_at_the_end_counts_as_dropped(start: Start) -> None:
    setup, detector, release = held_in_model(start)
    setup.camera.images.publish(image_message(stamp=2))
    setup.spinner.until("the second arrives", lambda: setup.node.counters.received == 2)
    detector.before = lambda: None
    release.set()
    setup.node.trigger_deactivate()
    count = setup.node.counters
    assert count.processed + count.dropped == 2
    assert count.processed >= 1


def test_diagnostics_while_torch_is_being_imported(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = start(autostart=False)
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # with nothing in it yet
    setup.node.publish_diagnostics()
    monkeypatch.undo()
    setup.spinner.until("diagnostics", lambda: setup.camera.value("state") == "unconfigured")
