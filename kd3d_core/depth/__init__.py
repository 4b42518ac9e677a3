"""Monocular depth: the only room that knows transformers."""
