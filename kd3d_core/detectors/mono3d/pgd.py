"""PGD (Wang et al., 2021): FCOS3D with a distribution over depth, and keypoints beside the box."""

from kd3d_core.detectors.mono3d.design import ImageSettings, Mono3dDesign
from kd3d_core.detectors.mono3d.fcos3d import CAFFE, DENSE_HEAD, pyramid, resnet


def pgd(depth: int = 101) -> Mono3dDesign:
    """PGD for KITTI as mmdet3d has it: ResNet-101 and FPN, without PGD's graph of depths.

    Boxes with a score above 0.001, at most 20, after NMS at 0.05 in bird's-eye view.
    """
    return Mono3dDesign(
        network={
            "type": "FCOSMono3D",
            "backbone": resnet(depth),
            "neck": pyramid(start=0, levels=4),
            "bbox_head": {
                **DENSE_HEAD,
                "type": "PGDHead", "num_classes": 3, "strides": (4, 8, 16, 32),
                "regress_ranges": ((-1, 64), (64, 128), (128, 256), (256, 1e8)),
                # Place, depth, size, heading, eight corners and the middle less one, 2D box.
                "group_reg_dims": (2, 1, 3, 1, 16, 4),
                "reg_branch": ((256,), (256,), (256,), (256,), (256,), (256,)),
                "centerness_branch": (256,),
                "pred_attrs": False, "attr_branch": (256,), "pred_velo": False,
                "pred_bbox2d": True, "use_onlyreg_proj": True, "pred_keypoints": True,
                "use_depth_classifier": True, "depth_branch": (256,), "depth_range": (0, 70),
                "depth_unit": 10, "depth_bins": 8, "division": "uniform", "weight_dim": 1,
                "loss_depth": {"type": "UncertainSmoothL1Loss", "alpha": 1.0, "beta": 3.0},
                "bbox_code_size": 7,
                "bbox_coder": {
                    "type": "PGDBBoxCoder", "code_size": 7,
                    "base_depths": ((28.01, 16.32),),
                    "base_dims": ((0.8, 1.73, 0.6), (1.76, 1.73, 0.6), (3.9, 1.56, 1.6)),
                },
            },
            "test_cfg": {
                "use_rotate_nms": True, "nms_pre": 100, "nms_thr": 0.05, "score_thr": 0.001,
                "max_per_img": 20,
            },
        },
        image=ImageSettings(CAFFE),
        classes=("Pedestrian", "Cyclist", "Car"),
    )  # fmt: skip
