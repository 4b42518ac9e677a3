"""mmdet3d's own networks, from its own config files, as references of ours."""

from pathlib import Path

import mmcv
import mmcv_voxels
import torch
from mmengine.config import Config, ConfigDict

import kd3d_core.detectors.upstream  # noqa: F401  (makes mmcv._ext, before mmdet3d asks for it)

for op in mmcv_voxels.OPS:
    setattr(mmcv._ext, op.__name__, op)

KINDS = ("lite", "mvxnet", "second", "pointpillars")
_FILES = {
    "mvxnet": "mvxnet/mvxnet_fpn_dv_second_secfpn_8xb2-80e_kitti-3d-3class.py",
    "second": "second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py",
    "pointpillars": "pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py",
}
_PILLAR = (0.2, 0.2, 4.0)
NEAR = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
"""A range with few cells, on which a network is as quick as it is the same."""


def config(kind: str) -> ConfigDict:
    """The `model` of mmdet3d's config file; for `lite`, MVX-Net's with other parts."""
    import mmdet3d

    if kind != "lite":
        return Config.fromfile(Path(mmdet3d.__file__).parent / ".mim/configs" / _FILES[kind]).model
    model = config("mvxnet")
    model.data_preprocessor.update(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    )
    model.data_preprocessor.voxel_layer.voxel_size = _PILLAR
    norm = {"type": "BN", "requires_grad": True}
    model.img_backbone = ConfigDict(
        type="mmdet.ResNet", depth=18, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
        out_indices=(0, 1, 2), norm_cfg=norm, norm_eval=False, style="pytorch",
    )  # fmt: skip
    model.img_neck = ConfigDict(
        type="mmdet.FPN", in_channels=[64, 128, 256], out_channels=64, norm_cfg=norm, num_outs=3
    )
    model.pts_voxel_encoder.update(feat_channels=[32], voxel_size=_PILLAR)
    model.pts_voxel_encoder.fusion_layer.update(
        img_channels=64, pts_channels=32, mid_channels=32, out_channels=32, img_levels=[0, 1, 2]
    )
    model.pts_middle_encoder = ConfigDict(
        type="PointPillarsScatter", in_channels=32, output_shape=[400, 352]
    )
    model.pts_backbone = ConfigDict(
        type="SECOND", in_channels=32, out_channels=[64, 128], layer_nums=[2, 3],
        layer_strides=[2, 2],
    )  # fmt: skip
    model.pts_neck = ConfigDict(
        type="SECONDFPN", in_channels=[64, 128], upsample_strides=[1, 2], out_channels=[64, 64]
    )
    model.pts_bbox_head.update(in_channels=128, feat_channels=128)
    return model


def near(model: ConfigDict) -> ConfigDict:
    """The same for `NEAR`."""

    def part(name: str) -> ConfigDict:
        return model.get(name) or model[f"pts_{name}"]

    low_x, low_y, _, high_x, high_y, _ = NEAR
    width, depth, _ = model.data_preprocessor.voxel_layer.voxel_size
    rows, columns = round((high_y - low_y) / depth), round((high_x - low_x) / width)
    model.data_preprocessor.voxel_layer.point_cloud_range = list(NEAR)
    if "point_cloud_range" in part("voxel_encoder"):
        part("voxel_encoder").point_cloud_range = list(NEAR)
    middle = part("middle_encoder")
    if "sparse_shape" in middle:
        middle.sparse_shape = [middle.sparse_shape[0], rows, columns]
    else:
        middle.output_shape = [rows, columns]
    anchors = part("bbox_head").anchor_generator
    anchors.ranges = [[low_x, low_y, z, high_x, high_y, z] for *_, z in anchors.ranges]
    return model


def network(kind: str, seed: int = 0, is_near: bool = False) -> torch.nn.Module:
    """With weights drawn from `seed`; for `NEAR`, or as its file has it."""
    import mmdet3d.models  # noqa: F401
    from mmdet3d.registry import MODELS

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = near(config(kind)) if is_near else config(kind)
        return MODELS.build({**model, "data_preprocessor": None}).eval()


def head(built: torch.nn.Module) -> torch.nn.Module:
    return getattr(built, "bbox_head", None) or built.pts_bbox_head
