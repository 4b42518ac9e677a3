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
NEAR = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
"""A range with few cells, on which a network is as quick as it is the same."""


def config(kind: str) -> ConfigDict:
    """The `model` of mmdet3d's config file; for `lite`, MVX-Net's with other parts."""
    import mmdet3d

    if kind == "lite":
        from kd3d_core.detectors.upstream.inference import lite_config

        return lite_config().model
    return Config.fromfile(Path(mmdet3d.__file__).parent / ".mim/configs" / _FILES[kind]).model


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
