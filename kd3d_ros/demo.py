"""`kd3d-demo`: the main job from end to end, each part in a process of its own over DDS.

A rendered drive, a KITTI sequence or a video becomes a bag; the detector node starts; the bag is
played; the results are recorded to a second bag; and what was recorded becomes pictures, a summary
and a page.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.errors import Kd3dError
from kd3d_ros.processes import Process, running, stop_without

if TYPE_CHECKING:
    from kd3d_ros.demo_input import Drive

_NODE = "kd3d_detector"
_START_LIMIT_S = 300.0
_DRAIN_LIMIT_S = 60.0


def demo(
    *,
    data: Path | None = None,
    video: Path | None = None,
    hfov: float | None = None,
    camera_height: float | None = None,
    out: Path = Path("out/demo"),
    model: str = "demo",
    device: str = "auto",
    speed: float = 0.15,
    rate: float = 10.0,
    frames: str = ":",
) -> None:
    """Run the demo.

    Args:
        data: sequence in KITTI's layout; default: a drive that is rendered and kept in OUT/drive.
        video: video file to play instead.
        hfov: field of view over the video's width, degrees; default: a guess, which pictures and
            page say.
        camera_height: metres over the ground of the video's camera; default: 1.65.
        out: folder for bags, pictures, logs, summary.json and report.html.
        model: a name in config/models or weights, or a YAML file.
        device: auto, cpu, cuda or cuda:N.
        speed: of playing; 1 is real time. The default lets a CPU keep up: images that come while
            the detector is busy are dropped, but for the newest.
        rate: frames per second of the bag; a video has its own.
        frames: range of the frames, as a:b, counted from 0 and without b.
    """
    from kd3d_core.models.card import caveat
    from kd3d_core.models.config import load_model_config
    from kd3d_core.outputs import FRAME_OUTPUTS
    from kd3d_ros import demo_input, demo_results
    from kd3d_ros.demo_recording import read_results

    for name, value in (("speed", speed), ("rate", rate), ("camera-height", camera_height)):
        if value is not None and not 0 < value < 1e6:
            raise Kd3dError(f"--{name} {value:g}: give a number above 0")
    if data is not None and video is not None:
        raise Kd3dError("give --data or --video, not both")
    if video is None and (hfov, camera_height) != (None, None):
        raise Kd3dError("--hfov and --camera-height are of a --video; other drives are calibrated")
    opened = None
    if video is not None:
        opened = demo_input.open_video(video, hfov, camera_height, frames)
    config = load_model_config(model)  # a wrong name should not wait for the drive
    out.mkdir(parents=True, exist_ok=True)
    # A domain of its own: no other node of this network takes part. Up to 101 the ports are safe.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

    drive = opened.write(out / "input") if opened else _written(data, out, frames, rate)
    print(f"2/4 starting the detector node with the model {model}")
    record = ["record", *(f"{row.topic(_NODE)}:{row.ros_type}" for row in FRAME_OUTPUTS)]
    record += ["--out", str(out / "output"), "--overwrite"]
    with (
        _without_partial(out),
        running("recorder", _bag_command(*record), out / "recorder.log") as recorder,
        running("node", _node_command(model, device), out / "node.log") as node,
    ):
        _wait_until_recording(recorder, node)
        seconds = drive.frames / drive.rate_hz / speed
        print(f"3/4 playing {drive.frames} frames over DDS, {seconds:.0f} s at speed {speed:g}")
        sent = _play(out / "input", speed, node)
        counters, values = _drain(len(sent), node)

    print("4/4 drawing what was recorded")
    trained = values["weights"] == "trained"
    card = config.card
    weights = {**config.weights, "trained": trained, "trained_on": card.trained_on}
    doubt = caveat(trained, card)
    rules = demo_results.rules_for(card)
    played = demo_results.Played(drive, model, speed, sent, counters, weights, rules, doubt)
    drawn = demo_results.draw(out, read_results(out / "output", _NODE), played)
    summary = demo_results.summarize(drawn, played)
    text = json.dumps(summary, indent=2)
    (out / "summary.json").write_text(text + "\n")
    demo_results.write_page(out / "report.html", drawn, played, summary)
    print(f"{text}\n{len(drawn)} pictures in {out / 'frames'}, summary in {out / 'summary.json'}")
    print(f"to leaf through in a browser: {out / 'report.html'}")
    said = (doubt.text if doubt else "", values["camera"], drive.doubt, *drive.camera)
    for line in filter(None, said):
        print(line)


def _written(data: Path | None, out: Path, frames: str, rate_hz: float) -> "Drive":
    """A bag of a sequence, or of the drive that is rendered."""
    from kd3d_ros import demo_input

    if data is not None:
        print(f"1/4 reading {data}")
        dataset = demo_input.kitti_sequence(data, frames)
    else:
        print(f"1/4 rendering a drive, about a second per frame; kept in {out / 'drive'}")
        dataset = demo_input.rendered_drive(out / "drive", frames)
    return demo_input.write_dataset(dataset, out / "input", rate_hz)


@contextmanager
def _without_partial(out: Path) -> Iterator[None]:
    """Remove what a recorder that had to be killed leaves of its bag."""
    try:
        yield
    finally:
        for folder in out.glob(".output.partial-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_recording(recorder: Process, node: Process) -> None:
    """Wait until the recorder listens to all results: what is published before is lost to it."""
    deadline = time.monotonic() + _START_LIMIT_S
    while not any(
        line.startswith("recording ")
        for line in recorder.log.read_text(errors="replace").splitlines()
    ):
        recorder.check()
        node.check()
        if time.monotonic() > deadline:
            raise Kd3dError(
                f"the recorder does not listen after {_START_LIMIT_S:g} s: {node.last_line()} "
                f"(whole logs: {recorder.log}, {node.log})"
            )
        time.sleep(0.05)


def _bag_command(*args: str) -> list[str]:
    return [sys.executable, "-m", "kd3d_ros.bag", *args]


def _node_command(model: str, device: str) -> list[str]:
    from kd3d_core.data.kitti_bag import IMAGE_TOPIC, INFO_TOPIC, LIDAR_FRAME

    parameters = {
        "model": model,
        "device": device,
        "detector_frame": LIDAR_FRAME,  # that of the truth, so that both can be compared
        "lazy": "false",
    }
    remaps = {"image": IMAGE_TOPIC, "camera_info": INFO_TOPIC, "__node": _NODE}
    args = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    args += [word for name, value in remaps.items() for word in ("-r", f"{name}:={value}")]
    return [sys.executable, "-m", "kd3d_ros.detector_node", "--ros-args", *args]


def _play(bag: Path, speed: float, node: Process) -> dict[int, int]:
    """Play `bag`; when each image was sent, by its header stamp, both in nanoseconds."""
    from kd3d_core.data.bag import RawMessage
    from kd3d_core.data.kitti_bag import IMAGE_TOPIC
    from kd3d_ros.play import play_bag

    sent: dict[int, int] = {}

    def on_sent(message: RawMessage) -> None:
        if message.topic == IMAGE_TOPIC:  # stored under its header stamp by `write_kitti_bag`
            sent[message.stamp_ns] = time.time_ns()

    with stop_without(node) as stop:
        play_bag(
            bag,
            rate=speed,
            wait_for={IMAGE_TOPIC: 1},
            wait_timeout_s=_START_LIMIT_S,
            stop=stop,
            on_sent=on_sent,
        )
    node.check()
    return sent


def _drain(sent: int, node: Process) -> tuple[dict[str, int], dict[str, str]]:
    """Wait until the node has dealt with all that it received; its counters, and all that its last
    diagnostics said."""
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor

    from kd3d_ros.raw import bare_node

    latest: list[dict[str, str]] = []

    def remember(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(_NODE):
                latest.append({pair.key: pair.value for pair in status.values})

    with bare_node("kd3d_demo") as watcher:
        watcher.create_subscription(DiagnosticArray, "/diagnostics", remember, 5)
        executor = SingleThreadedExecutor(context=watcher.context)
        executor.add_node(watcher)
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        while time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.2)
            node.check()
            # Two reports in a row: what is still on its way when the first is made is in the next.
            reports = [_counters(values) for values in latest[-2:]]
            if len(reports) == 2 and reports[0] == reports[1] and _settled(reports[1]):
                return reports[1], latest[-1]
        seen = _counters(latest[-1]) if latest else "no diagnostics"
    raise Kd3dError(f"the node is not done with {sent} frames after {_DRAIN_LIMIT_S:g} s: {seen}")


_OUTCOMES = ("processed", "dropped", "skipped", "rejected", "failed")


def _counters(values: dict[str, str]) -> dict[str, int]:
    return {name: int(values[name]) for name in ("received", *_OUTCOMES)}


def _settled(counters: dict[str, int]) -> bool:
    return counters["received"] == sum(counters[name] for name in _OUTCOMES)


def main() -> int:
    """Entry point."""
    with exit_on_sigterm():
        return run(
            demo,
            prog="kd3d-demo",
            description=(
                "Play a drive through the detector node, over DDS, compare what it finds with the "
                "labels, and draw it. The drive is rendered, so that no data is needed, or it is a "
                "sequence in KITTI's layout or a video."
            ),
            examples=[
                "kd3d-demo",
                "kd3d-demo --device cuda --speed 1",
                "kd3d-demo --data ~/kitti/tracking_0001 --model streets --frames 0:10",
                "kd3d-demo --video dashcam.mp4 --model streets --hfov 78 --out out/film",
                "kd3d-demo --model runs/kitti_lite_pseudo/model.yaml --out out/mine",
            ],
        )


if __name__ == "__main__":
    sys.exit(main())
