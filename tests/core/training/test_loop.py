"""The training loop: resuming, checkpoints, runs that must stop."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from noise_task import Frames, InterruptedRunError, Network, Noise, StopsAt, config
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd3d_core.errors import DataError, WeightsError
from kd3d_core.training import checkpoint, checkpoint_meta
from kd3d_core.training.loop import TrainingError, train
from kd3d_core.training.task import Score


@pytest.mark.parametrize("steps", [1, 5, 8, 11])
def test_an_interrupted_run_ends_bit_for_bit_like_one_that_was_not(tmp_path, steps):
    whole = train(config(tmp_path / "whole"), Noise())
    torch.manual_seed(1)
    task = Noise(StopsAt(steps))
    with pytest.raises(InterruptedRunError):
        train(config(tmp_path / "parts"), task)
    rest = train(config(tmp_path / "parts"), Noise())
    assert (rest.steps, rest.losses, rest.metrics) == (16, whole.losses, whole.metrics)
    for name in ("latest", "best"):
        one, other = (
            (tmp_path / run / name / "model.safetensors").read_bytes() for run in ("whole", "parts")
        )
        assert one == other


def test_a_run_that_is_finished_takes_no_more_steps(tmp_path):
    train(config(tmp_path), Noise())
    before = (tmp_path / "latest" / "model.safetensors").read_bytes()
    again = train(config(tmp_path), Noise())
    assert again.steps == 16
    assert (tmp_path / "latest" / "model.safetensors").read_bytes() == before


def test_what_a_run_leaves(tmp_path):
    summary = train(config(tmp_path), Noise())
    meta = json.loads((tmp_path / "latest" / "meta.json").read_text())
    assert meta["step"] == summary.steps == 16
    assert meta["metrics"] == summary.metrics
    assert meta["config"]["optimizer"]["lr"] == 1e-2
    assert (tmp_path / "config.yaml").is_file()
    assert (tmp_path / "exported").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".new", ".old")]


def test_loss_that_is_not_finite_stops_the_run_and_names_the_frames(tmp_path):
    class Breaks(Network):
        def forward(self, batch):
            named = super().forward(batch)
            return {"square": named["square"] * (torch.nan if "frame7" in batch.names else 1)}

    with pytest.raises(TrainingError, match="frame7"):
        train(config(tmp_path), Noise(Breaks()))
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize("clip", [0.0, 10.0])
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_take_it(tmp_path, clip):
    class Breaks(Network):
        def forward(self, batch):
            value = super().forward(batch)["square"]
            if "frame7" in batch.names:
                value.register_hook(lambda gradient: gradient * torch.inf)
            return {"square": value}

    settings = config(tmp_path, checkpoint_every=1)
    settings = replace(settings, optimizer=replace(settings.optimizer, clip=clip))
    with pytest.raises(TrainingError, match=r"the gradient is not finite for .*frame7"):
        train(settings, Noise(Breaks()))
    latest = checkpoint_meta.find(tmp_path / "latest")
    if latest is not None:
        assert all(v.isfinite().all() for v in checkpoint.validated_weights(latest).values())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_frame_that_cant_be_read_is_one_line(tmp_path, workers):
    class Damaged(Frames):
        def __getitem__(self, index):
            if index == 7:
                raise DataError("frame7.bin: 3 bytes too many: fetch it again")
            return super().__getitem__(index)

    task = Noise()
    task.samples = Damaged()
    with pytest.raises(DataError) as caught:
        train(config(tmp_path, workers=workers), task)
    assert str(caught.value) == "frame7.bin: 3 bytes too many: fetch it again"


@pytest.mark.parametrize(
    ("function", "error"),
    [("save_file", SafetensorError("IO error: No space left on device")),
     ("torch.save", RuntimeError("[enforce fail at inline_container.cc]\nunexpected pos"))],
)  # fmt: skip
def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    tmp_path, monkeypatch, function, error
):
    def full(*_, **__):
        raise error

    network = Network()
    checkpoint.save(tmp_path / "latest", network, {"step": 3}, {"step": 3})
    monkeypatch.setattr(f"kd3d_core.training.checkpoint.{function}", full)
    with pytest.raises(DataError, match="can't be written") as caught:
        checkpoint.save(tmp_path / "latest", network, {"step": 4}, {"step": 4})
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
    assert checkpoint.load(checkpoint_meta.find(tmp_path / "latest"), Network())["step"] == 3


def test_an_epoch_without_any_loss_stops_the_run(tmp_path):
    class Silent(Network):
        def forward(self, batch):
            return {"square": super().forward(batch)["square"] * 0}

    with pytest.raises(TrainingError, match="no annotation"):
        train(config(tmp_path), Noise(Silent()))


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    train(config(tmp_path), Noise())
    weights = tmp_path / "latest" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="delete it to start again"):
        train(config(tmp_path), Noise())


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    network = Network()
    checkpoint.save(tmp_path / "latest", network, {"step": 3}, {"step": 3})
    (tmp_path / "latest").rename(tmp_path / "latest.old")
    found = checkpoint_meta.find(tmp_path / "latest")
    assert checkpoint.load(found, Network())["step"] == 3
    checkpoint.save(tmp_path / "latest", network, {"step": 4}, {"step": 4})
    assert checkpoint.load(checkpoint_meta.find(tmp_path / "latest"), Network())["step"] == 4


class Scored(Noise):
    """Says what it is told to at each validation, and remembers which step it exported."""

    scores = (Score("AP"), Score("loose"))

    def __init__(self, metrics: list[dict[str, float]]) -> None:
        super().__init__()
        self.metrics = metrics
        self.exported: list[int] = []

    def validate(self, model, device) -> dict[str, float]:
        answer = self.metrics.pop(0)
        if answer is None:
            raise DataError("a label can't be read")
        return answer

    def export(self, model, out) -> None:
        self.exported.append(len(self.metrics))


@pytest.mark.parametrize(
    ("metrics", "best", "why"),
    [
        ([{"AP": 0.0, "loose": 0.0}] * 4, 4, "the newest"),
        ([{}] * 4, 4, "the newest"),
        ([{"AP": 0.0, "loose": v} for v in (1.0, 7.0, 3.0, 2.0)], 2, "highest loose, 7; AP"),
        ([{"AP": v, "loose": 9 - v} for v in (1.0, 2.0, 3.0, 2.0)], 3, "highest AP, 3"),
        ([{"AP": v} for v in (5.0, 5.0, 5.0, 4.0)], 3, "highest AP, 5"),
    ],
)
def test_the_best_weights_are_exported_and_it_says_why(tmp_path, metrics, best, why):
    task = Scored(list(metrics))
    summary = train(config(tmp_path, validate_every=1), task)
    assert task.exported[-1] == 4 - best
    assert summary.exported.startswith(f"step {4 * best} of 16: {why}")
    assert json.loads((tmp_path / "best" / "meta.json").read_text())["step"] == 4 * best


def test_a_validation_that_fails_loses_no_step_and_is_made_up_for(tmp_path):
    task = Scored([{"AP": 1.0}, None])
    with pytest.raises(DataError, match="a label can't be read"):
        train(config(tmp_path), task)
    meta = json.loads((tmp_path / "latest" / "meta.json").read_text())
    assert (meta["step"], meta["validated"]) == (16, 8)
    again = Scored([{"AP": 2.0}])
    summary = train(config(tmp_path), again)
    assert (summary.steps, summary.metrics, again.metrics) == (16, {"AP": 2.0}, [])
    assert train(config(tmp_path), Scored([])).metrics == {"AP": 2.0}


def test_the_best_of_another_run_does_not_count(tmp_path):
    train(config(tmp_path, validate_every=1), Scored([{"AP": 9.0}] * 4))
    shutil.rmtree(tmp_path / "latest")
    task = Scored([{"AP": v} for v in (1.0, 2.0, 3.0, 2.0)])
    summary = train(config(tmp_path, validate_every=1), task)
    assert summary.exported.startswith("step 12 of 16: highest AP, 3")


def test_what_a_kill_between_the_two_renames_left_is_validated_in_its_place(tmp_path):
    with pytest.raises(DataError, match="a label can't be read"):
        train(config(tmp_path), Scored([{"AP": 1.0}, None]))
    (tmp_path / "latest").rename(tmp_path / "latest.old")
    assert train(config(tmp_path), Scored([{"AP": 2.0}])).metrics == {"AP": 2.0}
    assert train(config(tmp_path), Scored([])).metrics == {"AP": 2.0}


@pytest.mark.parametrize("folder", ["latest", "best"])
@pytest.mark.parametrize(
    "change",
    [{"metrics": None}, {"metrics": [1]}, {"losses": {"a": "b"}}, {"config": []}, {"step": "3"},
     {"digests": "none"}],
)  # fmt: skip
def test_an_edited_meta_file_is_one_line(tmp_path, folder, change):
    train(config(tmp_path), Noise())
    path = tmp_path / folder / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=r"meta\.json has .*delete it to start again"):
        train(config(tmp_path), Noise())


def test_gradients_are_clipped_to_their_norm(tmp_path):
    """To the norm that was asked for; 0 leaves them as they are."""

    class Steep(Network):
        def forward(self, batch):
            return {"square": 1e4 * super().forward(batch)["square"]}

    def run(clip: float) -> float:
        settings = config(tmp_path / str(clip), epochs=1)
        settings = replace(settings, optimizer=replace(settings.optimizer, clip=clip))
        task = Noise(Steep())
        train(settings, task, max_steps=1)
        return float(torch.stack([p.grad.norm() for p in task.model.parameters()]).norm())

    norms = [run(clip) for clip in (0.0, 2.0, 0.5)]
    assert norms[0] > 100
    assert norms[1:] == pytest.approx([2.0, 0.5], rel=1e-4)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_rises_and_falls(tmp_path, schedule):
    settings = config(tmp_path)
    settings = replace(
        settings, optimizer=replace(settings.optimizer, schedule=schedule, warmup=0.25)
    )
    train(settings, Noise())
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rates = [event.value for event in events.Scalars("lr")]
    assert len(rates) == 16
    peak = rates.index(max(rates))
    assert 2 <= peak <= 4
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.6 * max(rates)
    assert rates[-1] < 0.05 * max(rates)


@pytest.mark.parametrize(
    "change",
    [
        {"step": -5},
        {"step": "3"},
        {"step": float("nan")},
        {"step": 10**6},
        {"step": 7},
        {"optimizer": {}},
        {"schedule": None},
        {"schedule": {"last_epoch": "10", "_step_count": 11}},
        {"average": {"nothing": 1}},
        {"average": {"module.layers.1.bias": torch.tensor([torch.nan])}},
        {"random": []},
    ],
)
def test_an_edited_checkpoint_is_refused_in_one_line(tmp_path, change):
    train(config(tmp_path), Noise())
    path = tmp_path / "latest" / "state.pt"
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(WeightsError, match="delete it to start again") as caught:
        train(config(tmp_path), Noise())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_of_a_schedule_only_its_place_is_read(tmp_path, schedule):
    settings = config(tmp_path / "run", checkpoint_every=1)
    settings = replace(settings, optimizer=replace(settings.optimizer, schedule=schedule))
    whole = train(replace(settings, out=str(tmp_path / "whole")), Noise())
    with pytest.raises(InterruptedRunError):
        train(settings, Noise(StopsAt(6)))
    path = tmp_path / "run" / "latest" / "state.pt"
    state = torch.load(path, weights_only=True)
    of_schedule = state["schedule"]
    for part in (of_schedule, *of_schedule.get("_schedulers", ())):
        part |= {"total_steps": "many", "T_max": 0, "_schedule_phases": [], "base_lrs": None,
                 "_last_lr": 3, "get_lr": None}  # fmt: skip
    torch.save(state, path)
    assert train(settings, Noise()).losses == whole.losses


def test_weights_that_are_not_finite_are_not_gone_on_with(tmp_path):
    train(config(tmp_path), Noise())
    path = tmp_path / "latest" / "model.safetensors"
    tensors = load_file(path)
    tensors["layers.1.bias"][3] = torch.nan
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"layers\.1\.bias is not finite"):
        train(config(tmp_path), Noise())


def test_a_folder_that_cant_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written") as caught:
        train(config(tmp_path / "file" / "run"), Noise())
    assert "\n" not in str(caught.value)


class Harmful:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_nothing_but_tensors_is_unpickled(tmp_path, capsys):
    train(config(tmp_path), Noise())
    for harmful in ({"step": 16, "more": Harmful()}, Harmful()):
        torch.save(harmful, tmp_path / "latest" / "state.pt")
        with pytest.raises(WeightsError, match="delete it to start again"):
            train(config(tmp_path), Noise())
        with pytest.raises(WeightsError, match="delete it to start again"):
            checkpoint.validated_weights(tmp_path / "latest")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_averaged_weights_are_those_that_count(tmp_path, ema):
    settings = config(tmp_path)
    train(replace(settings, optimizer=replace(settings.optimizer, ema=ema)), Noise())
    found = checkpoint.validated_weights(tmp_path / "latest")
    assert found.keys() == Network().state_dict().keys()
    best = load_file(tmp_path / "best" / "model.safetensors")
    last = load_file(tmp_path / "latest" / "model.safetensors")
    weight = "layers.1.weight"
    assert torch.equal(found[weight], last[weight]) == (ema == 0)
    if json.loads((tmp_path / "best" / "meta.json").read_text())["step"] == 16:
        assert torch.equal(found[weight], best[weight])
