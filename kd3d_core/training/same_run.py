"""Whether a checkpoint belongs to the run that is to go on: known before torch is loaded."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd3d_core.errors import ConfigError
from kd3d_core.training import checkpoint_meta
from kd3d_core.training.config import TrainConfig, make_train_config

Digests = dict[str, str]
"""Of what a run depends on besides its settings: `model` (the settings of the network in training),
`points`, `teacher`."""

_MAY_CHANGE = {
    "out", "workers", "threads", "precision", "validate_every", "checkpoint_every", "teacher.cache",
}  # fmt: skip
"""Settings that may change while a run is interrupted."""

_CHANGED = {
    "model": "{model} has other settings than it had",
    "points": "the depth network of {model} or its settings aren't those of before",
    "teacher": "the teacher {teacher} has other weights than it had",
    "sets": "the folders of data.extra hold other numbers of frames than they did",
}
"""What to say of a digest that differs."""


def check_settings(config: TrainConfig) -> None:
    """Refuse to go on with a run in `config.out` that has other settings.

    What `check_same_run` does, as far as it can be told before models and data are there.
    """
    latest = checkpoint_meta.find(Path(config.out) / "latest")
    if latest is not None:
        meta = checkpoint_meta.read_meta(latest)
        frames, processes = meta.get("frames", 0), meta["processes"]
        check_same_run(latest, meta, config, frames, processes, recorded_digests(meta))


def check_same_run(
    folder: Path,
    meta: Mapping[str, Any],
    config: TrainConfig,
    frames: int,
    processes: int,
    digests: Digests,
) -> None:
    """Refuse to go on with a run under other settings: its end would be that of neither.

    How often to validate and to write checkpoints, the precision, the number of workers and
    threads, the run's folder and whether the teacher's answers are cached may change. Digests that
    the checkpoint `folder`, of which `meta` is, doesn't know are not compared. `ConfigError` names
    what differs, and how to start anew.
    """
    old = _flat(asdict(make_train_config(meta.get("config", {}), folder)))
    new = _flat(asdict(config))
    for name, now in (("frames", frames), ("processes", processes)):
        old[f"number of {name}"], new[f"number of {name}"] = meta.get(name), now
    keys = [key for key in {**old, **new} if key not in _MAY_CHANGE]
    changed = [
        f"{key} is {new.get(key)} and was {old.get(key)}"
        for key in keys
        if old.get(key) != new.get(key)
    ]
    known = recorded_digests(meta)
    for name, text in _CHANGED.items():
        if name in known and name in digests and known[name] != digests[name]:
            teacher = config.teacher.name if config.teacher is not None else ""
            changed.append(text.format(model=config.model, teacher=teacher))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ConfigError(
            f"{folder} belongs to another run: {', '.join(changed[:3])}{more}; set that back to "
            f"go on, or give another `out` to start anew (with model: {folder.parent}/model.yaml "
            "to start from its weights)"
        )


def recorded_digests(meta: Mapping[str, Any]) -> Digests:
    """Those in a checkpoint's `meta.json`; none of what older runs didn't write down."""
    found = meta.get("digests") or {"teacher": meta.get("teacher_sha256")}
    return {name: value for name, value in found.items() if value is not None}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
