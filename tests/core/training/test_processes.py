"""Two processes of a run, over gloo, against one with the frames of both."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from process_jobs import all_gradients
from safetensors.torch import save_file
from small_street import MODEL

from kd3d_core.detectors.build import random_detector
from kd3d_core.models.config import load_model_config

JOBS = Path(__file__).with_name("process_jobs.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
LIMIT_S = 600


def start(words: list[str], log: Path) -> subprocess.Popen:
    """A command of its own process group, on the CPU, whose words go to `log`."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        return subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


def wait(process: subprocess.Popen, log: Path) -> None:
    """Until it ends well; a hang is ended, and what it said is the failure."""
    try:
        status = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        status = f"hang of {LIMIT_S} s"
    assert status == 0, f"{status}: {log.read_text()}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, street, small_model) -> tuple[Path, Path]:
    """What two processes with one frame each wrote, and one with both frames."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    for out in (two, one):
        (out / "two.txt").write_text("000000\n000001\n")  # with one car and with four
        write_what_distills(out, street, small_model)
    words = [*TORCHRUN, str(JOBS), str(two), str(street), str(small_model)]
    running = start(words, two / "log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD3D_CACHE", str(one / "cache"))
        all_gradients(one, str(street), str(small_model), batch_size=2)
    wait(running, two / "log")
    return two, one


def write_what_distills(out: Path, street: Path, model: Path) -> None:
    """The street with one frame that has no labels, and a teacher for the model."""
    shutil.copytree(street, out / "street")
    (out / "street" / "training" / "label_2" / "000001.txt").unlink()
    network = random_detector(load_model_config(model).detector, 3).network
    save_file(network.state_dict(), out / "teacher.safetensors")
    taught_by = {**MODEL, "detector": {**MODEL["detector"], "weights": "./teacher.safetensors"}}
    (out / "teacher.yaml").write_text(yaml.safe_dump(taught_by))


@pytest.mark.parametrize(
    ("task", "tolerance"),
    # What a teacher says is compared in single precision.
    [("depth", 1e-4), ("detector", 1e-8), ("live", 1e-5), ("cached", 1e-5)],
)
def test_two_processes_have_the_gradients_of_one_with_the_double_batch(folders, task, tolerance):
    two, one = folders
    expected = torch.load(one / f"{task}_0.pt")
    assert sum(gradient.norm() > 0 for gradient in expected["gradients"].values()) > 50
    for rank in (0, 1):
        state = torch.load(two / f"{task}_{rank}.pt")
        assert state["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        assert state["gradients"].keys() == expected["gradients"].keys()
        for name, gradient in state["gradients"].items():
            wanted = expected["gradients"][name]
            distance = (gradient - wanted).norm() / (wanted.norm() + 1e-4)
            assert distance < tolerance, name
        for name, buffer in state["buffers"].items():
            torch.testing.assert_close(
                buffer, expected["buffers"][name], rtol=1e-4, atol=1e-5, msg=name
            )


def test_two_processes_fill_a_cache_together(folders):
    names = [
        sorted(path.name for path in (out / "cache" / "teacher").rglob("*.safetensors"))
        for out in folders
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 3 * 2  # two frames and the empty street; the neck and the head


def test_only_the_first_process_writes(folders):
    two, _ = folders
    assert (two / "whole" / "latest" / "model.safetensors").is_file()
    assert len(list((two / "whole" / "tensorboard").iterdir())) == 1
    assert not (two / "whole_of_process_1").exists()


def test_both_processes_report_the_same_losses_and_metrics(folders):
    two, _ = folders
    first, second = (json.loads((two / f"whole_{rank}.json").read_text()) for rank in (0, 1))
    assert first[0] == second[0]


def test_two_processes_go_on_bit_for_bit(folders):
    two, _ = folders
    whole, parts = (json.loads((two / f"{run}_0.json").read_text()) for run in ("whole", "parts"))
    assert whole == parts
    one, other = (
        (two / run / "latest" / "model.safetensors").read_bytes() for run in ("whole", "parts")
    )
    assert one == other


def test_a_checkpoint_that_not_all_processes_find_is_refused(folders):
    two, _ = folders
    for rank in (0, 1):
        reason = json.loads((two / f"disks_{rank}.json").read_text())
        assert "steps 2, 0" in reason
        assert "a disk that all machines share" in reason


def test_a_loss_that_is_not_finite_in_one_process_stops_both_with_the_reason(folders):
    two, _ = folders
    reasons = {json.loads((two / f"broken_{rank}.json").read_text()) for rank in (0, 1)}
    assert len(reasons) == 1
    assert "frame7" in reasons.pop()
