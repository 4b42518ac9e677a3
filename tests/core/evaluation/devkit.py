"""The devkit's rules once more, one label and one detection at a time, with shapely's polygons."""

import math

from shapely.geometry import Polygon

from kd3d_core.data.labels import Label

HEIGHT, OCCLUSION, TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)
NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}


def footprint(label: Label) -> Polygon:
    _, width, length = label.dimensions
    cos, sin = math.cos(label.rotation_y), math.sin(label.rotation_y)
    corners = [(length / 2, width / 2), (length / 2, -width / 2)]
    corners += [(-x, -z) for x, z in corners]
    x, _, z = label.location
    return Polygon([(x + cos * a + sin * b, z - sin * a + cos * b) for a, b in corners])


def measure(metric: str, label: Label, detection: Label) -> tuple[float, float, float]:
    """Intersection, and size of the label and of the detection."""
    if metric == "bbox":
        a, b = label.bbox, detection.bbox
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        sizes = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return width * height, *sizes
    first, second = footprint(label), footprint(detection)
    inside = first.intersection(second).area
    if metric == "bev":
        return inside, first.area, second.area
    bottom = min(label.location[1], detection.location[1])
    top = max(
        label.location[1] - label.dimensions[0], detection.location[1] - detection.dimensions[0]
    )
    volumes = first.area * label.dimensions[0], second.area * detection.dimensions[0]
    return inside * max(0, bottom - top), *volumes


def iou(metric: str, label: Label, detection: Label) -> float:
    inside, size, other = measure(metric, label, detection)
    return inside / (size + other - inside)


def share(metric: str, area: Label, detection: Label) -> float:
    inside, _, size = measure(metric, area, detection)
    return inside / size


def roles(name, level, labels, detections):
    """0 counts, 1 is ignored, -1 is of no concern; of each label and detection of a frame."""
    label_roles, detection_roles = [], []
    for label in labels:
        height = label.bbox[3] - label.bbox[1]
        hard = label.occluded > OCCLUSION[level] or label.truncated > TRUNCATION[level]
        hard = hard or height <= HEIGHT[level]
        if label.type.lower() == name:
            label_roles.append(1 if hard else 0)
        else:
            label_roles.append(1 if label.type.lower() == NEIGHBOUR.get(name) else -1)
    for detection in detections:
        if int(abs(detection.bbox[1] - detection.bbox[3])) < HEIGHT[level]:
            detection_roles.append(1)
        else:
            detection_roles.append(0 if detection.type.lower() == name else -1)
    return label_roles, detection_roles


def count(metric, minimum, frame, given_roles, threshold):  # noqa: PLR0912 - as the devkit does it
    """Scores of the right ones, number of wrong ones and orientation similarity of a frame.

    Without threshold this is the first pass, where labels prefer the best score.
    """
    labels, detections = frame
    label_roles, detection_roles = given_roles
    taken = [threshold is not None and detection.score < threshold for detection in detections]
    counted = [role == 0 and not low for role, low in zip(detection_roles, taken, strict=True)]
    right, similarity = [], 0.0
    for label, role in zip(labels, label_roles, strict=True):
        if role == -1:
            continue
        best, best_value, best_is_ignored = None, -math.inf, False
        for index, detection in enumerate(detections):
            if taken[index] or detection_roles[index] == -1:
                continue
            overlap = iou(metric, label, detection)
            if overlap <= minimum:
                continue
            if threshold is None:
                if detection.score > best_value:
                    best, best_value = index, detection.score
            elif detection_roles[index] == 0:
                if best_is_ignored or overlap > best_value:
                    best, best_value, best_is_ignored = index, overlap, False
            elif best is None:
                best, best_is_ignored = index, True
        if best is None:
            continue
        taken[best] = True
        counted[best] = False
        if role == 0 and detection_roles[best] == 0:
            right.append(detections[best].score)
            similarity += (1 + math.cos(label.alpha - detections[best].alpha)) / 2
    for area in labels:
        if area.type.lower() == "dontcare":
            for index, detection in enumerate(detections):
                if counted[index] and share(metric, area, detection) > minimum:
                    counted[index] = False
    return right, sum(counted), similarity


def recall_thresholds(scores: list[float], number_of_labels: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    thresholds, current = [], 0.0
    for index, score in enumerate(scores):
        left = (index + 1) / number_of_labels
        right = (index + 2) / number_of_labels if index < len(scores) - 1 else left
        if right - current < current - left and index < len(scores) - 1:
            continue
        thresholds.append(score)
        current += 1 / 40
    return thresholds


def curves(frames, name: str, level: int, metric: str, minimum: float):
    """Precision and orientation similarity at 41 recall positions."""
    frame_roles = [roles(name, level, *frame) for frame in frames]
    total = sum(labels.count(0) for labels, _ in frame_roles)
    pairs = list(zip(frames, frame_roles, strict=True))
    scores = [s for frame, given in pairs for s in count(metric, minimum, frame, given, None)[0]]
    precision, similarity = [0.0] * 41, [0.0] * 41
    for position, threshold in enumerate(recall_thresholds(scores, total)):
        parts = [count(metric, minimum, frame, given, threshold) for frame, given in pairs]
        right, wrong = sum(len(part[0]) for part in parts), sum(part[1] for part in parts)
        precision[position] = right / max(right + wrong, 1)
        similarity[position] = sum(part[2] for part in parts) / max(right + wrong, 1)
    return (
        [max(precision[position:]) for position in range(41)],
        [max(similarity[position:]) for position in range(41)],
    )
