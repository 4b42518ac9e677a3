"""mmcv's own Python wrappers on our ops."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import mmcv_ext, nms_rotated

if not mmcv_ext.install():
    pytest.skip("mmcv has its own compiled ops", allow_module_level=True)
ops = pytest.importorskip("mmcv.ops")


def in_a_new_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class TestInstall:
    def test_again_changes_nothing(self):
        before = sys.modules["mmcv._ext"]
        assert mmcv_ext.install()
        assert sys.modules["mmcv._ext"] is before

    def test_leaves_a_compiled_mmcv_alone(self, monkeypatch):
        compiled = ModuleType("mmcv._ext")
        monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
        assert not mmcv_ext.install()
        assert sys.modules["mmcv._ext"] is compiled

    def test_a_broken_compiled_mmcv_is_replaced_aloud(self, monkeypatch, caplog):
        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "mmcv._ext":
                    raise ImportError("undefined symbol")

        monkeypatch.delitem(sys.modules, "mmcv._ext")
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        assert mmcv_ext.install()
        assert "undefined symbol" in caplog.text

    def test_a_missing_mmcv_is_an_error_that_says_what_to_do(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mmcv", None)
        with pytest.raises(Kd3dError, match="pip install"):
            mmcv_ext.install()

    def test_an_op_that_we_lack_raises_its_name(self, device):
        points = torch.zeros(1, 4, 3, device=device)
        with pytest.raises(Kd3dError, match="'ball_query_forward'"):
            ops.ball_query(0.0, 1.0, 2, points, points)

    def test_the_ops_themselves_import_neither_mmcv_nor_mmdet3d(self):
        code = (
            "import sys, kd3d_core.ops, kd3d_core.ops.mmcv_ext\n"
            "print([m for m in sys.modules if m.split('.')[0] in ('mmcv', 'mmdet3d', 'mmengine')])"
        )
        assert in_a_new_process(code) == "[]"


class TestBoxes:
    BOXES = ((0, 0, 4, 2, 0.5), (0.2, 0, 4, 2, 0.5), (9, 9, 2, 2, 1), (9, 9, 2, 2, 1))
    SCORES = (0.5, 0.9, 0.7, 0.6)

    @pytest.fixture
    def boxes(self, device) -> Tensor:
        return torch.tensor(self.BOXES, device=device)

    @pytest.fixture
    def scores(self, device) -> Tensor:
        return torch.tensor(self.SCORES, device=device)

    def test_nms_rotated(self, boxes, scores):
        kept, indices = ops.nms_rotated(boxes, scores, 0.5)
        assert indices.tolist() == [1, 2]
        torch.testing.assert_close(kept, torch.cat([boxes, scores[:, None]], 1)[indices])

    def test_nms_rotated_with_labels(self, boxes, scores):
        labels = torch.tensor([0, 1, 1, 1], device=boxes.device)
        assert ops.nms_rotated(boxes, scores, 0.5, labels)[1].tolist() == [1, 2, 0]

    def test_nms(self, device):
        boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [8, 8, 9, 9]], device=device)
        scores = torch.tensor([0.3, 0.8, 0.1], device=device)
        assert ops.nms(boxes, scores, 0.5)[1].tolist() == [1, 2]

    @pytest.mark.parametrize("mode", ["iou", "iof"])
    def test_box_iou_rotated(self, boxes, mode):
        """Box 2 and 3 are the same; the same shape 0.2 m aside along x covers less than itself."""
        ious = ops.box_iou_rotated(boxes, boxes, mode)
        assert ious.shape == (4, 4)
        assert ious[2, 3].item() == pytest.approx(1)
        assert ious[0, 2].item() == 0
        along, across = 0.2 * torch.tensor(0.5).cos(), 0.2 * torch.tensor(0.5).sin()
        overlap = (4 - along) * (2 - across)
        whole = 16 - overlap if mode == "iou" else 8
        assert ious[0, 1].item() == pytest.approx((overlap / whole).item(), abs=1e-5)
        torch.testing.assert_close(
            ops.box_iou_rotated(boxes, boxes, mode, aligned=True), torch.ones(4).to(boxes)
        )

    def test_counter_clockwise_boxes_turn_the_other_way(self, boxes, scores):
        mirrored = boxes * torch.tensor([1, 1, 1, 1, -1], device=boxes.device)
        torch.testing.assert_close(
            ops.box_iou_rotated(boxes, boxes, clockwise=False),
            ops.box_iou_rotated(mirrored, mirrored),
        )

    def test_mmdet3d_bev_nms(self, boxes, scores):
        from mmdet3d.models.layers import nms_bev

        corners = torch.cat(
            [boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2, boxes[:, 4:]], 1
        )
        kept = nms_bev(corners, scores, 0.5)
        assert kept.tolist() == nms_rotated(boxes, scores, 0.5).tolist() == [1, 2]


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss(device, weighted):
    """mmdet's FocalLoss calls the compiled op on a GPU, and its own formula on the CPU."""
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

    logits = torch.randn(12, 3, device=device)
    target = torch.arange(12, device=device) % (3 if weighted else 4)
    weight = torch.tensor([1.0, 2.0, 3.0], device=device) if weighted else None
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    loss = ops.sigmoid_focal_loss(ours, target, 2.0, 0.25, weight, "none")
    row_weight = weight[target] if weighted else None
    one_hot = F.one_hot(target, 4)[:, :3]
    expected = py_sigmoid_focal_loss(theirs, one_hot, row_weight, reduction="none")
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
