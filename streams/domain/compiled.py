"""`compiled`: run a plain function as machine code, or as it is with NUMBA_DISABLE_JIT=1.

Compiled code is kept on disk, so that a restarted worker does not compile again. Numba notices a change of the
file that holds a function, but not of a file whose functions it calls; so the folder of the cache carries a digest
of every file that holds compiled code, and a change of any of them starts a new folder.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., object])


def _cache_folder() -> Path:
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(f"{numba.__version__} {os.environ.get('NUMBA_BOUNDSCHECK', '')}".encode())
    for room in ("domain", "kernel"):
        for source in sorted((package / room).glob("*.py")):
            digest.update(source.read_bytes())
    base = os.environ.get("PARCELS_CACHE_DIR") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "parcel-streams"
    )
    return Path(base, "compiled", digest.hexdigest()[:16])


# Numba reads this attribute when a function is first called, not when it is imported.
numba.config.CACHE_DIR = str(_cache_folder())
if numba.config.DISABLE_JIT:
    # Hashes wrap around on purpose; compiled code does so silently, NumPy's scalars would warn.
    np.seterr(over="ignore")


def compiled(function: Function) -> Function:
    """Compile `function` with Numba at its first call: no GIL while it runs, wrap-around integers, cached on disk."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Like `compiled`, for small functions that are called once per record or more: always inlined by LLVM."""
    return cast(Function, numba.njit(cache=True, nogil=True, forceinline=True)(function))


def borrowing(function: Function) -> Function:
    """Like `compiled`, for a loop that neither makes nor returns arrays: references to its arrays are not counted.

    Numba counts them (atomically, some 5 ns each) for every array passed to a function or assigned to a name, also
    where LLVM has inlined that function. Making an array in here fails to compile; returning one would free it early.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, _nrt=False)(function))


def borrowing_inlined(function: Function) -> Function:
    """`borrowing` and `inlined`: for small functions that take arrays and return numbers."""
    return cast(Function, numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)(function))
