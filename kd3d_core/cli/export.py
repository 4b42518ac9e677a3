"""`kd3d-export`: a model for an inference engine, in a folder of its own."""

import sys
from pathlib import Path

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.errors import ConfigError
from kd3d_core.models.engines.config import EngineName


def export(
    model: str,
    *,
    out: Path,
    engine: EngineName = "onnxruntime",
    data: Path | None = None,
    images: int = 3,
    int8: Path | None = None,
    int8_images: int = 20,
    keep_fp32: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
) -> None:
    """Export the parts of a model whose shapes are fixed to ONNX, for an engine to compute.

    Args:
        model: a name in config/models or weights, or a YAML file.
        out: the folder, which mustn't be there yet; its model.yaml is what the node and all
            commands take as model.
        engine: inference engine that is to compute it.
        data: folder in KITTI's layout with images; default: rendered ones. In them the engine must
            find the boxes that torch finds, within 2 cm and 0.01 of the score.
        images: number of images.
        int8: folder in KITTI's layout with images like those that the model will see; the parts
            then compute in whole numbers of 8 bits, whose ranges these images give. Boxes differ:
            how much is printed, and kd3d-eval says what it costs.
        int8_images: number of those images.
        keep_fp32: parts that stay in single precision (depth, image, bev, and collapse of CMKD).
    """
    from kd3d_core.models.config import ExportableConfig, load_model_config
    from kd3d_core.models.engines.config import check_can_export
    from kd3d_core.weights import resolve

    config = load_model_config(model)
    if not isinstance(config, ExportableConfig):
        raise ConfigError(f"{model} is of type {config.type}: kd3d-export takes pseudo_lidar, cmkd")
    for weights in set(config.weights.values()) - {"random"}:
        resolve(weights)
    if min(images, int8_images) < 1:
        raise ConfigError("--images and --int8-images must be 1 or more")
    if unknown := set(keep_fp32) - {"depth", "image", "bev", "collapse"}:
        raise ConfigError(f"--keep-fp32 {min(unknown)}: parts are depth, image, bev and collapse")
    check_can_export(engine, out, int8 is not None)

    from kd3d_core.bench.frames import bench_frames
    from kd3d_core.models.engines.export import Int8, export_model

    calibration = None if int8 is None else Int8(bench_frames(int8, int8_images), keep_fp32)
    frames = bench_frames(data, images)
    with exit_on_sigterm():
        parity = export_model(config, engine, frames, out, calibration)
    print(f"{out / 'model.yaml'}: in {len(frames)} images {parity}")
    if calibration is not None:
        print(f"ranges of int8 are those of {len(calibration.frames)} images of {int8}")


def main() -> int:
    """Entry point."""
    return run(
        export,
        prog="kd3d-export",
        description=(
            "Exports the parts of a model whose shapes are fixed for an inference engine, and "
            "checks that it finds the same boxes."
        ),
        examples=[
            "kd3d-export streets --out streets_onnx",
            "kd3d-export streets --out streets_openvino --engine openvino",
            "kd3d-export streets --out streets_int8 --engine openvino --int8 data/site",
            "kd3d-detect IMAGES --png out --model streets_onnx/model.yaml",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
