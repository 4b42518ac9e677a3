"""mmdet3d's own network, test pipeline and post-processing for `lite`, to be compared with."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import mmdet3d.models
import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Box3DMode, LiDARInstance3DBoxes, LiDARPoints
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope

from kd3d_core.detectors.anchor_detector import AnchorDetector

_ROOT = Path(mmdet3d.__file__).parent
_FILE = "mvxnet/mvxnet_fpn_dv_second_secfpn_8xb2-80e_kitti-3d-3class.py"
_PILLAR = (0.2, 0.2, 4.0)


def lite_config() -> Config:
    """mmdet3d's configuration of MVX-Net, with the parts of `lite` in it."""
    config = Config.fromfile(_ROOT / ".mim/configs" / _FILE)
    model = config.model
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
    return config


class UpstreamLite:
    """What `mmdet3d.apis.inference_multi_modality_detector` does, with arrays in place of files.

    That is in its favour: it would also read image and cloud from a disk, and make the pipeline
    anew for each frame.
    """

    def __init__(
        self, detector: AnchorDetector, device: torch.device, image_size: tuple[int, int]
    ) -> None:
        """
        Args:
            detector: `lite`, whose weights are taken.
            device: where it runs.
            image_size: height and width that the pipeline brings images to, as one scale allows.
        """
        init_default_scope("mmdet3d")
        _register_pipeline_steps()
        config = lite_config()
        decoding = detector.decoding
        config.model.test_cfg.pts.update(
            score_thr=decoding.score_threshold, nms_thr=decoding.nms_iou,
            nms_pre=decoding.pre_nms, max_num=decoding.max_boxes,
        )  # fmt: skip
        self._network = MODELS.build(config.model).eval()
        self._network.load_state_dict(detector.network.state_dict(), strict=False)
        self._network.to(device)
        steps = config.test_dataloader.dataset.pipeline[2:]  # without those that read files
        steps[0].img_scale = image_size[::-1]
        self._pipeline = Compose(steps)

    def __call__(
        self, points: np.ndarray, image: np.ndarray, image_from_lidar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes `(M, 7)`, scores and labels of points `(N, 4)` and an RGB image `(H, W, 3)`."""
        bgr = np.ascontiguousarray(image[..., ::-1])
        projection = np.eye(4, dtype=np.float32)
        projection[:3] = image_from_lidar
        data: dict[str, Any] = {
            "points": LiDARPoints(points, points_dim=4), "img": bgr, "lidar2img": projection,
            "img_shape": bgr.shape[:2], "ori_shape": bgr.shape[:2],
            "box_type_3d": LiDARInstance3DBoxes, "box_mode_3d": Box3DMode.LIDAR,
        }  # fmt: skip
        with torch.no_grad():
            (answer,) = self._network.test_step(pseudo_collate([self._pipeline(data)]))
        found = answer.pred_instances_3d
        return (
            found.bboxes_3d.tensor.cpu().numpy(),
            found.scores_3d.cpu().numpy(),
            found.labels_3d.cpu().numpy(),
        )


def _register_pipeline_steps() -> None:
    """Import `mmdet3d.datasets.transforms` alone: the package around it wants two data set kits."""
    name = "mmdet3d.datasets"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(_ROOT / "datasets")]
        sys.modules[name] = package
    importlib.import_module(f"{name}.transforms")
