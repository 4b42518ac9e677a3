"""mmcv's own Python wrappers, and mmdet3d's models, on our ops."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import mmcv_ext, nms_rotated, scatter_points

if not mmcv_ext.install():
    pytest.skip("mmcv has its own compiled ops", allow_module_level=True)
ops = pytest.importorskip("mmcv.ops")

SHAPE = (5, 8, 6)
RANGE = [0, -2, -3, 4, 2, 1]
VOXEL_SIZE = [0.5, 0.25, 1.0]


def in_a_new_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
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


class TestPoints:
    @pytest.fixture
    def points(self) -> Tensor:
        points = torch.rand(300, 4) * 5
        points[:, 1] -= 2.5
        points[:, 2] -= 3.5
        return points

    def test_dynamic_voxelization(self, device, points):
        layer = ops.Voxelization(VOXEL_SIZE, RANGE, max_num_points=-1, max_voxels=-1)
        coords = layer(points.to(device)).cpu()
        low, high = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
        inside = ((points[:, :3] >= low) & (points[:, :3] < high)).all(dim=1)
        expected = torch.floor((points[:, :3] - low) / torch.tensor(VOXEL_SIZE)).int().flip(1)
        assert torch.equal(coords, torch.where(inside[:, None], expected, -1))
        assert inside.any()
        assert not inside.all()

    def test_hard_voxelization(self, device, points):
        layer = ops.Voxelization(VOXEL_SIZE, RANGE, max_num_points=3, max_voxels=50)
        voxels, coords, counts = layer(points.to(device))
        assert voxels.shape == (50, 3, 4)
        assert len(set(map(tuple, coords.tolist()))) == 50
        assert set(counts.tolist()) <= {1, 2, 3}
        low = torch.tensor(RANGE[:3], device=device)
        size = torch.tensor(VOXEL_SIZE, device=device)
        for voxel, coord, count in zip(voxels, coords, counts.tolist(), strict=True):
            cells = torch.floor((voxel[:count, :3] - low) / size).int()
            assert torch.equal(cells, coord.flip(0).expand(count, -1))
            assert not voxel[count:].any()

    @pytest.mark.parametrize("average", [True, False])
    def test_dynamic_scatter_of_a_batch(self, device, average):
        coords = torch.randint(0, 3, (100, 4), device=device).int()
        coords[:, 0] = torch.arange(100) // 50
        coords[::7, 1:] = -1
        features = torch.randn(100, 6, device=device)
        layer = ops.DynamicScatter(VOXEL_SIZE, RANGE, average)
        ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
        expected = scatter_points(ours, coords, "mean" if average else "max")
        voxels, voxel_coords = layer(theirs, coords)

        assert torch.equal(voxel_coords, expected.coords)
        torch.testing.assert_close(voxels, expected.features)
        weight = torch.randn_like(voxels)
        (voxels * weight).sum().backward()
        (expected.features * weight).sum().backward()
        torch.testing.assert_close(theirs.grad, ours.grad)
        assert theirs.grad.any()


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


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # mmcv indexes with a list
class TestSparseConvolution:
    """mmcv's modules against dense convolution; they take float32 only."""

    @pytest.fixture
    def sites(self, device) -> Tensor:
        coords = (torch.rand(2, *SHAPE) < 0.2).nonzero()
        return coords[torch.randperm(len(coords))].to(device, torch.int32)

    def tensor(self, sites: Tensor, channels: int = 3):
        features = torch.randn(len(sites), channels, device=sites.device, requires_grad=True)
        return ops.SparseConvTensor(features, sites, SHAPE, 2), features

    def dense_weight(self, layer: torch.nn.Module) -> Tensor:
        return layer.weight.double().permute(4, 3, 0, 1, 2)

    def check_gradients(self, ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
        for a, b in zip(
            torch.autograd.grad(ours.sin().sum(), inputs),
            torch.autograd.grad(theirs.sin().sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert a.any()

    def test_submanifold(self, device, sites):
        layer = ops.SubMConv3d(3, 4, 3, padding=1, bias=True).to(device)
        sparse, features = self.tensor(sites)
        out = layer(sparse)
        dense = F.conv3d(
            sparse.dense().double(), self.dense_weight(layer), layer.bias.double(), padding=1
        ).permute(0, 2, 3, 4, 1)[tuple(sites.long().T)]
        assert torch.equal(out.indices, sites)
        torch.testing.assert_close(out.features.double(), dense, rtol=1e-5, atol=1e-5)
        self.check_gradients(out.features, dense, [features, layer.weight, layer.bias])

    @pytest.mark.parametrize(
        ("kernel", "stride", "padding"), [(3, 2, 1), (3, 2, (0, 1, 1)), ((3, 1, 1), (2, 1, 1), 0)]
    )
    def test_strided(self, device, sites, kernel, stride, padding):
        layer = ops.SparseConv3d(3, 4, kernel, stride, padding, bias=False).to(device)
        sparse, features = self.tensor(sites)
        out = layer(sparse).dense()
        dense = F.conv3d(sparse.dense().double(), self.dense_weight(layer), None, stride, padding)
        torch.testing.assert_close(out.double(), dense, rtol=1e-5, atol=1e-5)
        self.check_gradients(out, dense, [features, layer.weight])

    def test_transposed(self, device, sites):
        layer = ops.SparseConvTranspose3d(3, 4, 3, 2, 1, bias=False).to(device)
        sparse, features = self.tensor(sites)
        out = layer(sparse).dense()
        weight = layer.weight.double().permute(3, 4, 0, 1, 2)
        dense = F.conv_transpose3d(sparse.dense().double(), weight, None, 2, 1)
        torch.testing.assert_close(out.double(), dense, rtol=1e-5, atol=1e-5)
        self.check_gradients(out, dense, [features, layer.weight])

    def test_inverse_returns_to_the_sites(self, device, sites):
        """Down, then inverse: with the same key, <down(x), down(x)> = <inverse(down(x)), x>."""
        down = ops.SparseConv3d(3, 4, 3, 2, 1, bias=False, indice_key="down").to(device)
        back = ops.SparseInverseConv3d(4, 3, 3, indice_key="down", bias=False).to(device)
        back.weight.data = down.weight.data.transpose(-1, -2).contiguous()
        sparse, features = self.tensor(sites)
        middle = down(sparse)
        out = back(middle)
        assert torch.equal(out.indices, sites)
        torch.testing.assert_close(
            (out.features * features).sum(), middle.features.square().sum(), rtol=1e-4, atol=1e-4
        )
        gradients = torch.autograd.grad(out.features.sum(), [features, down.weight, back.weight])
        assert all(gradient.any() for gradient in gradients)

    def test_shared_key_shares_the_rulebook(self, device, sites, monkeypatch):
        calls = []
        built = mmcv_ext.sparse_conv.submanifold_rulebook
        monkeypatch.setattr(
            mmcv_ext.sparse_conv,
            "submanifold_rulebook",
            lambda *arguments: calls.append(arguments) or built(*arguments),
        )
        first = ops.SubMConv3d(3, 3, 3, padding=1, indice_key="key").to(device)
        second = ops.SubMConv3d(3, 3, 3, padding=1, indice_key="key").to(device)
        second(first(self.tensor(sites)[0]))
        assert len(calls) == 1


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
class TestMmdet3d:
    @pytest.fixture
    def encoder(self, device) -> torch.nn.Module:
        import mmdet3d.models  # noqa: F401
        from mmdet3d.registry import MODELS

        settings = {
            "type": "SparseEncoder",
            "in_channels": 8,
            "sparse_shape": [41, 48, 32],
            "order": ("conv", "norm", "act"),
        }
        return MODELS.build(settings).to(device)

    def test_sparse_encoder_runs_forward_and_backward(self, device, encoder):
        coords = (torch.rand(2, 41, 48, 32) < 0.01).nonzero().to(device)
        features = torch.randn(len(coords), 8, device=device, requires_grad=True)
        bev = encoder(features, coords, 2)
        bev.square().sum().backward()
        assert bev.shape == (2, 256, 6, 4)
        assert bev.isfinite().all()
        assert features.grad.any()
        assert all(weight.grad.any() for weight in encoder.parameters())

    def test_weights_keep_the_layout_of_its_checkpoints(self, encoder):
        weights = encoder.state_dict()
        assert weights["conv_input.0.weight"].shape == (3, 3, 3, 8, 16)
        assert weights["conv_out.0.weight"].shape == (3, 1, 1, 64, 128)
