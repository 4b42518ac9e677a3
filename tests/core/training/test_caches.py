"""Filling caches together: every frame once, on one machine or on several."""

from types import SimpleNamespace

import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.training import caches


@pytest.mark.parametrize(("beside", "shared"), [(4, True), (2, True), (2, False)])
def test_every_disk_has_every_frame(street, monkeypatch, beside, shared):
    """Four processes, one after the other, on one or two machines."""
    frames = KittiDataset(street)
    disks: dict[int, list[str]] = {}
    rounds: dict[int, list[list[str]]] = {}
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(beside))
    for process in range(4):
        disk = disks.setdefault(0 if shared else process // beside, [])
        here = SimpleNamespace(
            process_index=process, num_processes=4, local_process_index=process % beside,
            is_main_process=process == 0, wait_for_everyone=lambda: None,
        )  # fmt: skip
        monkeypatch.setattr(caches, "processes", lambda here=here: here)

        def fill(share, on_frame, disk=disk, process=process):
            lacking = [name for name in share.names if name not in disk]
            disk += lacking
            rounds.setdefault(process, []).append(lacking)

        caches.fill_together("clouds", frames, fill)
    assert all(sorted(disk) == list(frames.names) for disk in disks.values())
    first = [name for process in range(4) for name in rounds.get(process, [[]])[0]]
    if beside == 4:
        assert sorted(first) == list(frames.names)
        assert all(len(made) == 1 for made in rounds.values())
