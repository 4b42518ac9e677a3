"""CMKD's losses, against values computed by hand; none grows with the batch."""

import doctest
import math

import pytest
import torch

from kd3d_core.data.batch import Batch
from kd3d_core.detectors.anchor_detector import BevFeatures
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.decode import HeadMaps
from kd3d_core.distill import losses
from kd3d_core.distill.cmkd_config import BinsConfig, ResponseConfig
from kd3d_core.distill.cmkd_parts import BinsPart, ResponsePart, nearest
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.loss_part import StudentStep
from kd3d_core.distill.schedule import Phase
from kd3d_core.distill.teacher import TeacherOutputs
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig

PROJECTION = torch.tensor([[20.0, -22.0, 0.0, 0.0], [10.0, 0.0, -22.0, 0.0], [1.0, 0, 0, 0]])


def logit(p):
    return math.log(p / (1 - p))


def test_scores_are_divided_for_each_class_by_its_own_anchors():
    ours = torch.tensor([[[logit(0.5), logit(0.25)], [logit(0.5), logit(0.25)]]])
    theirs = torch.tensor([[[logit(0.75), logit(0.05)], [logit(0.25), logit(0.05)]]])

    def focal(p, q):
        return (q - p) ** 2 * -(q * math.log(p) + (1 - q) * math.log(1 - p))

    first = (focal(0.5, 0.75) + focal(0.5, 0.25)) / 2  # both anchors have more than 0.1
    second = 2 * focal(0.25, 0.05) / 1  # none has
    found = losses.class_responses(ours, theirs, 0.1)
    assert found.tolist() == [pytest.approx(first + second, rel=1e-5)]


def test_boxes_and_headings_count_by_the_sum_of_the_confidence():
    scores = torch.tensor([[[logit(0.6), logit(0.2)], [logit(0.04), logit(0.05)]]] * 2)
    scores[0, 1] = logit(0.06)  # 0.12 in sum
    boxes = torch.zeros(2, 2, 7)
    theirs = boxes.clone()
    theirs[:, 0, 0] = 1.0  # smooth L1 with beta 1/9: 1 - 1/18
    theirs[:, 1, 6] = math.pi / 2  # sine 1
    directions = torch.zeros(2, 2, 2)
    headings = torch.tensor([0.0, 3.0]).expand(2, 2, 2)
    found, turned = losses.box_responses(boxes, theirs, directions, headings, scores, 0.1)
    each = 1 - 1 / 18
    assert found.tolist() == [
        pytest.approx((0.8 * each + 0.12 * each) / 2, rel=1e-5),
        pytest.approx(0.8 * each, rel=1e-5),
    ]
    assert turned.tolist() == [
        pytest.approx((0.8 + 0.12) / 2 * math.log(2), rel=1e-5),
        pytest.approx(0.8 * math.log(2), rel=1e-5),
    ]


def test_the_focal_loss_by_hand():
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1)  # 1/4 and 3/4
    for truth, p in ((0, 0.25), (1, 0.75)):
        found = losses.depth_focal_loss(logits, torch.full((1, 1, 1), truth), 0.25, 2.0)
        assert found.item() == pytest.approx(-0.25 * (1 - p) ** 2 * math.log(p), rel=1e-5)
    assert losses.depth_focal_loss(logits, torch.full((1, 1, 1), -1)).item() == 0


def test_a_cell_has_the_nearest_of_its_known_pixels():
    depth = torch.zeros(1, 8, 24)
    depth[0, 2, 3], depth[0, 7, 7], depth[0, 0, 8] = 30.0, 12.0, 5.0
    assert nearest(depth).tolist() == [[[12.0, 5.0, 0.0]]]


STUDENT = random_detector(
    DetectorConfig(
        "cmkd_tiny", "random", WindowConfig((32, 64)),
        point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0),
    ),
    seed=0,
)  # fmt: skip


def random_maps(batch, seed):
    generator = torch.Generator().manual_seed(seed)
    return HeadMaps(
        *(2 * torch.randn(batch, channels, 4, 4, generator=generator) for channels in (18, 42, 12))
    )


def step(rows, seen=None):
    """Frames of two kinds in any order: `rows` says which; `seen` by the teacher."""
    ours, theirs, generator = random_maps(2, 1), random_maps(2, 2), torch.Generator().manual_seed(3)
    depth = torch.where(
        torch.rand(2, 32, 64, generator=generator) < 0.03,
        3 + 20 * torch.rand(2, 32, 64, generator=generator), 0,
    )  # fmt: skip
    boxes = torch.tensor([[[10.0, 0.0, -3.0, 8.0, 12.0, 6.0, 0.0]], [[18.0, 4, -3, 6, 6, 6, 0.5]]])
    logits = torch.randn(2, 65, 4, 8, generator=generator)

    def chosen(maps):
        return HeadMaps(*(part[rows] for part in (maps.logits, maps.deltas, maps.directions)))

    batch = Batch(
        names=tuple(map(str, rows)),
        images=torch.zeros(len(rows), 3, 32, 64),
        image_from_lidar=PROJECTION.expand(len(rows), -1, -1),
        points=torch.zeros(0, 4),
        samples=torch.zeros(0, dtype=torch.int64),
        boxes=tuple(boxes[row] for row in rows),
        labels=tuple(torch.tensor([2]) for _ in rows),
        depth=depth[rows],
        has_teacher=seen or (True,) * len(rows),
        labelled=(True,) * len(rows),
    )
    return StudentStep(
        STUDENT, batch, BevFeatures((), (), (), depth_logits=logits[rows]), chosen(ours),
        TeacherOutputs({}, chosen(theirs), None, None), batch.boxes, batch.labels,
    )  # fmt: skip


