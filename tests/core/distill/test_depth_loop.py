"""Depth in the loop: gradients from every loss to depth, and true depth for an assistant."""

import copy
from dataclasses import replace

import pytest
import torch
from small_detector import SMALL, small_lite
from torch import nn

from kd3d_core.data.augment import Augmentation
from kd3d_core.data.batch import Batch
from kd3d_core.data.depth_view import DepthView, augmented
from kd3d_core.depth.model import DepthModel
from kd3d_core.distill.cells import object_weights
from kd3d_core.distill.config import DistillConfig, FeatureConfig
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.distill.depth_learner import DepthLearner
from kd3d_core.distill.distiller import Distiller
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import Teacher, feature_shapes
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.depth_maps import box_depth
from kd3d_core.models.config import PseudoLidarConfig

HEIGHT, WIDTH = 64, 96
PROJECTION = torch.tensor([[60.0, 0, 48, 0], [0, 60.0, 32, 0], [0, 0, 1, 0]]) @ torch.tensor(
    [[0.0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, 0.2], [0, 0, 0, 1]]
)
BOX = torch.tensor([[12.0, 1.0, -1.7, 3.9, 1.6, 1.5, 0.3]])
POINTS = PseudoLidarConfig(max_jump=0.0)
DEPTH_PARTS = {"depth_pixels": 1.0, "depth_objects": 1.0, "depth_image": 0.2}


class SmallDepth(nn.Module):
    """An encoder, a batch norm and a head, called as a network of transformers; 10 m on average."""

    class Answer:
        def __init__(self, predicted_depth: torch.Tensor) -> None:
            self.predicted_depth = predicted_depth

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, pixel_values: torch.Tensor) -> "SmallDepth.Answer":
        features = self.norm(self.encoder(pixel_values)).relu()
        return self.Answer(10 * (0.2 * self.head(features)[:, 0]).exp())


def learner(**changes) -> DepthLearner:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = DepthModel(SmallDepth()).eval()
    return DepthLearner(network, POINTS, replace(LearnDepthConfig(), **changes))


def view(frames: int = 2) -> DepthView:
    """LiDAR of a car ahead and of ground around it, on every third pixel."""
    generator = torch.Generator().manual_seed(2)
    depth, _ = box_depth(BOX, PROJECTION, (HEIGHT, WIDTH))
    true = torch.where(depth > 0, depth + 0.05, 18.0)
    sparse = torch.zeros_like(true)
    sparse[::3, ::3] = true[::3, ::3]
    pixels = torch.stack(
        [torch.randperm(HEIGHT * WIDTH, generator=generator)[:600].sort().values] * frames
    )
    return DepthView(
        255 * torch.rand(1, 3, HEIGHT, WIDTH, generator=generator).repeat(frames, 1, 1, 1),
        PROJECTION.expand(frames, -1, -1), sparse.repeat(frames, 1, 1), true.repeat(frames, 1, 1),
        pixels, torch.ones(frames, HEIGHT, WIDTH, dtype=torch.bool),
    )  # fmt: skip


def batch(frames: int = 2, progress: float = 0.5) -> Batch:
    seen = view(frames)
    return Batch(
        names=("a", "b")[:frames],
        images=seen.images,
        image_from_lidar=seen.image_from_lidar,
        points=torch.zeros(0, 4),
        samples=torch.zeros(0, dtype=torch.int64),
        boxes=(BOX,) * frames,
        labels=(torch.tensor([2]),) * frames,
        has_teacher=(False,) * frames,
        labelled=(True,) * frames,
        view=seen,
        progress=progress,
    )


def config(weights: dict, feature: FeatureConfig | None = None, **depth) -> DistillConfig:
    return DistillConfig(
        phases=(Phase(10, weights),),
        feature=feature or FeatureConfig(),
        learn_depth=replace(LearnDepthConfig(), **depth),
        start="model",
    )


