"""Two processes of a distillation, over gloo, against one with the frames of both."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_distiller import ALL, batch, distiller, only
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from kd3d_core.data.batch import Batch
from kd3d_core.distill.config import DistillConfig, FeatureConfig
from kd3d_core.training.sync_norms import share_norms

pytestmark = pytest.mark.slow  # each process imports all there is

CONFIGS = {
    "all parts": ALL,
    "a head that rests": only(feat=1.0, feature=FeatureConfig(("voxels", "neck"), background=0.3)),
}


def frame(whole: Batch, row: int) -> Batch:
    """One frame of a batch."""
    mine, taught = whole.samples == row, whole.teacher_samples == row
    return replace(
        whole,
        names=whole.names[row : row + 1],
        images=whole.images[row : row + 1],
        image_from_lidar=whole.image_from_lidar[row : row + 1],
        points=whole.points[mine],
        samples=whole.samples[mine] - row,
        boxes=whole.boxes[row : row + 1],
        labels=whole.labels[row : row + 1],
        teacher_points=whole.teacher_points[taught],
        teacher_samples=whole.teacher_samples[taught] - row,
        has_teacher=whole.has_teacher[row : row + 1],
        labelled=whole.labelled[row : row + 1],
    )


def frames() -> list[Batch]:
    """Both frames are taught; or the first has no LiDAR, so that its process has no teacher."""
    return [batch(), batch(taught=(False, True))]


def gradients(module: torch.nn.Module, step: Batch) -> dict[str, torch.Tensor]:
    module.zero_grad()
    sum(module(step).values()).backward()
    return {
        name.removeprefix("module."): parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    found = {}
    for name, config in CONFIGS.items():
        module = share_norms(distiller(config).train(), torch.device("cpu"))
        wrapped = DistributedDataParallel(module, find_unused_parameters=module.has_idle_parameters)
        found[name] = [gradients(wrapped, frame(whole, rank)) for whole in frames()]
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def expected(config: DistillConfig) -> list[dict[str, torch.Tensor]]:
    module = distiller(config).train()
    return [gradients(module, whole) for whole in frames()]


def test_two_processes_have_the_gradients_of_one_with_the_double_batch(tmp_path):
    """The second batch leaves one process without anything for its teacher to see."""
    assert [distiller(config).has_idle_parameters for config in CONFIGS.values()] == [False, True]
    multiprocessing.spawn(in_process, (str(tmp_path),), nprocs=2)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, config in CONFIGS.items():
        for step, wanted in enumerate(expected(config)):
            for found in both:
                assert_same(found[name][step], wanted, (name, step))


def assert_same(
    found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], where: tuple[str, int]
) -> None:
    """By norms: batch norms before this training's start amplify single precision's rounding, as
    the other order of the two frames in one batch shows, and biases before them have none."""
    assert found.keys() >= wanted.keys()
    largest = max(gradient.norm() for gradient in wanted.values())
    for name, gradient in wanted.items():
        difference = (found[name] - gradient).norm()
        assert difference <= 0.02 * gradient.norm() + 1e-4 * largest, (*where, name)
