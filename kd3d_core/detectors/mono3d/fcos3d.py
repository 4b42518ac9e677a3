"""FCOS3D (Wang et al., 2021): each cell of a feature pyramid says which object lies around it."""

from kd3d_core.detectors.mono3d.design import ImageSettings, Mono3dDesign, NetworkSettings
from kd3d_core.detectors.mvxnet import ImageNormalization

CAFFE = ImageNormalization((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), bgr=True)
"""Of ResNets in the authors' layout."""

_NUSCENES = {
    "car": "Car", "truck": None, "trailer": None, "bus": None, "construction_vehicle": None,
    "bicycle": "Cyclist", "motorcycle": None, "pedestrian": "Pedestrian", "traffic_cone": None,
    "barrier": None,
}  # fmt: skip
"""Of nuScenes' classes, in its order, those of KITTI. A bicycle there may be without a rider."""


def resnet(depth: int, *, deformable: bool = False) -> NetworkSettings:
    """A ResNet in Caffe's layout; `deformable`: in the 3x3 convolutions of its last two stages."""
    settings = {
        "type": "mmdet.ResNet", "depth": depth, "style": "caffe", "norm_eval": True,
        "norm_cfg": {"type": "BN", "requires_grad": False},
    }  # fmt: skip
    if deformable:
        settings["dcn"] = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
        settings["stage_with_dcn"] = (False, False, True, True)
    return settings


def pyramid(start: int, levels: int) -> NetworkSettings:
    """A feature pyramid of 256 channels on a ResNet's stages from `start` on."""
    return {
        "type": "mmdet.FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256,
        "start_level": start, "num_outs": levels,
        "add_extra_convs": "on_output", "relu_before_extra_convs": True,
    }  # fmt: skip


DENSE_HEAD: NetworkSettings = {
    "in_channels": 256, "feat_channels": 256, "stacked_convs": 2,
    "cls_branch": (256,), "dir_branch": (256,),
    "use_direction_classifier": True, "diff_rad_by_sin": True, "dir_offset": 0.7854,
    "norm_on_bbox": True, "centerness_on_reg": True, "center_sampling": True,
    "conv_bias": True, "dcn_on_last_conv": True,
}  # fmt: skip
"""What the heads of FCOS3D and PGD share."""


def fcos3d(depth: int = 101) -> Mono3dDesign:
    """FCOS3D for nuScenes as mmdet3d has it: ResNet-101 with deformable convolutions, FPN.

    Boxes with a score above 0.05, at most 200, after rotated NMS at 0.8 in bird's-eye view.
    """
    return Mono3dDesign(
        network={
            "type": "FCOSMono3D",
            "backbone": resnet(depth, deformable=True),
            "neck": pyramid(start=1, levels=5),
            "bbox_head": {
                **DENSE_HEAD,
                "type": "FCOSMono3DHead", "num_classes": 10, "strides": [8, 16, 32, 64, 128],
                "group_reg_dims": (2, 1, 3, 1, 2),  # place, depth, size, heading, velocity
                "reg_branch": ((256,), (256,), (256,), (256,), ()),
                "attr_branch": (256,), "pred_attrs": True, "pred_velo": True,
                "dir_limit_offset": 0,
                "bbox_coder": {"type": "FCOS3DBBoxCoder", "code_size": 9},
            },
            "test_cfg": {
                "use_rotate_nms": True, "nms_pre": 1000, "nms_thr": 0.8, "score_thr": 0.05,
                "max_per_img": 200,
            },
        },
        image=ImageSettings(CAFFE),
        classes=tuple(_NUSCENES.values()),
    )  # fmt: skip
