"""A film of ten minutes: every frame once, memory flat, and it goes on where it was cut off."""

import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from seeing_detector import SeeingDetector

from kd3d_core.frames import FrameResult
from kd3d_core.offline.inputs import InputSettings, find_source
from kd3d_core.offline.run import detect_frames
from kd3d_core.offline.sinks import KittiSink, Sink
from kd3d_core.offline.store import ResultStore
from kd3d_core.offline.video_sink import VideoSink

COUNT, RATE_HZ, SIZE = 10 * 60 * 30, 30.0, (128, 72)
SETTINGS = InputSettings(slice(None), hfov_deg=70, height_m=1.65, pitch_deg=0.0)


class Memory(Sink):
    """Peak memory in MB after so many frames; may end the run as Ctrl-C does."""

    def __init__(self, stop_after: int = -1) -> None:
        self.peaks: dict[int, float] = {}
        self.count, self._stop_after = 0, stop_after

    def add(self, result: FrameResult) -> None:
        self.count += 1
        if self.count % 3000 == 0:
            self.peaks[self.count] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self.count == self._stop_after:
            raise KeyboardInterrupt

    def __exit__(self, kind, error, trace) -> None:
        pass


@pytest.mark.slow
def test_ten_minutes_at_thirty_frames_per_second(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, RATE_HZ, SIZE)
    for number in range(COUNT):
        writer.write(np.full((SIZE[1], SIZE[0], 3), number % 200, np.uint8))
    writer.release()
    store = ResultStore(tmp_path / "kept", "model")

    def run(memory: Memory):
        source = find_source([str(path)], SETTINGS)
        assert source.count == COUNT
        sinks = [
            KittiSink(tmp_path / "kitti", source.names, overwrite=True),
            VideoSink(tmp_path / "out.mp4", source.rate_hz),
            memory,
        ]
        return detect_frames(source, SeeingDetector(), store, sinks)

    first = run(Memory(stop_after=2000))
    assert (first.detected, first.interrupted) == (2000, True)
    memory = Memory()
    rest = run(memory)
    assert (rest.detected, rest.kept, rest.bad) == (COUNT - 2000, 2000, ())
    assert len(list((tmp_path / "kitti").iterdir())) == COUNT
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == COUNT
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(RATE_HZ, rel=1e-3)
    assert memory.peaks[COUNT] - memory.peaks[6000] < 30, memory.peaks
