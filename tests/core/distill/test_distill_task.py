"""From a configuration to a distilled student: which frames teach, what a run leaves."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_detector import small_lite, student_task
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.detectors.build import load_detector, random_detector
from kd3d_core.distill.config import DistillConfig, FeatureConfig, LogitConfig, TeacherConfig
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig, load_train_config
from kd3d_core.training.data import TrainingSet, frames_to_learn_from
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task
from kd3d_core.weights import resolve

SETTINGS = DistillConfig()


def config(root, **changes) -> TrainConfig:
    base = TrainConfig(
        task="distill",
        model="lite",
        teacher=TeacherConfig("lite"),
        points="pseudo",
        data=DataConfig(str(root)),
        out=str(root.parent / "run"),
        epochs=2,
        batch_size=2,
        workers=0,
        precision="fp32",
        optimizer=OptimizerConfig(lr=1e-3),
    )
    return replace(base, **changes)


class TestFrames:
    def test_what_teaches_nothing_in_a_phase_is_refused(self, write_frame):
        write_frame("000000")
        part = TrainingSet(KittiDataset(write_frame("000001", labels=None)))
        by_answers = replace(SETTINGS, unlabelled="answers")
        assert len(frames_to_learn_from(part, by_answers)) == 2
        labels_alone = replace(by_answers, phases=(Phase(2, {"det": 1.0}), *SETTINGS.phases))
        with pytest.raises(ConfigError, match="1 of 2 frames have no labels"):
            frames_to_learn_from(part, labels_alone)
        assert len(frames_to_learn_from(part, replace(labels_alone, unlabelled="boxes"))) == 2

    def test_frames_that_lack_something_are_counted(self, write_frame, caplog):
        caplog.set_level(logging.INFO)
        write_frame("000000")
        write_frame("000001", labels=None)
        write_frame("000002", labels="", lidar=False)
        root = write_frame("000003", labels=None, lidar=False)
        used = frames_to_learn_from(TrainingSet(KittiDataset(root)), SETTINGS)
        assert used.names == ("000000", "000001", "000002")
        assert (
            "1 of 4 frames have neither LiDAR nor labels and are skipped (first: 000003)"
            in caplog.text
        )
        assert (
            "1 of 4 frames have no LiDAR and are used without the teacher (first: 000002)"
            in caplog.text
        )
        assert (
            "3 frames: 2 with labels, 2 with LiDAR; the teacher's boxes are the labels of 1"
            in caplog.text
        )

    def test_frames_without_lidar_are_skipped_by_setting(self, write_frame, caplog):
        write_frame("000000", labels=None)
        write_frame("000001", lidar=False)
        root = write_frame("000002", lidar=False)
        used = frames_to_learn_from(
            TrainingSet(KittiDataset(root)), replace(SETTINGS, without_lidar="skip")
        )
        assert used.names == ("000000",)
        assert "2 of 3 frames have no LiDAR and are skipped (first: 000001)" in caplog.messages

    def test_either_lidar_folder_will_do(self, write_frame):
        write_frame("000000")
        root = write_frame("000001")
        (root / "velodyne_reduced").mkdir()
        (root / "velodyne" / "000001.bin").rename(root / "velodyne_reduced" / "000001.bin")
        assert len(frames_to_learn_from(TrainingSet(KittiDataset(root)), SETTINGS)) == 2

    def test_without_any_lidar_there_is_nothing_to_see(self, write_frame):
        root = write_frame("000000", lidar=False)
        with pytest.raises(DataError, match="none of the 1 frames has LiDAR"):
            frames_to_learn_from(TrainingSet(KittiDataset(root)), SETTINGS)

    def test_a_frame_must_teach_something_in_every_phase(self, write_frame):
        write_frame("000000")
        root = write_frame("000001", lidar=False)
        features_first = replace(
            SETTINGS, phases=(Phase(5, {"det": 0.0, "feat": 1.0}), Phase(9, {"det": 1.0}))
        )
        with pytest.raises(ConfigError, match="without_lidar to skip"):
            frames_to_learn_from(TrainingSet(KittiDataset(root)), features_first)
        skip = replace(features_first, without_lidar="skip")
        assert len(frames_to_learn_from(TrainingSet(KittiDataset(root)), skip)) == 1


class TestConfiguration:
    def write(self, path, **changes):
        values = {
            "task": "distill", "model": "lite", "teacher": {"model": "lite"},
            "data": {"root": "data"}, "out": "runs/x", **changes,
        }  # fmt: skip
        path.write_text(yaml.safe_dump(values))
        return path

    def test_phases_are_data(self, tmp_path):
        phases = [
            {"until_epoch": 3, "weights": {"det": 1, "feat": 2}},
            {"until_epoch": 9, "weights": {"det": 0.5}, "ramp_epochs": 1.5},
        ]
        distill = {"phases": phases, "feature": {"places": ["voxels", "neck"]}}
        found = load_train_config(self.write(tmp_path / "x.yaml", distill=distill)).distill
        assert found.phases == (
            Phase(3, {"det": 1.0, "feat": 2.0}),
            Phase(9, {"det": 0.5}, ramp_epochs=1.5),
        )
        assert found.feature == FeatureConfig(("voxels", "neck"))
        assert found.logit == LogitConfig()

    def test_phases_of_older_versions_are_understood(self, tmp_path):
        phases = [{"until_epoch": 3, "feat": 2}, {"until_epoch": 9, "ramp_epochs": 1.5}]
        path = self.write(tmp_path / "x.yaml", distill={"phases": phases})
        assert load_train_config(path).distill.phases == (
            Phase(3, {"det": 1.0, "feat": 2.0, "logit": 0.0}),
            Phase(9, {"det": 1.0}, ramp_epochs=1.5),
        )

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"teacher": None}, "needs a teacher"),
            ({"task": "detector"}, "takes no teacher"),
            ({"distill": {"feature": {"places": ["roof"]}}}, "roof"),
            ({"distill": {"feature": {"places": []}}}, "name one or more"),
            ({"distill": {"logit": {"temperature": 0}}}, "temperature is 0"),
            ({"distill": {"phases": []}}, "phases is empty"),
            ({"distill": {"phases": [{"until_epoch": 2, "weights": {"fest": 1}}]}}, "fest"),
            ({"distill": {"label_score": 1.5}}, "label_score is 1.5"),
        ],
    )
    def test_wrong_settings_are_one_line(self, tmp_path, changes, reason):
        with pytest.raises(ConfigError, match=reason) as caught:
            load_train_config(self.write(tmp_path / "x.yaml", **changes))
        assert "\n" not in str(caught.value)


class TestRuns:
    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))

    def test_recordings_without_labels_train_a_student(self, write_frame, tmp_path, caplog):
        for name in ("000000", "000001", "000002"):
            root = write_frame(name, labels=None)
        model = load_model_config("lite")
        window = WindowConfig((64, 208), "crop", 120.0)
        model = replace(model, detector=replace(model.detector, window=window))
        phases = (
            Phase(1, {"det": 1.0, "feat": 2.0, "logit": 1.0}),
            Phase(2, {"det": 3.0, "feat": 1.5, "logit": 1.5}),
            Phase(9, {"det": 1.0}),
        )
        settings = replace(SETTINGS, phases=phases, start="model", label_score=0.4)
        wanted = config(root, distill=settings)
        teacher = small_lite(1)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        frames = KittiDataset(root)
        task = student_task(wanted, model, teacher, frames)
        summary = train(wanted, task)
        assert summary.steps == 4
        assert "the last phase begins at epoch 2 and the run has 2" in caplog.text
        assert {name.split("_")[0] for name, value in summary.losses.items() if value} == {
            "det", "feat", "logit"
        }  # fmt: skip
        assert "no validation frame has labels: the teacher's boxes stand for them" in caplog.text
        assert "mAP_3d_moderate" in summary.metrics
        assert "step 4 of 4" in summary.exported
        assert all(torch.equal(before[name], v) for name, v in teacher.state_dict().items())

        out = tmp_path / "run"
        exported = load_tensors_of(out)
        trained = task.model.student.network.state_dict()
        assert all(torch.equal(trained[name], value) for name, value in exported.items())
        assert exported.keys() == trained.keys()
        meta = json.loads((out / "latest" / "meta.json").read_text())
        assert meta["config"]["distill"]["phases"][1]["weights"]["det"] == 3.0
        stored = load_file(out / "latest" / "model.safetensors")
        assert {name.split(".")[0] for name in stored} == {"student", "parts"}
        curves = EventAccumulator(str(out / "tensorboard")).Reload()
        for name, expected in (("det", [1, 3]), ("feat", [2, 1.5]), ("logit", [1, 1.5])):
            assert [event.value for event in curves.Scalars(f"weight/{name}")] == expected
        assert train(wanted, task).steps == 4  # nothing is left to do, and nothing differs
        other = student_task(wanted, model, small_lite(2), frames)
        with pytest.raises(ConfigError, match="the teacher lite has other weights than it had"):
            train(wanted, other)

    def test_thresholds_are_chosen_on_the_boxes_of_the_teacher(
        self, write_frame, tmp_path, monkeypatch
    ):
        root = write_frame("000000", labels=None)
        model = load_model_config("lite")
        task = student_task(config(root), model, small_lite(1), KittiDataset(root))
        car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "test")
        monkeypatch.setattr(task, "_teacher_boxes", {"000000": [car]})
        found = {"000000": [replace(car, score=0.6)]}
        monkeypatch.setattr(task._val, "detect", lambda *_: found)
        task.validate(task.model, torch.device("cpu"))
        task.export(task.model, tmp_path)
        card = load_model_config(tmp_path / "model.yaml").card
        assert card.score_thresholds == {"Car": 0.01}
        assert card.thresholds_from.endswith("1 frames with boxes of the teacher")

    def test_projectors_are_drawn_from_the_seed(self, write_frame):
        root = write_frame("000000")
        model = load_model_config("lite")
        frames = KittiDataset(root)

        def projectors(seed: int) -> torch.Tensor:
            task = student_task(config(root, seed=seed), model, small_lite(1), frames)
            return task.model.parts["feat"].projectors["neck"][0].weight

        first = projectors(1)
        torch.rand(7)
        before = torch.get_rng_state()
        assert torch.equal(projectors(1), first)
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(projectors(2), first)

    def test_validation_is_against_labels_where_there_are_any(self, write_frame):
        write_frame("000000", labels=None)
        root = write_frame("000001")
        model = load_model_config("lite")
        frames = KittiDataset(root)
        task = student_task(config(root), model, small_lite(0), frames)
        asked = []
        task.model.teacher.detector.register_forward_pre_hook(lambda *_: asked.append(1))
        metrics = task.validate(task.model.eval(), torch.device("cpu"))
        assert metrics.keys() >= {"mAP_3d_moderate", "Car_3d", "Car_bev"}
        assert not asked

    def test_a_student_that_reads_lidar_needs_it_everywhere(self, write_frame):
        write_frame("000000")
        root = write_frame("000001", lidar=False)
        model, frames = load_model_config("lite"), KittiDataset(root)
        wanted = config(root, points="lidar")
        with pytest.raises(DataError, match=r"000001"):
            student_task(wanted, model, small_lite(0), frames)
        wanted = replace(wanted, distill=replace(SETTINGS, without_lidar="skip"))
        with pytest.raises(DataError, match=r"000001"):  # to validate on
            student_task(wanted, model, small_lite(0), frames)

    def test_validation_needs_labels_or_lidar(self, write_frame, tmp_path):
        root = write_frame("000000")
        model, frames = load_model_config("lite"), KittiDataset(root)
        shutil.copytree(root, tmp_path / "blind")
        for part in ("label_2", "velodyne"):
            shutil.rmtree(tmp_path / "blind" / part)
        blind = KittiDataset(tmp_path / "blind")
        with pytest.raises(DataError, match="none of the 1 frames to validate on has labels or"):
            student_task(config(root), model, small_lite(0), frames, blind)

    @pytest.mark.slow
    def test_from_a_configuration(self, write_frame, tmp_path):
        """As `kd3d-train` does it, with models of full size and pseudo-LiDAR."""
        for name in ("000000", "000001"):
            root = write_frame(name, labels=None)
        weights = tmp_path / "teacher.pth"
        taught = load_model_config("lite").detector
        torch.save(random_detector(taught, 3).network.state_dict(), weights)
        wanted = config(root, epochs=1, teacher=TeacherConfig("lite", str(weights)))
        task = make_task(wanted)
        assert isinstance(task.model, Distiller)
        teacher = task.model.teacher.detector.state_dict()
        student = {name: value.clone() for name, value in task.model.student.state_dict().items()}
        assert all(torch.equal(teacher[name], value) for name, value in student.items())
        assert train(wanted, task).steps == 1
        exported = load_model_config(tmp_path / "run" / "model.yaml").detector
        trained = load_detector(resolve(exported.weights), exported).state_dict()
        assert any(not torch.equal(student[name], value) for name, value in trained.items())


def load_tensors_of(out) -> dict[str, torch.Tensor]:
    """What a run exported, by the model that names it."""
    return load_file(resolve(load_model_config(out / "model.yaml").detector.weights))
