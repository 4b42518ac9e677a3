"""Inference engines: the parts of a model whose shapes never change, computed without torch."""
