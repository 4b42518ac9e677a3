"""Detectors on one image that mmdet3d publishes weights of: its networks, run as it does."""
