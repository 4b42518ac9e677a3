"""The task that a configuration asks for."""

import logging
from dataclasses import replace
from typing import Literal

from kd3d_core.data.calibration_check import few_samples, warn_if_calibration_looks_wrong
from kd3d_core.models.config import CmkdModelConfig, OwnModelConfig, load_model_config, own_model
from kd3d_core.training.card import card_of_run
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import run_data, warn_of_shared_frames
from kd3d_core.training.depth_task import make_depth_task
from kd3d_core.training.detector_task import make_detector_task
from kd3d_core.training.distill_task import make_distill_task
from kd3d_core.training.task import Task

log = logging.getLogger(__name__)


def make_task(config: TrainConfig, keep: bool = True) -> Task:
    """The task of a configuration, with its model and frames.

    With `keep`, what is computed once (pseudo-LiDAR, a teacher's answers) is computed now and kept
    on disk; without, nothing is written, and frames compute what they need.
    """
    model = own_model(load_model_config(config.model), config.model)
    data = run_data(config.data)
    warn_of_shared_frames(data)
    for part in data.train:
        warn_if_calibration_looks_wrong(few_samples(part.frames), log.warning)
    model = replace(model, card=card_of_run(model.card, _trained_parts(config, model), data))
    task: Task
    match config.task:
        case "depth":
            task = make_depth_task(config, model, data)
        case "detector":
            task = make_detector_task(config, model, data, keep)
        case "distill":
            task = make_distill_task(config, model, data, keep)
    if data.shares:  # the order of their frames goes by their number
        task.digests["sets"] = ", ".join(str(len(part.frames)) for part in data.train)
    return task


def _trained_parts(config: TrainConfig, model: OwnModelConfig) -> set[Literal["depth", "detector"]]:
    """The networks of the model that a run trains."""
    if config.task == "depth":
        return {"depth"}
    if isinstance(model, CmkdModelConfig):  # whose depth is a part of the detector
        return {"depth", "detector"}
    learnt = config.distill.learn_depth if config.distill is not None else None
    return {"detector"} if learnt is None or learnt.layers == "none" else {"depth", "detector"}
