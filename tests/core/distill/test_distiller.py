"""The distiller: what it owns, what it computes, and what it leaves alone."""

import copy
from dataclasses import replace

import pytest
import torch
from small_detector import small_lite
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from kd3d_core.data.batch import Batch
from kd3d_core.distill.config import DistillConfig, FeatureConfig, LogitConfig
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import Teacher, feature_shapes

ALL = DistillConfig(
    phases=(Phase(10, {"det": 1.0, "feat": 2.0, "logit": 1.5}),),
    feature=FeatureConfig(("voxels", "backbone", "neck")),
)
BOX = torch.tensor([[12.0, 1.0, -1.7, 3.9, 1.6, 1.5, 0.3]])
PROJECTION = torch.tensor([[60.0, 0, 48, 0], [0, 60.0, 32, 0], [0, 0, 1, 0]]) @ torch.tensor(
    [[0.0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, 0.2], [0, 0, 0, 1]]
)


def only(det: float = 0.0, feat: float = 0.0, logit: float = 0.0, **changes) -> DistillConfig:
    """One phase with these weights."""
    return replace(ALL, phases=(Phase(10, {"det": det, "feat": feat, "logit": logit}),), **changes)


def anchors(maps: torch.Tensor, channels: int) -> torch.Tensor:
    """Of a head's `(B, A * C, h, w)`, one row for each anchor of each frame."""
    return maps.movedim(1, -1).reshape(-1, channels)


def cloud(seed: int, count: int = 800) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, span = torch.tensor([2.0, -10, -2, 0]), torch.tensor([20.0, 20, 2, 1])
    return low + span * torch.rand(count, 4, generator=generator)


def batch(
    labelled: tuple[bool, ...] = (True, True), taught: tuple[bool, ...] = (True, True)
) -> Batch:
    """Two frames: pseudo points, true points of those that are taught, one box if labelled."""
    generator = torch.Generator().manual_seed(9)
    clouds = [cloud(seed) for seed in (1, 2)]
    true = [cloud(seed + 10, 300 if seen else 0) for seed, seen in enumerate(taught)]
    return Batch(
        names=("a", "b"),
        images=255 * torch.rand(2, 3, 64, 96, generator=generator),
        image_from_lidar=PROJECTION.expand(2, -1, -1),
        points=torch.cat(clouds),
        samples=torch.tensor([0, 1]).repeat_interleave(800),
        boxes=tuple(BOX if known else torch.zeros(0, 7) for known in labelled),
        labels=tuple(torch.full((int(known),), 2) for known in labelled),
        teacher_points=torch.cat(true),
        teacher_samples=torch.cat([torch.full((len(c),), i) for i, c in enumerate(true)]),
        has_teacher=taught,
        labelled=labelled,
    )


def distiller(config: DistillConfig = ALL, student: int = 0, teacher: int = 1) -> Distiller:
    torch.manual_seed(3)
    ours, theirs = small_lite(student), small_lite(teacher)
    shapes = feature_shapes(ours)
    channels = {place: [(s[1], s[1]) for s in shapes[place]] for place in config.needs.places}
    return Distiller(ours, Teacher(theirs, config.needs), channels, config)


def tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


class TestTeacher:
    def test_training_changes_not_a_bit_of_it(self):
        module = distiller().train()
        average = AveragedModel(module, use_buffers=True)
        before = tensors(module.teacher.detector)
        student_before = tensors(module.student)
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            sum(module(batch()).values()).backward()
            optimizer.step()
            average.update_parameters(module)
        after = module.teacher.detector.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert any("running_mean" in name for name in before)
        changed = [
            n for n, v in module.student.state_dict().items() if v.ne(student_before[n]).any()
        ]
        assert any("running_mean" in name for name in changed)
        assert len(changed) == len(student_before)
        assert average.module.teacher is module.teacher

    def test_it_is_in_eval_mode_without_gradients_and_nobodys_child(self):
        module = distiller().train()
        detector = module.teacher.detector
        assert not any(part.training for part in detector.modules())
        assert not any(p.requires_grad for p in detector.parameters())
        sum(module(batch()).values()).backward()
        assert all(p.grad is None for p in detector.parameters())
        theirs = {value.data_ptr() for value in detector.state_dict().values()}
        owned = [*module.parameters(), *module.buffers(), *module.state_dict().values()]
        assert not theirs.intersection(value.data_ptr() for value in owned)

    def test_its_answers_dont_depend_on_what_else_is_in_the_batch(self):
        module = distiller()
        both = module.teacher(batch())
        one = batch()
        mine = one.teacher_samples == 1
        alone = replace(
            one, names=("b",), images=one.images[1:], image_from_lidar=one.image_from_lidar[1:],
            teacher_points=one.teacher_points[mine], teacher_samples=one.teacher_samples[mine] - 1,
        )  # fmt: skip
        torch.testing.assert_close(module.teacher(alone).maps.logits, both.maps.logits[1:])


