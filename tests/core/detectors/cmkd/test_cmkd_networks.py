"""The parts of CMKD's student: shapes, reach, starts, and what the prior says."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.glpn import random_glpn
from kd3d_core.detectors.build import load_detector, random_detector, untrained_detector
from kd3d_core.detectors.cmkd.bins import DepthBins
from kd3d_core.detectors.cmkd.image_side import DeepLabSide, depth_prior
from kd3d_core.detectors.cmkd.self_calibrated import SelfCalibratedBlock
from kd3d_core.detectors.config import DetectorConfig, ImageSideConfig
from kd3d_core.detectors.image import ResNet
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig

WINDOW = WindowConfig((64, 192), "crop", 110.0)
RANGE = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
TINY = DetectorConfig("cmkd_tiny", "random", WINDOW, point_cloud_range=RANGE)
PROJECTION = torch.tensor([[[96.0, -110, 0, 0], [30, 0, -110, 0], [1, 0, 0, 0]]])
NOTHING = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


def images(batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.rand(batch, 3, 64, 192, generator=generator)


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_lite0", "glpn_b0"])
def test_shapes_of_a_light_student(encoder):
    config = replace(TINY, image_side=ImageSideConfig(encoder))
    detector = random_detector(config, 0)
    with torch.no_grad():
        features = detector.forward_features(*NOTHING, images(2), PROJECTION.expand(2, -1, -1))
    assert features.voxels[0].shape == (2, 64, 32, 32)
    assert features.depth_logits.shape == (2, 65, 8, 24)
    assert features.depth_logits.dtype == torch.float32
    assert detector.head_maps(features.neck).logits.shape == (2, 18, 32, 32)


def test_points_make_no_difference_and_the_calibration_does():
    detector = random_detector(TINY, 0)
    points = torch.rand(40, 4) * 20, torch.zeros(40, dtype=torch.int64)
    with torch.no_grad():
        without, given = (detector(*cloud, images(), PROJECTION) for cloud in (NOTHING, points))
        turned = PROJECTION.clone()
        turned[0, 0] += 20 * turned[0, 2]
        moved = detector(*NOTHING, images(), turned)
    assert torch.equal(without.logits, given.logits)
    assert not torch.equal(without.logits, moved.logits)


def test_gradients_reach_the_image_through_depth_and_features():
    detector = random_detector(TINY, 0).train()
    features = detector.forward_features(*NOTHING, images(2), PROJECTION.expand(2, -1, -1))
    features.voxels[0].square().mean().backward()
    side = detector.network["image_side"]
    for part in (side.depth[-1], side.context[0], side.encoder.backbone.conv1):
        assert part.weight.grad.abs().max() > 0


def test_a_self_calibrated_block_keeps_shapes_and_reaches_further_than_its_kernels():
    torch.manual_seed(0)
    block = SelfCalibratedBlock(8).eval()
    x = torch.randn(1, 8, 41, 37)
    with torch.no_grad():
        before = block(x)
        x[0, :, 20, 20] += 5
        changed = (block(x) != before).any(1)[0].nonzero()
    assert before.shape == x.shape
    reach = (changed - 20).abs().amax(0)
    # Two 3x3 kernels reach 2 cells; one on the map that is 4 times coarser at least 4 more.
    assert (reach > 4).all()
    assert (reach <= 9).all()


def test_the_published_design():
    config = DetectorConfig("cmkd_kitti", "random", WINDOW)
    detector = random_detector(config, 0)
    network = detector.network
    assert detector.grid.shape == (10, 188, 140)
    assert isinstance(network["image_side"], DeepLabSide)
    assert network["image_side"].classifier[4].out_channels == 121
    assert network["collapse"][0].weight.shape == (128, 640, 1, 1)
    assert len(network["calibrated"]) == 5
    teacher = random_detector(replace(config, type="cmkd_teacher_second"), 0)
    for part in ("backbone", "neck", "head"):  # so that the student can start from them
        theirs = getattr(teacher, part).state_dict()
        shapes = {name: value.shape for name, value in theirs.items()}
        ours = getattr(detector, part).state_dict()
        assert shapes == {name: value.shape for name, value in ours.items()}


def test_resnet_to_stride_8_is_spread_as_torchvision_does_it():
    network = ResNet(50, stride=8)
    spread = {
        name: module.dilation[0]
        for name, module in network.named_modules()
        if name.endswith("conv2") and name.startswith(("layer2.0", "layer3", "layer4"))
    }
    assert spread == {
        "layer2.0.conv2": 1,
        "layer3.0.conv2": 1, **{f"layer3.{n}.conv2": 2 for n in range(1, 6)},
        "layer4.0.conv2": 2, "layer4.1.conv2": 4, "layer4.2.conv2": 4,
    }  # fmt: skip
    with torch.no_grad():
        maps = network.eval()(torch.zeros(1, 3, 32, 64))
    assert [map_.shape[-2:] for map_ in maps] == [(8, 16), (4, 8), (4, 8), (4, 8)]


def test_a_deeplab_of_torchvision_fits_and_its_classes_stay_out(tmp_path):
    side = DeepLabSide(64, DepthBins(2.0, 46.8, 8), frozen=False)
    published = {
        name: torch.full_like(value, 0.25) if value.is_floating_point() else value
        for name, value in side.state_dict().items()
        if name.startswith(("backbone", "classifier"))
    }
    published |= {
        "classifier.4.weight": torch.zeros(21, 256, 1, 1), "classifier.4.bias": torch.zeros(21),
        "aux_classifier.4.bias": torch.zeros(21),
    }  # fmt: skip
    save_file(published, tmp_path / "deeplab.safetensors")
    before = side.classifier[4].weight.clone()
    side.start(str(tmp_path / "deeplab.safetensors"))
    assert (side.backbone.layer4[2].conv2.weight == 0.25).all()
    assert (side.classifier[0].convs[3][0].weight == 0.25).all()
    assert torch.equal(side.classifier[4].weight, before)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.safetensors")
    wrong = ImageSideConfig("resnet18", str(tmp_path / "part.safetensors"))
    with pytest.raises(WeightsError, match=r"image_side\.weights .* are of another network"):
        untrained_detector(replace(TINY, image_side=wrong), 0)


def test_a_single_image_can_be_trained_on():
    side = DeepLabSide(8, DepthBins(2.0, 46.8, 8), frozen=False).train()
    features, logits = side(torch.rand(1, 3, 64, 64))
    (features.sum() + logits.sum()).backward()
    assert torch.isfinite(logits).all()


def test_the_prior_is_the_mass_of_a_laplace_distribution():
    bins = DepthBins(2.0, 40.0, 20)
    depth = torch.tensor([3.0, 11.0, 25.0, 39.5, 60.0]).view(1, 1, 5)
    found = depth_prior(depth, bins).exp().double()[0, :, 0]
    edges = bins.edges().double()
    for column, middle in enumerate(depth.flatten().tolist()):
        laplace = torch.distributions.Laplace(middle, 0.05 * middle)
        cdf = laplace.cdf(edges)
        expected = torch.cat([cdf.diff(), 1 - cdf[-1:]])
        expected = 0.999 * expected + 0.001 / 21
        torch.testing.assert_close(found[:, column], expected, atol=2e-6, rtol=1e-4)


def test_the_frustum_is_that_of_the_depth_network_from_the_first_step_on():
    config = replace(TINY, image_side=ImageSideConfig("glpn_b0"))
    detector = untrained_detector(config, 0)
    side = detector.network["image_side"]
    with torch.no_grad():
        _, logits = side(images())
        depth = side.encoder.network(images() / 255)[:, 4::8, 4::8]
    torch.testing.assert_close(logits, depth_prior(depth, detector.bins))


def test_a_depth_network_brings_its_weights_and_may_stay_frozen(tmp_path):
    window = WindowConfig((64, 192))
    glpn = random_glpn(DepthConfig("random", window, encoder="b0"), seed=5)
    glpn.save(tmp_path / "depth")
    side = ImageSideConfig("glpn_b0", str(tmp_path / "depth"), frozen=True)
    detector = untrained_detector(replace(TINY, image_side=side), 0).train()
    encoder = detector.network["image_side"].encoder
    for name, value in glpn.state_dict().items():
        assert torch.equal(encoder.network.state_dict()[name], value), name
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_trained_student_needs_no_other_file(tmp_path):
    side = ImageSideConfig("glpn_b0", "not/there")
    config = replace(TINY, image_side=side)
    detector = random_detector(config, 3)
    path = tmp_path / "detector.safetensors"
    save_file({n: v.contiguous() for n, v in detector.network.state_dict().items()}, path)
    trained = config.with_weights(str(path))
    assert trained.image_side == ImageSideConfig("glpn_b0")
    again = load_detector(path, trained)
    with torch.no_grad():
        answers = [d(*NOTHING, images(), PROJECTION).logits for d in (detector, again)]
    assert torch.equal(*answers)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"window": WindowConfig((60, 192))}, "detector.window is crop of"),
        ({"window": WindowConfig((64, 192), "fit")}, "detector.window is fit of"),
        ({"image_side": ImageSideConfig("resnet50")}, "cmkd_tiny has resnet18 or"),
        ({"type": "lite", "image_side": ImageSideConfig("resnet18")}, "leave it out for lite"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, line):
    with pytest.raises(ConfigError, match=line):
        replace(TINY, **change)
