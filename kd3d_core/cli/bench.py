"""`kd3d-bench`: how long a model takes for an image here, and what a chain without kd3d takes."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kd3d_core.cli.app import run
from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, Kd3dError

if TYPE_CHECKING:
    from kd3d_core.bench.measure import Frame
    from kd3d_core.models.config import ModelConfig


def bench(
    *,
    model: str = "demo",
    device: str = "auto",
    precision: Precision = "auto",
    threads: int = 0,
    data: Path | None = None,
    images: int = 3,
    rounds: int = 20,
    random: bool = False,
    baseline: Literal["none", "upstream"] = "none",
    against: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    beside: int = 0,
    json: Path | None = None,
    compare: Path | None = None,
) -> int:
    """Time a model, stage by stage.

    Args:
        model: a name in config/models or weights, or a YAML file.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks; auto suits the device.
        threads: number of torch's threads; 0 leaves it to OMP_NUM_THREADS and the machine.
        data: folder in KITTI's layout with the images; default: rendered ones.
        images: number of different images.
        rounds: images that count, after two to warm up; they come round again.
        random: draw the weights, which changes no time but that of sparse convolution, so that they
            needn't be there.
        baseline: upstream runs in turn the chain that a user would write without kd3d: processor
            and network of transformers, a back-projection in numpy, test pipeline and network of
            mmdet3d; once at the sizes of our networks, and once at those that they were published
            with.
        against: other models to run in turn, such as the same one exported for an engine.
        beside: processes that compute meanwhile, as on a robot.
        json: file for the numbers.
        compare: an earlier such file; a ratio to a baseline that is worse by more than a tenth is
            named, and makes the exit status 1.
    """
    from kd3d_core.models.config import load_model_config
    from kd3d_core.weights import resolve

    if images < 1 or rounds < 1 or min(threads, beside) < 0:
        raise Kd3dError(
            "--images and --rounds must be 1 or more, --threads and --beside can't be negative"
        )
    if compare is not None and baseline == "none" and not against:
        raise ConfigError("--compare compares ratios: give --baseline upstream or --against too")
    configs = {name: load_model_config(name) for name in (model, *against)}
    for name, each in configs.items():
        if each.type == "lidar":
            raise ConfigError(f"{name} reads a LiDAR: kd3d-bench times models that read a camera")
    if random:
        configs = {name: with_random_weights(each) for name, each in configs.items()}
    for weights in {each for config in configs.values() for each in config.weights.values()}:
        if weights != "random":
            resolve(weights)
    config = configs.pop(model)
    if baseline == "upstream":
        _check_has_upstream(config)

    from kd3d_core.bench.report import read_report, show, worse

    old = None if compare is None else read_report(compare)

    from kd3d_core.bench.frames import bench_frames

    frames = bench_frames(data, images)
    report = _measure(config, configs, frames, device, precision, threads, rounds, baseline, beside)
    source = "rendered" if data is None else str(data)
    width, height = frames[0].image.shape[1::-1]
    report["images"] = f"{len(frames)} images of {width} x {height}, {source}"
    show(report)
    if json is not None:
        from json import dumps

        from kd3d_core.files import write_whole

        write_whole(json, dumps(report, indent=2).encode())
    lines = [] if old is None else worse(old, report)
    for line in lines:
        print(line)
    return 1 if lines else 0


def _measure(
    config: "ModelConfig",
    others: "Mapping[str, ModelConfig]",
    frames: "Sequence[Frame]",
    device: str,
    precision: Precision,
    threads: int,
    rounds: int,
    baseline: str,
    beside: int,
) -> dict[str, Any]:
    from contextlib import ExitStack

    import torch

    from kd3d_core.bench.machine import machine_report, peak_memory_gib
    from kd3d_core.bench.measure import (
        Chain,
        beside_busy,
        chains_report,
        count_flops,
        peak_rate,
        time_in_turn,
    )
    from kd3d_core.bench.ours import OurChain, count_parameters
    from kd3d_core.bench.report import OURS
    from kd3d_core.devices import dtype_of, usable_device
    from kd3d_core.models.build import make_model
    from kd3d_core.models.config import without_engine
    from kd3d_core.runtime.pipeline import CameraDetector
    from kd3d_core.threads import use_threads

    use_threads(threads)
    place = torch.device(usable_device(device))
    made = make_model(config, place, precision)
    detector = CameraDetector(made, str(place))
    chains: dict[str, Chain] = {OURS: OurChain(detector)}
    with torch.inference_mode():
        chains[OURS](frames[0])
        memory = peak_memory_gib(place)
        rate = peak_rate(place, dtype_of(made.precision))
    # What an engine computes can't be seen from outside.
    plain = without_engine(config)
    in_torch = made if plain == config else make_model(plain, place, precision)
    flops = count_flops(OurChain(CameraDetector(in_torch, str(place))), frames[0])
    for name, other in others.items():
        chains[name] = OurChain(CameraDetector(make_model(other, place, precision), str(place)))
    if baseline == "upstream":
        from kd3d_core.bench.upstream import upstream_chains

        chains |= upstream_chains(in_torch, place)
    with ExitStack() as stack:
        stack.enter_context(beside_busy(beside))
        times = time_in_turn(chains, frames, rounds)
    report = chains_report(times)
    seconds = min(times[OURS].total) / 1e3  # the least disturbed, as the rate is
    report["machine"] = {**machine_report(place), "gflop_per_s": rate / 1e9, "beside": beside}
    report["model"] = {
        "description": detector.description,
        "parameters": count_parameters(in_torch),
        "gflop": flops / 1e9,
        "share_of_rate": flops / seconds / rate,
        "memory_gib": memory,
    }
    return report


def with_random_weights(config: "ModelConfig") -> "ModelConfig":
    """The same model with weights that are drawn, so that none have to be there."""
    from dataclasses import replace

    from kd3d_core.models.config import (
        PseudoLidarModelConfig,
        with_detector_weights,
        without_engine,
    )

    if isinstance(config, PseudoLidarModelConfig):
        if config.depth.type == "auto":
            raise ConfigError("--random: a depth network of type auto comes with its weights alone")
        depth = replace(config.depth, weights="random", encoder_weights="random")
        config = replace(config, depth=depth)
    return without_engine(with_detector_weights(config, "random"))


def _check_has_upstream(config: "ModelConfig") -> None:
    from kd3d_core.models.config import PseudoLidarModelConfig

    if (
        not isinstance(config, PseudoLidarModelConfig)
        or config.depth.type != "glpn"
        or config.detector.type != "lite"
    ):
        raise ConfigError(
            "--baseline upstream: only GLPN with the detector lite runs without mmcv's compiled "
            "ops, for which there are no builds for this PyTorch: use --model demo or lite"
        )


def main() -> int:
    """Entry point."""
    return run(
        bench,
        prog="kd3d-bench",
        description=(
            "Times a model stage by stage, alone or in turn with the chain that a user would write "
            "of the same networks without kd3d."
        ),
        examples=[
            "kd3d-bench --model demo",
            "kd3d-bench --baseline upstream --json out/bench.json",
            "kd3d-bench --baseline upstream --compare out/bench.json",
            "kd3d-bench --model streets --against streets_onnx/model.yaml --threads 2",
            "kd3d-bench --model mvxnet_kitti --random --device cuda --rounds 200",
            "OMP_WAIT_POLICY=ACTIVE kd3d-bench --beside 2",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
