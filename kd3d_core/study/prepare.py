"""What all runs of a study share: frames, the model's file, pseudo-LiDAR on disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kd3d_core.config import plain
from kd3d_core.data.frame_inputs import PointSource, lidar_points, no_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.pseudo_cache import PseudoLidarCache, weights_digest
from kd3d_core.errors import ConfigError
from kd3d_core.files import read_json, write_json
from kd3d_core.models.build import make_pseudo_lidar
from kd3d_core.models.card import ModelCard
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import (
    CmkdModelConfig,
    LidarModelConfig,
    OwnModelConfig,
    PseudoLidarModelConfig,
    load_model_config,
    save_model_config,
)
from kd3d_core.paths import cache_dir
from kd3d_core.progress import progress_of
from kd3d_core.study.config import ASSISTANT, TEACHER, StudyConfig
from kd3d_core.study.runs import StudyRun, model_file, teacher_file
from kd3d_core.training.caches import assistant_points
from kd3d_core.training.data import run_data


@dataclass(frozen=True)
class Prepared:
    """What evaluating a run needs.

    Attributes:
        model: of the students.
        teacher: of those that teach.
        val: frames to validate on.
        pseudo_points: gives the pseudo-LiDAR of all frames; None for students that read none.
        device: where to compute.
    """

    model: PseudoLidarModelConfig | CmkdModelConfig
    teacher: OwnModelConfig
    val: KittiDataset
    pseudo_points: PointSource | None
    device: torch.device

    def model_of(self, run: StudyRun) -> OwnModelConfig:
        """The model that a run trains."""
        return self.teacher if run.variant in (TEACHER, ASSISTANT) else self.model

    def points(self, run: StudyRun) -> PointSource:
        """What the detector of a run reads."""
        match run.config.points:
            case "pseudo":
                assert self.pseudo_points is not None
                return self.pseudo_points
            case "lidar":
                alone = self.model_of(run).detector.reads_image_alone
                return no_points if alone else lidar_points
            case "true_depth":
                return assistant_points(run.config, self.model)


def prepare(study: StudyConfig, workers: int) -> Prepared:
    """Render frames, write the model's file and fill the pseudo-LiDAR cache, where not yet done.

    `workers` processes render; 0 for one per CPU. `Kd3dError` if frames or weights are missing, or
    aren't those that the study began with.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, pseudo_lidar = _students(study, device)
    _render(study, workers)
    data = run_data(study.data)
    train, val = data.train[0].frames, data.val
    for frames in (train, val):
        frames.require(("image_2", "calib", "label_2", "velodyne"))
    _claim(study, model, pseudo_lidar, (train, val))
    save_model_config(model, model_file(study))
    teacher: OwnModelConfig = model
    if study.teacher_detector is not None:
        teacher = LidarModelConfig(study.teacher_detector)
        save_model_config(teacher, teacher_file(study))
    if pseudo_lidar is None:
        return Prepared(model, teacher, val, None, device)
    cache = PseudoLidarCache(cache_dir() / "pseudo_lidar", pseudo_lidar)
    with progress_of("pseudo-LiDAR", len(train) + len(val)) as step:
        for frames in (train, val):
            cache.fill(frames, device, step)
    return Prepared(model, teacher, val, cache, device)


def _students(
    study: StudyConfig, device: torch.device
) -> tuple[PseudoLidarModelConfig | CmkdModelConfig, PseudoLidar | None]:
    """The students' model, and what makes its pseudo-LiDAR, if it reads any."""
    if study.depth is None:
        return CmkdModelConfig(study.detector, study.pseudo_lidar), None
    named = load_model_config(study.depth)
    if not isinstance(named, PseudoLidarModelConfig):
        raise ConfigError(f"depth is {study.depth}, a model without a depth network")
    if named.depth.weights == "random":
        raise ConfigError(
            f"depth is {study.depth}, whose depth network is untrained: train one "
            "(config/train/synth_depth.yaml) and name the model.yaml that the run leaves"
        )
    model = PseudoLidarModelConfig(
        named.depth, study.detector, study.pseudo_lidar, card=ModelCard(depth=named.card.depth)
    )
    return model, make_pseudo_lidar(model, device)


def _render(study: StudyConfig, workers: int) -> None:
    if study.render is None:
        return
    from kd3d_core.data.synthetic.render import render

    assert study.data.val_root is not None, "StudyConfig has checked it"
    train, val = study.render.scenes()
    _check_no_others(study.data.train, study.data.root, train.frames, "render.train")
    _check_no_others(study.data.val, study.data.val_root, val.frames, "render.val")
    render(train, Path(study.data.root), workers)
    render(val, Path(study.data.val_root), workers)


def _check_no_others(names: str | None, root: str, frames: int, key: str) -> None:
    """All frames of the folder are used, so it may not hold more than are rendered."""
    images = len(list(Path(root).expanduser().glob("training/image_2/*.png")))
    if names is None and images > frames:
        raise ConfigError(
            f"{root} holds {images} frames and {key}.frames is {frames}: give another folder in "
            "`data`, or a list of the frames to use"
        )


def _claim(
    study: StudyConfig,
    model: PseudoLidarModelConfig | CmkdModelConfig,
    pseudo_lidar: PseudoLidar | None,
    frames: tuple[KittiDataset, KittiDataset],
) -> None:
    """Write down what all runs depend on, or check that it is what the study began with."""
    train, val = frames
    now: dict[str, Any] = {}
    if pseudo_lidar is not None and isinstance(model, PseudoLidarModelConfig):
        digest = weights_digest(pseudo_lidar.network)
        settings = plain(replace(model.depth, weights=""))
        now["depth"] = {**settings, "sha256 of the weights": digest}
    if study.teacher_detector is not None:
        now["teacher_detector"] = plain(study.teacher_detector)
    now |= {
        "detector": plain(model.detector),
        "pseudo_lidar": plain(model.pseudo_lidar),
        "frames": {"to train on": len(train), "to validate on": len(val)},
    }
    path = Path(study.out) / "study.json"
    if path.is_file():
        changed = list(_differences(read_json(path), now))
        if changed:
            raise ConfigError(
                f"{study.out} holds a study with other settings: {', '.join(changed[:3])}; set "
                "that back to go on, or give another `out` to start anew"
            )
        return
    write_json(path, now)


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} is {new} and was {old}"
