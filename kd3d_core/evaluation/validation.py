"""Metrics of a validation during training, ranked to choose the best checkpoint."""

from collections.abc import Sequence

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.distance_ap import distance_ap
from kd3d_core.evaluation.kitti_ap import evaluate_both

RANKED_METRICS = ("mAP_3d_moderate", "mAP_3d_loose", "mAP_distance")
"""Means over the classes: R40 at KITTI's overlaps, R40 at the loose overlaps, AP by distance.

The better of two checkpoints is the one with the larger first metric; where that is equal (0, as a
rule) or None, the next decides.
"""


def validation_metrics(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    classes: Sequence[str],
) -> dict[str, float | None]:
    """`RANKED_METRICS`, and for each class AP in 3D, from above, at loose overlap and by distance.

    All are in percent; KITTI's are of the moderate level. A metric is None if no label counts, or
    if it is KITTI's and the class isn't. AP by distance has no minimum of recall or precision here,
    so that it rises with the first right detection.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 21.5  0  0.9", "example")
    >>> metrics = validation_metrics([[car]], [[found]], ["Car"])
    >>> [metrics[name] for name in RANKED_METRICS]
    [0.0, 0.0, 50.0]
    """
    strict, loose = evaluate_both(ground_truth, detections)
    by_distance = distance_ap(ground_truth, detections, classes, min_recall=0, min_precision=0)
    defined = [value for value in by_distance.values() if value is not None]
    names = [name.lower() for name in classes]
    means = (
        strict.mean_r40("3d", "moderate", names),
        loose.mean_r40("3d", "moderate", names),
        sum(defined) / len(defined) if defined else None,
    )
    metrics = dict(zip(RANKED_METRICS, means, strict=True))
    for name in classes:
        metrics[f"{name}_3d"] = strict.mean_r40("3d", "moderate", [name.lower()])
        metrics[f"{name}_bev"] = strict.mean_r40("bev", "moderate", [name.lower()])
        metrics[f"{name}_3d_loose"] = loose.mean_r40("3d", "moderate", [name.lower()])
        metrics[f"{name}_distance"] = by_distance[name]
    return metrics
