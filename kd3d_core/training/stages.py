"""Several runs in one configuration, each of which goes on from the models of those before.

    model: demo
    data: {root: data/site}
    out: runs/site
    stages:
      depth: {task: depth}
      student: {task: distill, model: depth, teacher: {model: demo}}

What stands beside `stages` is for all of them, unless one says otherwise. Each runs in the folder
of its name in `out`; `depth` as a model is what the stage of that name leaves there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd3d_core.config import read_settings
from kd3d_core.errors import ConfigError, shown
from kd3d_core.training.config import TrainConfig, make_train_config

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Stage:
    """One of the runs of a configuration.

    Attributes:
        name: of the stage; empty for a configuration without stages.
        config: settings of the run.
        ahead: the same with the models that earlier stages begin with in place of those that they
            leave: what can be looked at before they have run.
    """

    name: str
    config: TrainConfig
    ahead: TrainConfig


def load_stages(path: Path | str, changes: Sequence[str] = ()) -> list[Stage]:
    """The runs that a YAML file describes, in order: its stages, or the one that it is.

    `changes` replace values of the file, see `kd3d_core.config.load_config`; `ConfigError` names
    the file, or the changes if the file is right without them.
    """
    try:
        return _stages(read_settings(path, changes), path)
    except ConfigError as error:
        if not changes or not _is_right(path):
            raise
        words = " ".join(f"--{change}" for change in changes)
        raise ConfigError(f"{words}: {str(error).removeprefix(f'{path}: ')}") from None


def _is_right(path: Path | str) -> bool:
    try:
        _stages(read_settings(path), path)
    except ConfigError:
        return False
    return True


def _stages(values: dict[str, Any], path: Path | str) -> list[Stage]:
    shared = {key: value for key, value in values.items() if key != "stages"}
    if "stages" not in values:
        config = make_train_config(shared, path)
        return [Stage("", config, config)]
    named = values["stages"]
    if not isinstance(named, dict) or not named:
        raise ConfigError(f"{path}: stages must hold settings under the name of each stage")
    stages: list[Stage] = []
    for name, own in named.items():
        where = f"{path}: stages.{shown(name)}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: name it with letters, digits, - and _: it is a folder")
        if not isinstance(own, dict):
            raise ConfigError(f"{where} holds {shown(own)!r}, not settings")
        config = make_train_config(_merged(shared, own), where)
        config = replace(config, out=f"{config.out}/{name}")
        left = {stage.name: f"{stage.config.out}/model.yaml" for stage in stages}
        begun = {stage.name: stage.ahead.model for stage in stages}
        stages.append(Stage(name, _with_models(config, left), _with_models(config, begun)))
    precisions = {stage.config.precision for stage in stages}
    if len(precisions) > 1:
        raise ConfigError(
            f"{path}: the stages have precision {' and '.join(sorted(precisions))}, and a process "
            "keeps the one that it begins with: give precision beside stages"
        )
    return stages


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of both, section by section; a stage's own replace those for all."""
    merged = {**shared, **own}
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(shared.get(key), dict):
            merged[key] = _merged(shared[key], value)
    return merged


def _with_models(config: TrainConfig, models: Mapping[str, str]) -> TrainConfig:
    """A run whose models that are named after stages are these."""
    teacher = config.teacher
    if teacher is not None:
        teacher = replace(teacher, model=models.get(teacher.model, teacher.model))
    return replace(config, model=models.get(config.model, config.model), teacher=teacher)