def distiller(settings: DistillConfig, assistant: bool = False) -> Distiller:
    torch.manual_seed(3)
    student = small_lite(0)
    teacher, channels = None, {}
    if assistant:
        teacher = Teacher(small_lite(0), settings.needs)
        shapes = feature_shapes(student)
        channels = {p: [(s[1], s[1]) for s in shapes[p]] for p in settings.needs.places}
    assert settings.learn_depth is not None
    depth = learner(layers=settings.learn_depth.layers)
    depth.settings = settings.learn_depth
    return Distiller(student, teacher, channels, settings, depth, assistant)


def depth_gradient(module: Distiller) -> float:
    """The norm of the gradients of the depth network's decoder."""
    gradients = [p.grad for p in module.depth.network.network.head.parameters()]
    return sum(g.norm().item() for g in gradients if g is not None)


class TestGradients:
    @pytest.mark.parametrize("part", ["det", *DEPTH_PARTS])
    def test_each_part_reaches_the_decoder_and_not_the_encoder(self, part):
        module = distiller(config({part: 1.0})).train()
        losses = module(batch())
        assert all(name.startswith(part) for name in losses)
        sum(losses.values()).backward()
        assert depth_gradient(module) > 0
        encoder = module.depth.network.network.encoder
        assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())

    def test_all_layers_learn_if_they_are_asked_to(self):
        module = distiller(config({"depth_objects": 1.0}, layers="all")).train()
        sum(module(batch()).values()).backward()
        assert module.depth.network.network.encoder.weight.grad.any()

    def test_what_detection_says_is_scaled_by_a_factor_that_rises(self):
        gradients = []
        settings = config({"det": 1.0}, gradient=(0.1, 1.0), gradient_rise=0.25)
        for progress in (0.0, 0.125, 0.25, 0.9):
            module = distiller(settings).train()
            sum(module(batch(progress=progress)).values()).backward()
            gradients.append(depth_gradient(module))
        expected = [gradients[-1] * factor for factor in (0.1, 0.55, 1.0, 1.0)]
        assert gradients == pytest.approx(expected, rel=1e-4)

    def test_a_factor_of_0_leaves_depth_to_its_own_losses(self):
        module = distiller(config({"det": 1.0}, gradient=(0.0, 0.0))).train()
        sum(module(batch()).values()).backward()
        assert depth_gradient(module) == 0

    def test_batch_norms_keep_their_statistics(self):
        module = distiller(config({"det": 1.0, **DEPTH_PARTS})).train()
        norm = module.depth.network.network.norm
        before = copy.deepcopy(norm.state_dict())
        module(batch())
        assert not norm.training
        assert all(torch.equal(before[name], v) for name, v in norm.state_dict().items())

    def test_steps_bring_the_object_to_its_place(self):
        module = distiller(config(DEPTH_PARTS)).train()
        optimizer = torch.optim.Adam(
            [p for p in module.depth.parameters() if p.requires_grad], lr=0.02
        )
        first = module(batch())
        for _ in range(40):
            optimizer.zero_grad()
            sum(module(batch()).values()).backward()
            optimizer.step()
        last = module(batch())
        assert last["depth_objects_shift"] < 0.3 * first["depth_objects_shift"]

    def test_without_lidar_the_boxes_say_where_objects_are(self):
        module = distiller(config({"depth_objects": 1.0, "depth_pixels": 1.0}, truth="boxes"))
        blind = batch()
        blind = replace(blind, view=replace(blind.view, lidar=torch.zeros_like(blind.view.lidar)))
        losses = module.train()(blind)
        assert all(value > 0 for value in losses.values())
        by_lidar = distiller(config({"depth_objects": 1.0, "depth_pixels": 1.0})).train()(blind)
        assert all(value == 0 for value in by_lidar.values())

    @pytest.mark.parametrize("part", DEPTH_PARTS)
    def test_a_loss_doesnt_grow_with_the_batch(self, part):
        module = distiller(config({part: 1.0})).train()
        (one,), (two,) = module(batch(1)).values(), module(batch(2)).values()
        assert one.item() == pytest.approx(two.item(), rel=1e-5)


