"""Settings of a worker's process: two defaults, of Python and of the C library, would cost it a third of its speed."""

import ctypes
import gc
from typing import Final

# mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD. The second one's largest value on 64 bits.
_TRIM, _MMAP = -1, -3
_KEEP_BYTES: Final = 256 << 20
_LARGEST_BYTES: Final = 32 << 20


def tune_process() -> None:
    """Switch the cycle collector off, and keep the memory of a batch for the next one.

    A batch makes some hundred thousand objects without cycles, and the collector would visit each of them again and
    again; `collect_garbage` takes its place. The C library would return the buffers of every batch to the kernel, which
    clears every page before it hands it out again. Figures in docs/decisions/producer.md.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    library = ctypes.CDLL(None)
    # mallopt belongs to glibc; other C libraries lack it.
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP, _LARGEST_BYTES)
        library.mallopt(_TRIM, _KEEP_BYTES)


def collect_garbage() -> None:
    """Free objects in cycles, which errors and their tracebacks leave behind; to be called now and then."""
    gc.collect()
