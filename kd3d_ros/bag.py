"""`kd3d-bag`: write, play, record and list bags, on machines without `ros2 bag` too.

Only `play` and `record` import rclpy.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd3d_core.cli.app import run
from kd3d_core.cli.bag import from_kitti, info
from kd3d_core.errors import Kd3dError
from kd3d_ros.signals import stop_on_signals

_ROS_MISSING = (
    "{} needs ROS 2's rclpy, which cannot be imported ({}): source /opt/ros/<distro>/setup.bash, "
    "or make kd3d's environment with `make env`"
)


def play(
    bag: Path,
    *,
    rate: float = 1.0,
    loop: bool = False,
    start_offset: float = 0.0,
    clock: bool = False,
    topics: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    wait_for: list[str] = [],  # noqa: B006
    wait_timeout: float = 30.0,
) -> None:
    """Publish a bag's messages at its own pace, with the QoS they were recorded with.

    Args:
        bag: rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file.
        rate: speed, 1 is the bag's own.
        loop: start again at the end, until interrupted.
        start_offset: seconds of the bag to leave out at its start; latched topics are still sent.
        clock: publish /clock as well.
        topics: only these.
        wait_for: begin when these topics have a subscriber, or N of them, as TOPIC:N.
        wait_timeout: seconds to wait for them at most.
    """
    with _ros("playing"):
        from kd3d_ros.play import play_bag
    with stop_on_signals() as stop:
        summary = play_bag(
            bag,
            rate=rate,
            loop=loop,
            start_offset_s=start_offset,
            clock=clock,
            topics=topics or None,
            wait_for=dict(_count(word) for word in wait_for),
            wait_timeout_s=wait_timeout,
            stop=stop,
        )
    print(summary)


def record(
    topics: list[str],
    *,
    out: Path,
    max_seconds: float = 0.0,
    idle_seconds: float = 0.0,
    overwrite: bool = False,
) -> None:
    """Record topics into a bag until interrupted.

    Args:
        topics: names, or NAME:pkg/msg/Type to listen before a publisher is there.
        out: folder of the bag to write.
        max_seconds: stop after this time; 0 never.
        idle_seconds: stop when nothing came for so long after the first message; 0 never.
        overwrite: replace a bag of that name.
    """
    with _ros("recording"):
        from kd3d_ros.record import record_bag
    with stop_on_signals() as stop:
        counts = record_bag(
            out,
            topics,
            max_s=max_seconds or None,
            idle_s=idle_seconds or None,
            overwrite=overwrite,
            stop=stop,
        )
    print(f"{out}: " + ", ".join(f"{topic} {count}" for topic, count in counts.items()))


def _count(word: str) -> tuple[str, int]:
    topic, _, number = word.partition(":")
    if number and not number.isdigit():
        raise Kd3dError(f"--wait-for {word}: write TOPIC or TOPIC:N")
    return topic, int(number or 1)


@contextmanager
def _ros(doing: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Kd3dError(_ROS_MISSING.format(doing, error)) from error


def main() -> int:
    """Entry point."""
    return run(
        {"from-kitti": from_kitti, "play": play, "record": record, "info": info},
        prog="kd3d-bag",
        description="Write, play, record and list bags; writes rosbag2 with MCAP.",
        examples=[
            "kd3d-bag from-kitti ~/kitti/tracking_0001 --out out/kitti --rate 10",
            "kd3d-bag info out/kitti",
            "kd3d-bag play out/kitti --clock --wait-for /camera/image_raw",
            "kd3d-bag play out/kitti --loop --rate 0.5 --topics /camera/image_raw /tf_static",
            "kd3d-bag record /kd3d_detector/points /kd3d_detector/detections --out out/run",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
