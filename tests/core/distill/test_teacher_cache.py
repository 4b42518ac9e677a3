"""A teacher's answers on disk: the same as live ones, made once, never stale."""

import gc
import logging
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_detector import SMALL, small_lite, student_task
from test_distill_task import config

from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.batch import Batch, collate
from kd3d_core.data.frame_inputs import lidar_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.photometric_config import PhotometricConfig
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.cache import CachedTeacher, TeacherCache
from kd3d_core.distill.config import DistillConfig, FeatureConfig, LogitConfig, TeacherConfig
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import Teacher, TeacherOutputs, check_fit
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config
from kd3d_core.training.caches import can_keep_answers
from kd3d_core.training.config import DataConfig, ExtraDataConfig
from kd3d_core.training.distill_task import DistillTask
from kd3d_core.training.loop import train

WINDOW = WindowConfig((64, 208), "crop", 120.0)
CONFIG = DetectorConfig("lite", "random", WINDOW)
ALL = DistillConfig(
    phases=(Phase(10, {"det": 1.0, "feat": 2.0, "logit": 1.5}),),
    feature=FeatureConfig(("voxels", "backbone", "neck"), background=0.5, empty=0.2),
    label_score=0.3,
)
DEVICE = torch.device("cpu")


@pytest.fixture
def frames(write_frame) -> KittiDataset:
    """With labels, without, and without LiDAR."""
    write_frame("000000")
    write_frame("000001", labels=None)
    return KittiDataset(write_frame("000002", lidar=False))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "teacher"


def cache_of(folder: Path, settings: DistillConfig = ALL, seed: int = 1) -> TeacherCache:
    return TeacherCache(folder, small_lite(seed), CONFIG, lidar_points, settings, DEVICE)


def filled(folder: Path, frames: KittiDataset, settings: DistillConfig = ALL) -> TeacherCache:
    cache = cache_of(folder, settings)
    cache.fill(frames, small_lite(1))
    return cache


def batch(frames: KittiDataset, **source) -> Batch:
    samples = FrameSamples(frames, WINDOW, lidar_points, CONFIG.classes, **source)
    return collate([samples[index] for index in range(len(frames))])


def both(frames: KittiDataset, folder: Path) -> tuple[TeacherOutputs, TeacherOutputs]:
    """Live and cached."""
    live = Teacher(small_lite(1), ALL.needs)(batch(frames, teacher_points=lidar_points))
    cache = filled(folder, frames)
    return live, cache.teacher()(batch(frames, teacher_answers=cache))


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


class TestAnswers:
    def test_are_the_live_ones_rounded(self, frames, folder):
        live, cached = both(frames, folder)
        seen = slice(0, 2)
        for place, maps in live.features.items():
            for ours, theirs in zip(cached.features[place], maps, strict=True):
                assert ours.dtype == torch.bfloat16
                spread = theirs.abs().max().item()
                torch.testing.assert_close(
                    ours[seen].float(), theirs[seen], rtol=2**-8, atol=1e-5 * spread
                )
        assert live.maps is not None
        assert cached.maps is not None
        logits = live.maps.logits[seen]
        torch.testing.assert_close(cached.maps.logits[seen].float(), logits, rtol=2**-10, atol=1e-3)
        sure = (logits.sigmoid() > ALL.logit.threshold).any(1, keepdim=True)
        assert 0 < int(sure.sum()) < sure.numel()
        for name in ("deltas", "directions"):
            ours, theirs = (getattr(maps, name)[seen] for maps in (cached.maps, live.maps))
            where = sure.expand_as(theirs)
            torch.testing.assert_close(ours[where].float(), theirs[where], rtol=2**-10, atol=1e-3)

    def test_cells_with_points_and_boxes_are_exact(self, frames, folder):
        live, cached = both(frames, folder)
        assert live.filled is not None
        assert cached.filled is not None
        assert torch.equal(cached.filled[:2], live.filled[:2])
        assert 0 < int(live.filled.sum()) < live.filled.numel()
        assert not cached.filled[2].any()
        assert live.boxes is not None
        assert cached.boxes is not None
        for row in range(2):
            ours, theirs = (
                [getattr(slots, name)[row][slots.valid[row]] for name in vars(slots)]
                for slots in (cached.boxes, live.boxes)
            )
            assert len(theirs[0])
            for our, their in zip(ours, theirs, strict=True):
                torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-4)

    def test_losses_and_gradients_are_those_of_a_live_teacher(self, frames, folder):
        cache = filled(folder, frames)
        channels = check_fit(small_lite(1), CONFIG, small_lite(0), CONFIG, ALL.needs.places)
        found = []
        for teacher, source in (
            (Teacher(small_lite(1), ALL.needs), {"teacher_points": lidar_points}),
            (cache.teacher(), {"teacher_answers": cache}),
        ):
            torch.manual_seed(3)
            module = Distiller(small_lite(0), teacher, channels, ALL).train()
            losses = module(batch(frames, **source))
            sum(losses.values()).backward()
            found.append((losses, module.parts["feat"].projectors["neck"][0].weight.grad))
        (live, live_gradient), (cached, cached_gradient) = found
        assert cached.keys() == live.keys()
        for name, value in live.items():
            assert value.item() > 0, name
            torch.testing.assert_close(cached[name], value, rtol=2**-8, atol=0)
        assert (cached_gradient - live_gradient).norm() < 2**-8 * live_gradient.norm()

    def test_a_frame_without_points_has_none(self, frames, folder):
        cache = filled(folder, frames)
        assert cache(frames[2]) is None
        whole = batch(frames, teacher_answers=cache)
        assert whole.has_teacher == (True, True, False)
        assert whole.teacher_answers is not None
        for name, joined in whole.teacher_answers.items():
            parts = joined.parts()
            assert parts[2].shape[-1] == 0
            for row in range(2):
                assert torch.equal(parts[row], cache(frames[row])[name])

    def test_only_cells_that_differ_from_an_empty_street_are_stored(self, frames, folder):
        stored = filled(folder, frames)(frames[0])
        assert stored is not None
        height, width = SMALL.shape[1:]
        assert len(stored["voxels.0.cells"]) == int((stored["filled.values"]).sum())
        assert 0 < len(stored["neck.0.cells"]) <= height * width // 4
        assert stored["neck.0.values"].shape == (128, len(stored["neck.0.cells"]))


