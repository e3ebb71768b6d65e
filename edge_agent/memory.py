"""Memory that was freed goes back to the system: the C library would keep it, once for each thread that has loaded."""

import ctypes


def give_back() -> None:
    """Return what is free; takes a few milliseconds. Where the C library is not glibc it does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
