"""Weights by name: what is published where, what is on this machine, and how it gets there.

Nothing here looks into a file: reading weights safely is the loaders' business.
"""

from kd3d_core.weights.store import resolve

__all__ = ["resolve"]