def values(part, *args):
    return {name: value.item() for name, value in part(step(*args)).items()}


@pytest.mark.parametrize("part", [ResponsePart(ResponseConfig()), BinsPart(BinsConfig())])
def test_the_size_of_the_batch_makes_no_difference(part):
    pair, twice = values(part, [0, 1]), values(part, [0, 1, 1, 0])
    assert pair == pytest.approx(twice, rel=1e-5)
    assert all(value > 0 for value in pair.values())


def test_responses_are_the_mean_of_the_frames_whatever_is_in_the_others():
    part = ResponsePart(ResponseConfig())
    first, second, both = (values(part, rows) for rows in ([0], [1], [0, 1]))
    mean = {name: (first[name] + second[name]) / 2 for name in both}
    assert both == pytest.approx(mean, rel=1e-5)
    assert first["cls"] != pytest.approx(second["cls"], rel=0.01)


def test_a_frame_that_the_teacher_has_not_seen_teaches_nothing():
    part = ResponsePart(ResponseConfig())
    assert values(part, [0, 1], (True, False)) == pytest.approx(values(part, [0]), rel=1e-5)
    assert set(values(part, [0, 1], (False, False)).values()) == {0.0}


def test_the_weights_of_responses():
    plain = values(ResponsePart(ResponseConfig(cls=1, box=1, dir=1)), [0, 1])
    cmkd = values(ResponsePart(ResponseConfig()), [0, 1])
    assert cmkd == pytest.approx(
        {"cls": 2 * plain["cls"], "box": 2 * plain["box"], "dir": 0.4 * plain["dir"]}
    )


def test_objects_count_thirteen_times():
    """Against the weighted mean over cells, computed point by point."""
    made = step([0, 1])
    total = weight = 0.0
    bins, logits = STUDENT.bins, made.features.depth_logits
    inside_cells = 0
    for frame in range(2):
        box = made.boxes[frame][0]
        depth = made.batch.depth[frame]
        for row in range(4):
            for column in range(8):
                block = depth[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                if not (block > 0).any():
                    continue
                inside = False
                for v, u in block.nonzero().tolist():
                    d = block[v, u].item()
                    x, y, z = d, (20 - (8 * column + u)) * d / 22, (10 - (8 * row + v)) * d / 22
                    dx, dy = x - box[0].item(), y - box[1].item()
                    cos, sin = math.cos(box[6]), math.sin(box[6])
                    along, across = cos * dx + sin * dy, cos * dy - sin * dx
                    inside |= (
                        abs(along) < box[3] / 2
                        and abs(across) < box[4] / 2
                        and box[2] < z < box[2] + box[5]
                    )
                truth = bins.classes(block[block > 0].min()).item()
                p = logits[frame, :, row, column].softmax(0)[truth].item()
                w = 13 if inside else 1
                inside_cells += inside
                total += w * -0.25 * (1 - p) ** 2 * math.log(p)
                weight += w
    assert 2 < inside_cells < 40
    assert values(BinsPart(BinsConfig()), [0, 1])["focal"] == pytest.approx(
        total / weight, rel=1e-4
    )


def test_what_lidar_did_not_see_has_no_gradient():
    made = step([0, 1])
    made.features.depth_logits.requires_grad_()
    BinsPart(BinsConfig())(made)["focal"].backward()
    known = nearest(made.batch.depth) > 0
    reached = made.features.depth_logits.grad.abs().sum(1) > 0
    assert torch.equal(reached, known)
    assert 0 < known.sum() < known.numel()


def test_a_cache_keeps_what_responses_read():
    """The sum over three classes may exceed what none of them does."""
    both = DistillConfig((Phase(1, {"logit": 1.0, "response": 1.0}),))
    assert both.answer_threshold == pytest.approx(0.1 / 3)
    assert DistillConfig((Phase(1, {"logit": 1.0}),)).answer_threshold == 0.1
    assert both.needs.answers
    assert DistillConfig((Phase(1, {"bins": 1.0}),)).needs.depth


@pytest.mark.parametrize(
    "wrong", [(ResponseConfig, {"threshold": 0.0}), (ResponseConfig, {"box": -1.0}),
              (BinsConfig, {"objects": -1.0}), (BinsConfig, {"gamma": float("inf")})]
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    kind, settings = wrong
    with pytest.raises(ConfigError, match=next(iter(settings))):
        kind(**settings)


def test_examples_are_true():
    assert not doctest.testmod(losses).failed
