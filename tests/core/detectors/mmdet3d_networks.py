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


def config(kind: str) -> ConfigDict:
    """The `model` of mmdet3d's config file; for `lite`, MVX-Net's with other parts."""
    import mmdet3d

    if kind == "lite":
        from kd3d_core.detectors.upstream.inference import lite_config

        return lite_config().model
    return Config.fromfile(Path(mmdet3d.__file__).parent / ".mim/configs" / _FILES[kind]).model


def network(kind: str, seed: int = 0) -> torch.nn.Module:
    """With weights drawn from `seed`."""
    import mmdet3d.models  # noqa: F401
    from mmdet3d.registry import MODELS

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS.build({**config(kind), "data_preprocessor": None}).eval()


def head(built: torch.nn.Module) -> torch.nn.Module:
    return getattr(built, "bbox_head", None) or built.pts_bbox_head
