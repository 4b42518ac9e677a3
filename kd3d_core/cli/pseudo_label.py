"""`kd3d-pseudo-label`: writes what a model finds in frames as their label files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.cli.frames import frame_slice
from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kd3d_core.models.config import LidarModelConfig, ModelConfig, OwnModelConfig
    from kd3d_core.offline.pseudo_labels import Outcome


def pseudo_label(
    model: str,
    root: Path,
    *,
    out: Path | None = None,
    points: Literal["model", "lidar"] = "model",
    score_threshold: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    frames: str = ":",
    device: str = "auto",
    precision: Precision = "auto",
) -> int:
    """Label frames with a model. Files that a person made or corrected stay as they are.

    Args:
        model: a name in config/models or weights, or a YAML file such as a teacher's model.yaml.
        root: folder in KITTI's layout.
        out: folder for the label files; default: the data set's own label_2, from which training
            takes them.
        points: points that the detector reads: those that the model makes, or the frames' true
            LiDAR, as a teacher does.
        score_threshold: a score for all classes, or Class=score, several of them; default: those of
            the model's card, and 0.5 where it has none.
        frames: range of the frames, as a:b, counted from 0 and without b; all by default.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks; auto suits the device.
    """
    import fcntl

    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.files import locked
    from kd3d_core.models.config import load_model_config, own_model
    from kd3d_core.weights import resolve

    config = load_model_config(model)
    dataset = KittiDataset(root)
    if points == "lidar":
        config = _on_lidar(own_model(config, model))
    _check_weights(config, model)
    for weights in config.weights.values():
        resolve(weights)
    names = dataset.names[frame_slice(frames)]
    if not names:
        raise DataError(f"--frames {frames} selects none of the {len(dataset)} frames in {root}")
    dataset = dataset.subset(names)
    dataset.require(("image_2", "calib"))
    if config.type == "lidar" and len(dataset.without_lidar()) == len(dataset):
        raise DataError(f"{root}: no frame has the LiDAR that {model} reads")

    # Loads torch: after all that may be wrong.
    import torch

    from kd3d_core.devices import usable_device
    from kd3d_core.models.build import make_model
    from kd3d_core.offline.pseudo_labels import label_frames, score_thresholds
    from kd3d_core.offline.store import model_digest
    from kd3d_core.progress import progress_of

    thresholds = score_thresholds(score_threshold, config.detector.classes, config.card)
    here = torch.device(usable_device(device))
    network = make_model(config, here, precision)
    digest = model_digest(network.config, f"{network.description}, {here}, {network.precision}")
    folder = out or dataset.root / "label_2"
    refusal = f"{folder} is in use by another kd3d-pseudo-label: wait for it"
    with (
        locked(folder, fcntl.lockf, refusal),
        exit_on_sigterm(),
        progress_of("labelling", len(dataset)) as step,
    ):
        outcome = label_frames(dataset, network, digest, folder, thresholds, step)
    _report(outcome, folder, thresholds)
    print(f"the model was trained on: {config.card.trained_on}")
    return 1 if outcome.bad else 0


def _on_lidar(config: "OwnModelConfig") -> "LidarModelConfig":
    """The model's detector on true points."""
    from kd3d_core.models.config import LidarModelConfig

    return LidarModelConfig(config.detector, config.seed, config.card)


def _check_weights(config: "ModelConfig", model: str) -> None:
    if "random" in config.weights.values():
        raise ConfigError(f"{model} has random weights, and what it finds is noise: train it first")


def _report(outcome: "Outcome", folder: Path, thresholds: dict[str, float]) -> None:
    scores = ", ".join(f"{name} {score:g}" for name, score in thresholds.items())
    print(
        f"{folder}: {outcome.written} frames labelled with {outcome.boxes} boxes from {scores} on"
    )
    for count, text in (
        (outcome.kept, "were labelled by this model before"),
        (outcome.human, "have labels of a person, and keep them"),
        (outcome.without_lidar, "have no LiDAR, which the model reads"),
        (len(outcome.bad), "can't be used"),
    ):
        if count:
            print(f"{count} frames {text}")
    for name, reason in outcome.bad[:3]:
        print(f"  {name}: {reason}")


def main() -> int:
    """Entry point."""
    return run(
        pseudo_label,
        prog="kd3d-pseudo-label",
        description=(
            "Write what a model finds as label files in KITTI's format, with scores: to look at, "
            "to correct by hand, or to train on. The same command goes on after an interruption, "
            "and another model replaces what a model wrote; what a person wrote stays."
        ),
        examples=[
            "kd3d-pseudo-label runs/site/student/model.yaml data/site",
            "kd3d-pseudo-label demo data/site --points lidar --score-threshold 0.5 Car=0.4",
            "kd3d-pseudo-label runs/kitti_second/model.yaml data/site --out out/labels",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
