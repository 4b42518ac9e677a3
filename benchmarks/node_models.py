"""Memory of the node as it gets another model again and again: configure, activate, clean up.

scripts/with-env python benchmarks/node_models.py
"""

from pathlib import Path

import rclpy
from rclpy.parameter import Parameter

from kd3d_core.cli.app import run
from kd3d_core.cli.table import print_table
from kd3d_ros.detector_node import DetectorNode


def node_models(rounds: int = 20, models: list[str] = ["demo", "streets"]) -> None:  # noqa: B006
    """Print the resident memory with each model, and after it was forgotten.

    Args:
        rounds: number of models to load.
        models: their names, taken in turn.
    """
    rows = [("round", "model", "loaded, MB", "forgotten, MB")]
    rclpy.init()
    node = DetectorNode(parameter_overrides=[Parameter("autostart", value=False)])
    for number in range(rounds):
        model = models[number % len(models)]
        node.set_parameters([Parameter("model", value=model)])
        node.trigger_configure()
        node.trigger_activate()
        loaded = _memory_mb()
        node.trigger_deactivate()
        node.trigger_cleanup()
        rows.append((str(number + 1), model, f"{loaded:.0f}", f"{_memory_mb():.0f}"))
    node.finish()
    rclpy.shutdown()
    print_table(rows)


def _memory_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    run(
        node_models,
        prog="node_models.py",
        description="Watch the node's memory while it gets one model after the other.",
        examples=["benchmarks/node_models.py", "benchmarks/node_models.py --rounds 40"],
    )
