"""CMKD (Hong et al., 2022): a camera's features, lifted by a depth distribution into voxels."""