class TestFiles:
    def test_are_made_once(self, frames, folder):
        assert cache_of(folder).fill(frames, small_lite(1)) == 2
        before = files(folder)
        assert len(before) == 3 * 4  # two frames and the empty street; three places and the head
        steps = []
        refused = small_lite(1)
        refused.forward_features = None  # would fail if it were asked
        assert cache_of(folder).fill(frames, refused, 1, lambda: steps.append(1)) == 0
        assert len(steps) == 3
        assert files(folder) == before

    def test_an_interrupted_filling_goes_on(self, frames, folder):
        class StopError(Exception):
            pass

        steps = []

        def stop_at_second() -> None:
            steps.append(1)
            if len(steps) == 2:
                raise StopError

        with pytest.raises(StopError):  # the frame without LiDAR is the first that is done
            cache_of(folder).fill(frames, small_lite(1), 1, stop_at_second)
        assert cache_of(folder).fill(frames, small_lite(1)) == 1

    def test_settings_share_what_they_have_in_common(self, frames, folder):
        neck = replace(ALL, feature=FeatureConfig(("neck",)))
        filled(folder, frames, neck)
        first = files(folder)
        filled(folder, frames)
        more = files(folder)
        assert first.items() <= more.items()
        assert {name.split(".")[1] for name in more.keys() - first.keys()} == {"voxels", "backbone"}
        filled(folder, frames, replace(neck, logit=LogitConfig(threshold=0.3)))
        assert {name.split(".", 1)[1] for name in files(folder).keys() - more.keys()} == {
            "head_0.3.safetensors"
        }

    @pytest.mark.parametrize("part", ["image_2", "calib", "velodyne"])
    def test_whatever_a_frame_s_answers_depend_on_makes_others(self, frames, folder, part):
        before = filled(folder, frames)(frames[0])
        path = frames[0].path(part)
        if part == "image_2":
            shutil.copy(frames[1].path(part), path)
        elif part == "calib":
            path.write_text(path.read_text().replace("172.9", "171.9"))
        else:
            path.write_bytes(path.read_bytes()[:-1600])
        cache = cache_of(folder)
        with pytest.raises(DataError):
            cache(frames[0])
        assert cache.fill(frames, small_lite(1)) == 1
        after = cache(frames[0])
        assert before is not None
        assert after is not None
        assert not torch.equal(before["boxes"], after["boxes"])

    def test_another_teacher_has_others(self, frames, folder):
        filled(folder, frames)
        assert cache_of(folder, seed=2).fill(frames, small_lite(2)) == 2

    def test_a_damaged_file_is_named(self, frames, folder):
        cache = filled(folder, frames)
        for path in folder.rglob("*.neck.safetensors"):
            path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(DataError, match=r"neck\.safetensors.*delete the file") as caught:
            cache(frames[0])
        assert "\n" not in str(caught.value)

    def test_too_little_space_is_known_before_filling(self, frames, folder, monkeypatch):
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        with pytest.raises(DataError, match=r"2 frames need about .* GB and 0\.0 GB are free"):
            cache_of(folder).fill(frames, small_lite(1))
        assert all(name.startswith("empty.") for name in files(folder))

    def test_only_what_is_lacking_needs_space(self, frames, folder, monkeypatch):
        filled(folder, frames)
        sizes = []
        for path in folder.rglob("*.head_0.1.safetensors"):
            if not path.name.startswith("empty"):
                sizes.append(path.stat().st_size)
                path.unlink()
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * max(sizes)))
        assert cache_of(folder).fill(frames, small_lite(1)) == 2

    def test_cpu_and_gpu_have_files_of_their_own(self, frames, folder):
        cache = filled(folder, frames)
        other = TeacherCache(folder, small_lite(1), CONFIG, lidar_points, ALL, torch.device("cuda"))
        assert cache(frames[0]) is not None
        with pytest.raises(DataError):
            other(frames[0])


