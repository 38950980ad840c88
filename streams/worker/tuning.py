"""How the process of a worker is set: two defaults that cost it a third of its speed."""

import ctypes
import gc
from typing import Final

# mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD. The second one's largest value on 64 bits.
_TRIM, _MMAP = -1, -3
_KEEP_BYTES: Final = 256 << 20
_LARGEST_BYTES: Final = 32 << 20


def tune_process() -> None:
    """Take the cycle collector out of the way, and keep the memory of a batch for the next one.

    A batch makes some hundred thousand objects that hold no cycles; the collector would visit each of them again and
    again. `collect_garbage` is to be called now and then instead. And the C library would give the buffers of every batch back
    to the kernel, which clears every page before it hands it out again. Figures in docs/decisions/producer.md.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    library = ctypes.CDLL(None)
    # Of glibc; another C library has its own ways.
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP, _LARGEST_BYTES)
        library.mallopt(_TRIM, _KEEP_BYTES)


def collect_garbage() -> None:
    """Free what is left of cycles; errors and their tracebacks hold some."""
    gc.collect()
