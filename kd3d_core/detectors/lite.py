"""lite: MVX-Net's design for CPUs and small robots.

ResNet-18 without its last stage (three quarters of its weights, and coarser than a distant car) on
a 192 x 640 image, pillars instead of voxels (so no sparse convolution), and the same detector
frame, BEV grid of 0.4 m, anchors and head as MVX-Net.
"""

from mmengine.config import ConfigDict

from kd3d_core.detectors.mvxnet import mvxnet_config

_PILLAR = (0.2, 0.2, 4.0)


def lite_config() -> ConfigDict:
    """The mmdet3d model config of lite: MVX-Net's, with each part replaced by a smaller one."""
    model = mvxnet_config()
    point_cloud_range = model.pts_voxel_encoder.point_cloud_range
    model.data_preprocessor.update(
        # ImageNet's statistics in RGB, as torchvision's ResNet-18 has them.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    )
    model.data_preprocessor.voxel_layer.voxel_size = _PILLAR
    model.img_backbone = ConfigDict(
        type="mmdet.ResNet",
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg={"type": "BN", "requires_grad": True},
        norm_eval=False,
        style="pytorch",
    )
    model.img_neck = ConfigDict(
        type="mmdet.FPN",
        in_channels=[64, 128, 256],
        out_channels=64,
        norm_cfg={"type": "BN", "requires_grad": True},
        num_outs=3,
    )
    model.pts_voxel_encoder.update(feat_channels=[32], voxel_size=_PILLAR)
    model.pts_voxel_encoder.fusion_layer.update(
        img_channels=64,
        pts_channels=32,
        mid_channels=32,
        out_channels=32,
        img_levels=[0, 1, 2],
    )
    model.pts_middle_encoder = None
    model.pts_backbone = ConfigDict(
        type="SECOND",
        in_channels=32,
        out_channels=[64, 128],
        layer_nums=[2, 3],
        layer_strides=[2, 2],
    )
    model.pts_neck = ConfigDict(
        type="SECONDFPN",
        in_channels=[64, 128],
        upsample_strides=[1, 2],
        out_channels=[64, 64],
    )
    model.pts_bbox_head.update(in_channels=128, feat_channels=128)
    assert tuple(point_cloud_range) == tuple(model.data_preprocessor.voxel_layer.point_cloud_range)
    return model