class TestRuns:
    """From a configuration, with a loader's process."""

    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))

    def task(self, frames: KittiDataset, teacher, **changes) -> DistillTask:
        model = load_model_config("lite")
        model = replace(model, detector=replace(model.detector, window=WINDOW))
        wanted = self.config(frames, **changes)
        return student_task(wanted, model, teacher, frames)

    def config(self, frames: KittiDataset, cache: bool = True, **changes):
        settings = replace(ALL, start="model")
        teacher = TeacherConfig("lite", cache=cache)
        return config(frames.root, distill=settings, teacher=teacher, workers=1, **changes)

    def test_a_cached_run_is_a_live_one_without_the_teacher(self, write_frame, tmp_path):
        write_frame("000000", labels=None)
        frames = KittiDataset(write_frame("000001", labels=None))
        found = {}
        for cache in (False, True):
            teacher = small_lite(1)
            alive = weakref.ref(teacher)
            torch.manual_seed(0)
            task = self.task(frames, teacher, cache=cache)
            del teacher
            gc.collect()
            assert (alive() is None) == cache
            wanted = self.config(frames, cache, out=str(tmp_path / str(cache)))
            found[cache] = train(wanted, task)
        for name, value in found[False].losses.items():
            assert found[True].losses[name] == pytest.approx(value, rel=0.02), name
        assert found[True].metrics.keys() == found[False].metrics.keys()

    def test_a_run_may_go_on_with_the_other(self, write_frame):
        frames = KittiDataset(write_frame("000000"))
        assert train(self.config(frames), self.task(frames, small_lite(1))).steps == 2
        other = self.task(frames, small_lite(1), cache=False)
        assert train(self.config(frames, cache=False), other).steps == 2

    def test_augmentation_turns_it_off(self, write_frame, caplog, tmp_path):
        frames = KittiDataset(write_frame("000000"))
        augment = AugmentConfig(flip=0.5, rotation=0.0, brightness=0.1)
        task = self.task(frames, small_lite(1), augment=augment)
        assert isinstance(task.model.teacher, Teacher)
        assert task.samples[0].teacher_points is not None
        assert (
            "teacher.cache is off: what the teacher sees changes in every epoch "
            "(flip, scale, brightness, contrast, saturation); it is asked in every step"
        ) in caplog.messages
        assert not (tmp_path / "cache").exists()

    def test_what_changes_nothing_leaves_it_on(self, write_frame, caplog):
        caplog.set_level(logging.INFO)
        frames = KittiDataset(write_frame("000000"))
        still = AugmentConfig(0.0, 0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0)
        task = self.task(frames, small_lite(1), augment=still)
        assert isinstance(task.model.teacher, CachedTeacher)
        assert "the teacher answered 1 of 1 frames; the rest was there" in caplog.messages

    def test_a_teacher_that_reads_points_alone_sees_no_colours(self, tmp_path, caplog):
        colours = AugmentConfig(flip=0.0, rotation=0.0, scale=(1.0, 1.0))
        points_alone, fusion = SimpleNamespace(reads_image=False), small_lite(0)

        def keeps(augment, detector) -> bool:
            wanted = config(tmp_path / "x", augment=augment)
            wanted = replace(wanted, teacher=replace(wanted.teacher, cache=True))
            return can_keep_answers(wanted, detector)

        assert keeps(None, fusion)
        extra = ExtraDataConfig("y", 0.5, augment=replace(colours, flip=0.5))
        mixture = config(tmp_path / "x", data=DataConfig("x", extra=(extra,)))
        mixture = replace(mixture, teacher=replace(mixture.teacher, cache=True))
        assert not can_keep_answers(mixture, points_alone)
        assert "(flip)" in caplog.text
        assert keeps(colours, points_alone)
        assert not keeps(colours, fusion)
        assert "(brightness, contrast, saturation)" in caplog.text
        grey = replace(colours, brightness=0.0, contrast=0.0, saturation=0.0)
        assert keeps(grey, fusion)
        for name, value in (
            ("pitch", 0.1), ("roll", 0.1), ("photometric", PhotometricConfig(blur=0.5)),
        ):  # fmt: skip
            assert keeps(replace(grey, **{name: value}), points_alone)
            assert not keeps(replace(grey, **{name: value}), fusion)
        assert not keeps(replace(colours, rotation=0.1), points_alone)
        assert "(rotation)" in caplog.text

    def test_what_does_not_fit_is_refused_before_anything_is_made(self, write_frame, tmp_path):
        frames = KittiDataset(write_frame("000000"))
        coarse = replace(SMALL, voxel_size=(0.8, 0.8, 4.0))
        with pytest.raises(ConfigError, match="voxel_size"):
            self.task(frames, small_lite(1, coarse))
        assert not (tmp_path / "cache").exists()
