"""One model of `kd3d-compare`, in a process of its own: detections, depth errors, time, memory."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import run
from kd3d_core.devices import Precision

if TYPE_CHECKING:
    import numpy as np

    from kd3d_core.data.kitti import KittiDataset, KittiFrame
    from kd3d_core.evaluation.depth import DepthReport
    from kd3d_core.geometry.camera import PinholeCamera
    from kd3d_core.runtime.detections import Detections
    from kd3d_core.runtime.pipeline import CameraDetector


def measure(
    model: str,
    data: Path,
    *,
    out: Path,
    ids: Path,
    digest: str,
    device: str = "auto",
    precision: Precision = "auto",
) -> None:
    """Write `out/detections/*.txt`, and at the end `out/result.json`.

    Args:
        model: a name in config/models or weights, or a YAML file.
        data: data set in KITTI's layout.
        out: folder of the model.
        ids: file that lists the frames.
        digest: hash of all that the result depends on, written into it.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks; auto suits the device.
    """
    from kd3d_core.bench.machine import machine_report, peak_memory_gib
    from kd3d_core.bench.measure import summary
    from kd3d_core.bench.ours import count_parameters
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.data.splits import read_split
    from kd3d_core.files import write_json
    from kd3d_core.runtime.pipeline import CameraDetector

    dataset = KittiDataset(data).subset(read_split(ids))
    detector = CameraDetector.from_config(model, device, precision)
    timed = _TimedDetector(detector, out / "detections")
    depth = timed.depth_errors(dataset)
    memory = peak_memory_gib(detector.device)  # before `count_parameters`, which may need some
    write_json(
        out / "result.json",
        {
            "digest": digest,
            "description": detector.description,
            "trained_on": detector.card.trained_on,
            "trained": detector.trained,
            "parameters": count_parameters(detector.model),
            "memory_gib": memory,
            "ms": summary(timed.times_ms),
            "machine": machine_report(detector.device),
            "depth": None if depth is None else depth.to_json(),
        },
    )


class _TimedDetector:
    """Frames through a detector, each once, and their boxes into files.

    Attributes:
        times_ms: time of each frame, from the image's bytes to boxes on the host.
    """

    def __init__(self, detector: "CameraDetector", folder: Path) -> None:
        self.times_ms: list[float] = []
        self._detector, self._folder = detector, folder
        detector.warm_up()

    def depth_errors(self, dataset: "KittiDataset") -> "DepthReport | None":
        """Detect in all frames; errors of depth, if the model has it and all frames have LiDAR."""
        from kd3d_core.evaluation.depth import DepthRules, evaluate_depth

        if self._detector.model.depth_window is not None and not dataset.without_lidar():
            return evaluate_depth(dataset, self.depth, DepthRules())
        for frame in dataset:
            self.detect(frame)
        return None

    def depth(self, frame: "KittiFrame") -> "np.ndarray":
        """Detect in a frame; its depth `(H, W)` in metres, 0 where the model sees nothing."""
        import numpy as np

        found, camera = self.detect(frame)
        depth = found.depth_image(camera)
        assert depth is not None, "the model has depth"
        return np.nan_to_num(depth)

    def detect(self, frame: "KittiFrame") -> "tuple[Detections, PinholeCamera]":
        """Detect in a frame, and write its boxes."""
        from kd3d_core.data.label_boxes import box_labels
        from kd3d_core.data.labels import labels_text
        from kd3d_core.files import write_whole

        image = frame.image()
        camera = frame.camera(image.shape[:2])
        found = self._detector(image, camera)
        self.times_ms.append(sum(found.timings.values()))
        names = [self._detector.class_names[label] for label in found.labels]
        labels = box_labels(found.boxes, found.scores.tolist(), names, camera)
        write_whole(self._folder / f"{frame.name}.txt", labels_text(labels).encode())
        return found, camera


def main() -> int:
    """Run by `kd3d-compare`."""
    return run(
        measure,
        prog="kd3d-compare",
        description="Measures one model; kd3d-compare calls it for each.",
        examples=["python -m kd3d_core.cli.compare_model demo data/kitti --out out/demo ..."],
    )


if __name__ == "__main__":
    sys.exit(main())