class TestPoints:
    def test_they_are_the_pixels_of_the_batch(self):
        depth = learner()
        step = depth(view())
        cloud = depth.student_cloud(step, 1.0)
        assert len(cloud.points) == 2 * 600
        assert cloud.samples.bincount().tolist() == [600, 600]
        ahead = PROJECTION[2, :3] @ cloud.points[:600, :3].T + PROJECTION[2, 3]
        expected = step.depth[0].flatten()[step.view.pixels[0]]
        assert torch.allclose(ahead, expected, rtol=1e-4)

    def test_padding_makes_none(self):
        seen = view(1)
        depth = learner()
        seen.seen[:, :10] = False
        seen.seen[:, :, 50:] = False
        cloud = depth.student_cloud(depth(seen), 1.0)
        row, column = seen.pixels[0] // WIDTH, seen.pixels[0] % WIDTH
        assert len(cloud.points) == ((row >= 10) & (column < 50)).sum() > 0

    def test_a_mirrored_frame_has_a_mirrored_cloud(self):
        """Depth that is the mirror image of a frame's makes the mirror image of its cloud."""
        seen = view(1)
        one = DepthView(
            seen.images[0], PROJECTION, seen.lidar[0], seen.dense[0], seen.pixels[0],
            (torch.arange(WIDTH) >= 5).expand(HEIGHT, -1),
        )  # fmt: skip
        change = Augmentation(flip=True, angle=0.3, scale=1.1)
        other = augmented(one, change)
        assert torch.equal(other.seen, (torch.arange(WIDTH) < WIDTH - 5).expand(HEIGHT, -1))
        mirrored = one.pixels // WIDTH * WIDTH + (WIDTH - 1 - one.pixels % WIDTH)
        other = replace(other, pixels=mirrored)
        plain, changed = (
            learner().assistant_batch(batch(1), DepthView.stacked([each])).teacher_points
            for each in (one, other)
        )
        assert torch.allclose(change.points(plain), changed, atol=1e-3)

    def test_they_move_from_true_to_predicted_depth(self):
        depth = learner(anneal=0.4)
        step = depth(view(1))
        true, halfway, predicted = (
            depth.student_cloud(step, progress).points for progress in (0.0, 0.2, 0.4)
        )
        pixels = step.view.pixels[0]
        for cloud, expected in (
            (true, step.view.dense[0].flatten()[pixels]),
            (halfway, (step.view.dense[0] * step.depth[0]).sqrt().flatten()[pixels]),
            (predicted, step.depth[0].flatten()[pixels]),
        ):
            ahead = PROJECTION[2, :3] @ cloud[:, :3].T + PROJECTION[2, 3]
            assert torch.allclose(ahead, expected, rtol=1e-4)

    def test_where_no_true_depth_is_known_it_is_predicted(self):
        depth = learner(anneal=0.4)
        step = depth(view(1))
        blind = replace(step, view=replace(step.view, dense=torch.zeros_like(step.view.dense)))
        assert torch.equal(
            depth.student_cloud(blind, 0.0).points, depth.student_cloud(step, 1.0).points
        )


