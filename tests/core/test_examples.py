"""The `>>>` examples in docstrings: there is one in each public function, and it is true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

PACKAGES = ("kd3d_core.geometry", "kd3d_core.ops", "kd3d_core.evaluation")
MODULES = [
    *(
        "kd3d_core.data.photos",
        "kd3d_core.models.pseudo_lidar",
        "kd3d_core.depth.loss",
        "kd3d_core.distill.losses",
    ),
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}.")
    ),
]
WITHOUT_EXAMPLES = {
    "kd3d_core.ops.mmcv_ext",  # its functions are mmcv's
    "kd3d_core.evaluation.depth.model_depth",  # needs a model
    # To be written:
    "kd3d_core.depth.loss",
    "kd3d_core.distill.losses",
    "kd3d_core.geometry.camera",
    "kd3d_core.geometry.window",
    "kd3d_core.ops.focal",
    "kd3d_core.ops.rotated",
    "kd3d_core.ops.scatter",
    "kd3d_core.ops.sparse_conv",
    "kd3d_core.ops.voxelize",
    "kd3d_core.models.pseudo_lidar",
}
"""Modules and functions."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for example in doctest.DocTestFinder().find(module):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)
    if name not in WITHOUT_EXAMPLES:
        functions = inspect.getmembers(module, inspect.isfunction)
        own = [each for _, each in functions if each.__module__ == name]
        public = [each for each in own if not each.__name__.startswith("_")]
        missing = {
            f"{name}.{each.__name__}" for each in public if ">>>" not in (each.__doc__ or "")
        }
        assert missing <= WITHOUT_EXAMPLES
