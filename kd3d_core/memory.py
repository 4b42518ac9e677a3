"""How the process gets memory from the system."""

import ctypes

# mallopt's parameters in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, for the next tensor of that size.

    By default glibc gives every large block back at once and asks for new pages for the next one,
    which the kernel clears and maps one by one: tens of thousands in each training step on a CPU.
    The process keeps the most that it ever needed. Where there is no glibc, nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
