"""Memory of the host that this process has freed and still holds."""

import contextlib
import ctypes


def give_back_memory() -> None:
    """Has the C library return to the system what is free in this process, which it keeps otherwise (glibc alone).

    Compiling and loading leave much in pieces that are too small for what follows.
    """
    with contextlib.suppress(OSError, AttributeError):  # of other libraries
        ctypes.CDLL(None).malloc_trim(0)
