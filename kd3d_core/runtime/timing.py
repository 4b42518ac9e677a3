"""StageTimer: how long each stage took on its device, without making the device wait."""

import time

import torch


class StageTimer:
    """Marks the end of stages; reads the times once the device is done."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, torch.cuda.Event | float]] = []
        self.mark("start")

    def mark(self, stage: str) -> None:
        """Everything queued since the last mark belongs to `stage`."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, time.perf_counter()))

    def milliseconds(self) -> dict[str, float]:
        """Stage to milliseconds; on CUDA, waits until the device has finished the last mark."""
        times = {}
        _, last = self._marks[-1]
        if not isinstance(last, float):
            last.synchronize()
        for (_, before), (stage, after) in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(before, float) and isinstance(after, float):
                times[stage] = (after - before) * 1e3
            else:
                times[stage] = before.elapsed_time(after)  # type: ignore[union-attr,arg-type]
        return times
