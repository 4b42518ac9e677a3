"""The same work on a Ray cluster."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_recording import drive, tree, write

from kd3d_core.errors import Kd3dError
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two machines with a worker each, all of them on this one."""
    ray = pytest.importorskip("ray", reason="the package ray isn't installed")
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    machines.add_node(num_cpus=1)
    yield machines.address
    ray.shutdown()
    machines.shutdown()


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes(cluster: str, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(60))
    extract([bag], tmp_path / "here", ExtractConfig())
    extract([bag], tmp_path / "there", ExtractConfig(), ray_address=cluster)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


@pytest.mark.slow
def test_an_error_on_a_cluster_is_one_line(cluster: str, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(3))
    (tmp_path / "out" / ".extract").mkdir(parents=True)
    (tmp_path / "out" / "training").write_text("a file where the frames' folder goes")
    with pytest.raises(Kd3dError, match="can't be written") as caught:
        extract([bag], tmp_path / "out", ExtractConfig(), ray_address=cluster)
    assert "\n" not in str(caught.value)


def test_without_ray_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    bag = write(tmp_path / "bag", drive(2))
    with pytest.raises(Kd3dError, match=r"pip install 'kd3d_ros\[ray\]'"):
        extract([bag], tmp_path / "out", ExtractConfig(), ray_address="auto")
