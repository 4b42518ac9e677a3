"""Driving scenes made up from a seed: image, LiDAR scan, calibration and labels that agree.

A scene is a mesh (`mesh`, `materials`; `vehicles`, `people`, `scenery`), put together for one
moment of a drive (`street`, `traffic`, `drive`). Rays are cast into it (`raycast`) from the camera
(`picture`, lit by `lighting` and `texture`, exposed by `sensor`) and from the LiDAR (`lidar`).
`labels` reads the truth off the same mesh, `dataset` writes it all in KITTI's layout, and `render`
does so with a progress bar.
"""