class TestAssistant:
    FEATURES = FeatureConfig(("voxels", "backbone"), levels=1, project=False, scale="rms")

    def test_with_true_depth_there_is_nothing_to_learn_from_it(self):
        """Student and assistant are one network: where they read the same, they say the same."""
        module = distiller(config({"feat": 1.0}, self.FEATURES, anneal=1.0), assistant=True)
        same = module.eval()(batch(progress=0.0))
        assert set(same) == {"feat_voxels", "feat_backbone1"}
        other = module(batch(progress=1.0))
        assert all(other[name] > 1e3 * max(value, 1e-9) for name, value in same.items())

    def test_it_reads_the_students_pixels(self):
        module = distiller(config({"feat": 1.0}, self.FEATURES), assistant=True)
        asked = []
        detector = module.teacher.detector
        forward = detector.forward_features

        def watched(*given):
            asked.append(given)
            return forward(*given)

        detector.forward_features = watched
        given = batch()
        module(given)
        points, samples, *_ = asked[0]
        ahead = PROJECTION[2, :3] @ points[samples == 1, :3].T + PROJECTION[2, 3]
        expected = given.view.dense[1].flatten()[given.view.pixels[1]]
        assert torch.allclose(ahead, expected, rtol=1e-4)

    def test_features_are_scaled_by_the_assistants_own(self):
        """Features that are all three times as large make the same loss."""
        losses = []
        for factor in (1.0, 3.0):
            module = distiller(config({"feat": 1.0}, self.FEATURES), assistant=True).train()
            part = module.parts["feat"]
            projected, call = part._projected, module.teacher

            def larger(place, level, map_, projected=projected, factor=factor):
                return factor * projected(place, level, map_)

            def teacher(given, call=call, factor=factor):
                said = call(given)
                features = {n: tuple(factor * m for m in maps) for n, maps in said.features.items()}
                return replace(said, features=features)

            part._projected, module.teacher = larger, teacher
            losses.append(module(batch()))
            assert part.rms_voxels > 0
        for name, value in losses[0].items():
            assert losses[1][name].item() == pytest.approx(value.item(), rel=1e-3)

    def test_the_scale_is_of_the_first_batch_and_stays(self):
        module = distiller(config({"feat": 1.0}, self.FEATURES), assistant=True).train()
        module(batch())
        first = module.state_dict()["parts.feat.rms_voxels"].clone()
        other = batch()
        module(replace(other, view=replace(other.view, dense=other.view.dense / 2)))
        assert torch.equal(module.state_dict()["parts.feat.rms_voxels"], first)

    def test_objects_that_lie_elsewhere_teach_little(self):
        weights = []
        for off_m in (0.0, 0.5, 3.0):
            settings = config({"feat": 1.0}, replace(self.FEATURES, fade_m=0.5))
            module = distiller(settings, assistant=True)
            step = module.depth(view(1))
            step = replace(step, depth=step.view.lidar + off_m)
            objects = module._objects(step, [BOX])
            asked = type("Step", (), {"depth": step, "objects": objects, "boxes": [BOX]})
            (kept,) = module.parts["feat"]._faded(asked)
            weights.append(kept.item())
        assert weights == pytest.approx([1.0, 0.3679, 0.0], abs=1e-3)

    def test_cells_have_the_weight_of_their_object(self):
        boxes = torch.cat([BOX, BOX + torch.tensor([8.0, 0, 0, 0, 0, 0, 0])])
        found = object_weights([boxes], [torch.tensor([0.25, 0.0])], SMALL, (64, 64))
        assert set(found.unique().tolist()) == {0.0, 0.25, 1.0}
        assert found[0, 0, int((1 + 12.8) / 0.4), int(12 / 0.4)] == 0.25
        assert found[0, 0, int((1 + 12.8) / 0.4), int(20 / 0.4)] == 0.0


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"learn_depth": None}, "depth_objects, and no depth network learns"),
            ({"learn_depth": LearnDepthConfig(layers="none")}, "no depth network learns"),
        ],
    )
    def test_a_part_that_nothing_learns_from_is_refused(self, changes, reason):
        with pytest.raises(ConfigError, match=reason):
            replace(config({"depth_objects": 1.0}), **changes)

    def test_fading_needs_lidar(self):
        with pytest.raises(ConfigError, match="fade_m needs learn_depth, with truth lidar"):
            config({"feat": 1.0}, FeatureConfig(fade_m=1.0), truth="boxes")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"anneal": 1.5}, "anneal is 1.5"),
            ({"lr_factor": 0.0}, "lr_factor is 0.0"),
            ({"gradient": (-1.0, 1.0)}, "gradient is -1.0"),
        ],
    )
    def test_wrong_values_are_one_line(self, changes, reason):
        with pytest.raises(ConfigError, match=reason):
            LearnDepthConfig(**changes)
