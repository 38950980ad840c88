"""`jit`: run a plain function as machine code, or as it is with NUMBA_DISABLE_JIT=1.

Compiled code is kept on disk, so that a restarted worker does not compile again. Numba notices a change of the file
that holds a function, but not of a file whose functions it calls. So the name of the cache folder contains a digest
of every source of compiled code, and a change of any of them starts a new folder.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., object])

# Files and folders of `domain/` whose functions and constants no compiled code uses.
_NEVER_COMPILED: Final = (
    "container_events.py",
    "containers.py",
    "double_containment.py",
    "gs1.py",
    "identifiers.py",
    "reference",
)


def compiled_sources(package: Path) -> list[Path]:
    """The possible sources of compiled code: files below `domain/` and `kernel/`, at any depth.

    Args:
        package: the folder of the package `streams`.
    """
    never = [package / "domain" / name for name in _NEVER_COMPILED]
    return [
        source
        for room in ("domain", "kernel")
        for source in sorted((package / room).rglob("*.py"))
        if not any(source.is_relative_to(path) for path in never)
    ]


def compiled_digest(package: Path) -> str:
    """The SHA-256, in hex, of all that determines compiled code: its sources, the version of Numba and its options.

    Args:
        package: the folder of the package `streams`.
    """
    digest = hashlib.sha256(f"{numba.__version__} {os.environ.get('NUMBA_BOUNDSCHECK', '')}".encode())
    for source in compiled_sources(package):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(package)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _cache_folder() -> Path:
    base = os.environ.get("PARCELS_CACHE_DIR") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "parcel-streams"
    )
    return Path(base, "compiled", compiled_digest(Path(__file__).parent.parent)[:16])


# Numba reads this attribute when a function is first called, not when it is imported.
_config: Any = numba.config
_config.CACHE_DIR = str(_cache_folder())
if _config.DISABLE_JIT:
    # Hashes wrap around on purpose. Compiled code does so silently; the scalars of NumPy would warn.
    np.seterr(over="ignore")


# In compiled code every integer has 64 bits; without compilation an element of an array is a NumPy scalar. For the type
# checker both are `int`.
int64 = cast(Callable[[Any], int], np.int64)

# No reference counts for arrays: see `jit`. The type stubs of Numba lack the flag.
_OPTIONS: Any = {"cache": True, "nogil": True, "_nrt": False}


def jit(function: Function) -> Function:
    """Compile `function` with Numba at its first call: without the GIL, integers wrap around, kept on disk.

    For loops that take arrays and neither create nor return one. By default Numba counts the references to every array
    that is passed on or named: atomically, some 5 ns each, even where LLVM has inlined the callee. Here it does not.
    A function that creates an array fails to compile; a function that returns one would free it early.
    """
    return cast(Function, numba.njit(**_OPTIONS)(function))


def jit_inline(function: Function) -> Function:
    """Like `jit`, for small functions that are called once per record or more: always inlined by LLVM."""
    return cast(Function, numba.njit(**_OPTIONS, forceinline=True)(function))
