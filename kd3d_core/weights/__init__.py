"""Weights by name: what is published where, what is on this machine, and how it gets there.

`tensors` reads their files for whoever has a network to fill.
"""

from kd3d_core.weights.store import resolve

__all__ = ["resolve"]