class TestParts:
    @pytest.mark.parametrize(
        ("loss", "reference"),
        [("mse", functional.mse_loss), ("smooth_l1", functional.smooth_l1_loss)],
    )
    def test_the_feature_loss_is_torchs_on_projected_maps(self, loss, reference):
        module = distiller(only(feat=2.0, feature=replace(ALL.feature, loss=loss)))
        losses = module(batch())
        b = batch()
        ours = module.student.forward_features(b.points, b.samples, b.images, b.image_from_lidar)
        theirs = module.teacher.detector.forward_features(
            b.teacher_points, b.teacher_samples, b.images, b.image_from_lidar
        )
        layers = dict(module.parts["feat"].projectors.items())
        expected = {
            "feat_voxels": (layers["voxels"][0], ours.voxels[0], theirs.voxels[0]),
            "feat_backbone1": (layers["backbone"][0], ours.backbone[0], theirs.backbone[0]),
            "feat_backbone2": (layers["backbone"][1], ours.backbone[1], theirs.backbone[1]),
            "feat_neck": (layers["neck"][0], ours.neck[0], theirs.neck[0]),
        }
        assert losses.keys() == expected.keys()
        for name, (layer, our, their) in expected.items():
            weight = layer.weight[:, :, 0, 0]
            projected = torch.einsum("oc,bchw->bohw", weight, our) + layer.bias[:, None, None]
            torch.testing.assert_close(losses[name], 2 * reference(projected, their))

    def test_the_detection_loss_is_the_students_own(self):
        module = distiller(only(det=3.0))
        b = batch()
        maps = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        expected = module.student.losses(maps, b.boxes, b.labels)
        losses = module(b)
        assert losses.keys() == {"det_cls", "det_box", "det_dir"}
        for name, value in expected.items():
            torch.testing.assert_close(losses[f"det_{name}"], 3 * value)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"temperature": 3.0},
            {"background": 0.2},
            {"loss": "quality_focal"},
            {"loss": "quality_focal", "background": 0.2, "threshold": 0.4},
            {"cls": 0.5, "box": 3.0, "dir": 0.7},
        ],
        ids=str,
    )
    def test_the_logit_loss_is_per_anchor_that_the_teacher_is_sure_of(self, changes):
        """By formulas of torch's distributions, and written out."""
        config = LogitConfig(**changes)
        module = distiller(replace(only(logit=1.5), logit=config))
        b = batch()
        ours = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        theirs = module.teacher(b).maps
        (s, t), (our_box, their_box), (our_dir, their_dir) = (
            (anchors(getattr(ours, part), channels), anchors(getattr(theirs, part), channels))
            for part, channels in (("logits", 3), ("deltas", 7), ("directions", 2))
        )
        confidence = t.sigmoid().amax(-1)
        sure = confidence > config.threshold
        assert 0 < int(sure.sum()) < sure.numel()

        if config.loss == "kl":
            scale = config.temperature
            bernoullis = (Bernoulli(logits=logits / scale) for logits in (t, s))
            cls = scale**2 * kl_divergence(*bernoullis)
        else:
            p, q = s.sigmoid(), t.sigmoid()
            entropy = q * functional.logsigmoid(s) + (1 - q) * functional.logsigmoid(-s)
            cls = -((p - q) ** 2) * entropy
        by_confidence = torch.where(sure, confidence, config.background)
        error = torch.cat([our_box[:, :6] - their_box[:, :6],
                           (our_box[:, 6:] - their_box[:, 6:]).sin()], 1).abs()  # fmt: skip
        box = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
        heading = kl_divergence(Categorical(logits=their_dir), Categorical(logits=our_dir))
        expected = {
            "logit_cls": config.cls * (by_confidence * cls.sum(1)).sum(),
            "logit_box": config.box * (confidence[sure] * box[sure].sum(1)).sum(),
            "logit_dir": config.dir * (confidence[sure] * heading[sure]).sum(),
        }
        losses = module(b)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            assert value > 0
            torch.testing.assert_close(losses[name], 1.5 * value / sure.sum(), rtol=1e-4, atol=0)

    def test_a_student_that_is_its_teacher_and_sees_the_same_has_no_logit_loss(self):
        module = distiller(only(logit=1.0), student=1, teacher=1)
        b = batch()
        same = replace(b, teacher_points=b.points, teacher_samples=b.samples)
        assert all(abs(value.item()) < 1e-6 for value in module(same).values())
        assert all(value.item() > 1e-5 for value in module(b).values())

    def test_a_part_without_weight_is_neither_built_nor_computed(self):
        module = distiller(only(det=1.0))
        assert list(module.parts) == ["det"]
        module.teacher = None  # would fail if it were asked
        assert module(batch()).keys() == {"det_cls", "det_box", "det_dir"}
        assert distiller(only(feat=1.0, feature=FeatureConfig(("neck",))))(batch()).keys() == {
            "feat_neck"
        }

    def test_the_epoch_of_the_batch_says_which_phase_it_is(self):
        phases = (
            Phase(2, {"det": 1.0}),
            Phase(4, {"det": 3.0}),
            Phase(6, {"det": 5.0}, ramp_epochs=2),
        )
        module = distiller(replace(ALL, phases=phases))
        found = [module(replace(batch(), epoch=e))["det_cls"].item() for e in (0, 1, 2, 4, 5, 9)]
        assert [value / found[0] for value in found] == pytest.approx([1, 1, 3, 3.5, 4.5, 5])

    @pytest.mark.parametrize("setting", ["background", "empty"])
    def test_weights_of_cells_choose_where_features_are_compared(self, setting):
        config = only(feat=1.0, feature=FeatureConfig(("voxels",), **{setting: 0.0}))
        module = distiller(config)
        b = batch()
        canvas = module.teacher(b).features["voxels"][0]
        if setting == "empty":
            chosen = (canvas != 0).any(1)
        else:
            x, y = torch.meshgrid(
                torch.arange(64) * 0.4 + 0.2, torch.arange(64) * 0.4 - 12.6, indexing="xy"
            )
            offset = torch.stack([x - 12, y - 1], -1)
            turn = torch.tensor([[0.955336, 0.295520], [-0.295520, 0.955336]])
            inside = (offset @ turn.T).abs() <= torch.tensor([3.9 + 0.4, 1.6 + 0.4]) / 2
            chosen = inside.all(-1).expand(2, -1, -1)
        assert 0 < int(chosen.sum()) < chosen.numel()
        ours = module.student.forward_features(b.points, b.samples, b.images, b.image_from_lidar)
        (layer,) = module.parts["feat"].projectors["voxels"]
        projected = layer(*ours.voxels)
        error = (projected - canvas).square().mean(1)
        torch.testing.assert_close(module(b)["feat_voxels"], error[chosen].mean())

    def test_all_of_it_can_be_learnt(self):
        module = distiller(only(feat=1.0, logit=1.0)).train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
        course = []
        for _ in range(12):
            losses = module(batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            without = [n for n, p in module.named_parameters() if p.grad is None]
            optimizer.step()
            course.append({name: value.item() for name, value in losses.items()})
        assert not without
        assert sum(course[-1].values()) < 0.7 * sum(course[0].values())
        assert course[-1]["feat_neck"] < course[0]["feat_neck"]
        assert course[-1]["logit_box"] < course[0]["logit_box"]


class TestFramesThatLackSomething:
    def test_without_a_label_file_the_teachers_confident_boxes_are_the_labels(self):
        module = distiller(only(det=1.0, label_score=0.02))
        b = batch(labelled=(True, False))
        slots = module.teacher.detector.boxes(module.teacher(b).maps)
        slots = replace(slots, scores=torch.linspace(0.9, 0.0, slots.scores.shape[1]).expand(2, -1))
        slots = replace(slots, valid=torch.ones_like(slots.valid))
        module.teacher.detector.boxes = lambda _: slots
        sure = slots.scores[1] >= 0.02
        assert 0 < int(sure.sum()) < len(sure)
        boxes = (BOX, slots.boxes[1][sure])
        labels = (torch.tensor([2]), slots.labels[1][sure])
        maps = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        for name, value in module.student.losses(maps, boxes, labels).items():
            torch.testing.assert_close(module(b)[f"det_{name}"], value)

    def test_by_answers_a_frame_without_labels_has_no_detection_loss(self):
        module = distiller(only(det=1.0, logit=1.0, unlabelled="answers"))
        b = batch(labelled=(True, False))
        first = b.samples == 0
        alone = replace(
            b, names=("a",), images=b.images[:1], image_from_lidar=b.image_from_lidar[:1],
            points=b.points[first], samples=b.samples[first], boxes=b.boxes[:1],
            labels=b.labels[:1], has_teacher=(True,), labelled=(True,),
        )  # fmt: skip
        maps = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        of_first = replace(maps, **{name: part[:1] for name, part in vars(maps).items()})
        expected = module.student.losses(of_first, alone.boxes, alone.labels)
        found = module(b)
        for name, value in expected.items():
            assert value > 0
            torch.testing.assert_close(found[f"det_{name}"], value)
        labelled = module(batch())  # the teacher teaches the same with labels and without
        for name in ("logit_cls", "logit_box", "logit_dir"):
            torch.testing.assert_close(found[name], labelled[name])

    def test_by_answers_a_frame_without_labels_teaches_nothing_where_the_teacher_is_silent(self):
        cmkd = LogitConfig("quality_focal", threshold=0.1, cls=2.0, box=2.0, dir=0.4)
        config = replace(only(det=1.0, unlabelled="answers"), logit=cmkd)
        config = replace(config, phases=(Phase(10, {"det": 1.0, "logit": 1.0}),))
        module = distiller(config)
        b = batch(labelled=(False, False))
        answers = module.teacher(b).maps
        spoken = torch.zeros_like(answers.logits).index_fill(0, torch.tensor([1]), -20.0)
        spoken[0] = torch.where(torch.arange(spoken.shape[-1]) < spoken.shape[-1] // 2, -20.0, 2.0)
        silent = replace(module.teacher(b), maps=replace(answers, logits=spoken))
        module.teacher = lambda _: silent
        maps = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        leaves = replace(
            maps, **{name: part.detach().requires_grad_() for name, part in vars(maps).items()}
        )
        module.student.head_maps = lambda _: leaves
        losses = module(b)
        assert losses["logit_cls"] > 0
        sum(losses.values()).backward()
        for part in (leaves.logits, leaves.deltas, leaves.directions):
            silent_half, spoken_half = part.grad[0].chunk(2, -1)
            assert not part.grad[1].any()
            assert not silent_half.any()
            assert spoken_half.any()

    def test_an_empty_label_file_means_that_there_is_nothing(self):
        module = distiller(only(det=1.0))
        b = replace(batch(), boxes=(torch.zeros(0, 7),) * 2, labels=(torch.zeros(0).long(),) * 2)
        maps = module.student(b.points, b.samples, b.images, b.image_from_lidar)
        expected = module.student.losses(maps, b.boxes, b.labels)
        torch.testing.assert_close(module(b)["det_cls"], expected["cls"])

    def test_a_frame_without_lidar_counts_for_its_labels_alone(self):
        module = distiller()
        whole, half = batch(), batch(taught=(False, True))
        b = half.samples == 1
        alone = replace(
            half, names=("b",), images=half.images[1:], image_from_lidar=half.image_from_lidar[1:],
            points=half.points[b], samples=half.samples[b] - 1, boxes=half.boxes[1:],
            labels=half.labels[1:], teacher_samples=half.teacher_samples - 1, has_teacher=(True,),
            labelled=(True,),
        )  # fmt: skip
        found, expected = module(half), module(alone)
        for name, value in found.items():
            if name.startswith("det"):
                torch.testing.assert_close(value, module(whole)[name])
            else:
                torch.testing.assert_close(value, expected[name])

    def test_a_frame_without_anything_counts_for_nothing(self):
        module = distiller()
        half = batch(labelled=(False, True), taught=(False, True))
        other = replace(half, points=torch.where(half.samples[:, None] == 0, 3.0, half.points))
        first, second = module(half), module(other)
        assert not torch.equal(half.points, other.points)
        for name, value in first.items():
            torch.testing.assert_close(value, second[name])
        nothing = module(batch(labelled=(False, False), taught=(False, False)))
        assert nothing.keys() == first.keys()
        assert not any(value.item() for value in nothing.values())
        sum(nothing.values()).backward()


def test_a_copy_for_averaging_has_a_student_of_its_own():
    module = distiller()
    twin = copy.deepcopy(module)
    assert twin.teacher is module.teacher
    assert twin.student is not module.student
