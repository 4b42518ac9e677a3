"""What each process of `test_processes.py` does; started by torchrun, with a frame for each.

process_jobs.py OUT STREET MODEL
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from noise_task import InterruptedRunError, Network, Noise, StopsAt, config

from kd3d_core.data.batch import Batch
from kd3d_core.distill.config import DistillConfig, FeatureConfig, TeacherConfig
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import Teacher
from kd3d_core.errors import ConfigError
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig
from kd3d_core.training.loop import TrainingError, train
from kd3d_core.training.processes import leave_group
from kd3d_core.training.tasks import make_task

RANK = int(os.environ.get("RANK", "0"))


class BreaksAtFrame7(Network):
    """Its loss is not finite in the one process that has that frame."""

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        named = super().forward(batch)
        return {"square": named["square"] * (torch.nan if "frame7" in batch.names else 1)}


def in_double(batch: Batch) -> Batch:
    """What the networks read in double precision; points pass as they are but in type."""
    return replace(
        batch,
        images=batch.images.double(),
        image_from_lidar=batch.image_from_lidar.double(),
        points=batch.points.double(),
        teacher_points=None if batch.teacher_points is None else batch.teacher_points.double(),
    )


DISTILL = DistillConfig(
    phases=(Phase(1, {"det": 1.0, "feat": 2.0, "logit": 1.5}),),
    feature=FeatureConfig(("neck",)),
    label_score=0.3,
    start="model",
)


def first_gradients(job: str, out: Path, street: str, model: str, batch_size: int) -> None:
    """One step of the real loop on two frames, in all processes together."""
    distilled = job in ("live", "cached")
    wanted = TrainConfig(
        task="distill" if distilled else job,
        model=model,
        data=DataConfig(root=street, train=str(out / "two.txt")),
        out=str(out / f"run_{job}"),
        batch_size=batch_size,
        workers=0,
        precision="fp32",
        optimizer=OptimizerConfig(clip=0),
        teacher=TeacherConfig(str(out / "teacher.yaml"), cache=job == "cached")
        if distilled
        else None,
        distill=DISTILL if distilled else None,
    )
    task = make_task(wanted)
    for module in task.model.modules():
        if type(module).__name__ == "GlpnDropPath":
            module.drop_prob = 0.0  # each process draws its own
    if job != "depth":
        # In single precision the sums of two processes round differently from those of one, and a
        # ReLU over the many equal, empty pillars then opens or closes for all of them.
        task.model.double()
        task.model.register_forward_pre_hook(lambda _, inputs: (in_double(inputs[0]),))
        if job == "live":
            assert isinstance(task.model.teacher, Teacher)
            task.model.teacher.detector.double()
    summary = train(wanted, task, max_steps=1)
    state = {
        "losses": summary.losses,
        "gradients": {name: p.grad for name, p in task.model.named_parameters()},
        "buffers": dict(task.model.named_buffers()),
    }
    torch.save(state, out / f"{job}_{RANK}.pt")


def all_gradients(out: Path, street: str, model: str, batch_size: int) -> None:
    """Of a step of each task."""
    first_gradients("depth", out, street, model, batch_size)
    first_gradients("detector", out, street, model, batch_size)
    for job in ("live", "cached"):
        first_gradients(job, out, str(out / "street"), model, batch_size)


def whole_run(out: Path) -> None:
    """Process 1 has a folder of its own: what it writes, if anything, is seen there."""
    folder = out / ("whole" if RANK == 0 else "whole_of_process_1")
    summary = train(config(folder, sync_norms=False), Noise())
    _report(out, "whole", [summary.losses, summary.metrics])


def run_in_two_parts(out: Path) -> None:
    """Interrupted after step 3, then gone on with."""
    try:
        train(config(out / "parts", sync_norms=False), Noise(StopsAt(3)))
    except InterruptedRunError:
        summary = train(config(out / "parts", sync_norms=False), Noise())
        _report(out, "parts", [summary.losses, summary.metrics])


def run_without_a_common_disk(out: Path) -> None:
    """Only one process finds the checkpoint that the first part of the run wrote."""
    folder = out / f"disk{RANK}"
    try:
        train(config(folder, sync_norms=False), Noise(StopsAt(3)))
    except InterruptedRunError:
        try:
            train(config(folder, sync_norms=False), Noise())
        except ConfigError as error:
            _report(out, "disks", str(error))


def broken_run(out: Path) -> None:
    """One process meets a loss that is not finite."""
    try:
        train(config(out / "broken"), Noise(BreaksAtFrame7()))
    except TrainingError as error:
        _report(out, "broken", str(error))


def _report(out: Path, name: str, value: object) -> None:
    (out / f"{name}_{RANK}.json").write_text(json.dumps(value))


def main() -> None:
    out, street, model = Path(sys.argv[1]), *sys.argv[2:4]
    os.environ["KD3D_CACHE"] = str(out / "cache")
    all_gradients(out, street, model, batch_size=1)
    whole_run(out)
    run_in_two_parts(out)
    run_without_a_common_disk(out)
    broken_run(out)
    leave_group()


if __name__ == "__main__":
    main()
