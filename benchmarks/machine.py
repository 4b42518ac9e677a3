"""What a benchmark ran on, for the titles of its tables."""

import torch


def device_name(device: str) -> str:
    """Name of the GPU, or that it is the CPU and how many threads torch uses on it."""
    if "cuda" in device:
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
