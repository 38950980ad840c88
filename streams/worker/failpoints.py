"""Failpoints: points in the path of a batch at which a test may kill the process: `PARCELS_FAILPOINT=name:N`.

The process ends with SIGKILL when it reaches the failpoint `name` for the Nth time. Without the variable a failpoint
does nothing.
"""

import os
import signal
import threading
from typing import Final, Literal, get_args

FailpointName = Literal[
    "after_fence",
    "while_restoring",
    "after_restore",
    "after_fold",
    "after_begin",
    "while_producing",
    "before_commit",
    "after_commit",
    "before_close",
]
FAILPOINT_NAMES: Final[tuple[str, ...]] = get_args(FailpointName)

_lock = threading.Lock()
_name, _, _count = os.environ.get("PARCELS_FAILPOINT", "").partition(":")
_remaining = int(_count or 1)


def hit_failpoint(name: FailpointName) -> None:
    """End this process here if the environment asks for it."""
    global _remaining  # noqa: PLW0603 - one countdown a process
    if name != _name:
        return
    with _lock:
        _remaining -= 1
        if _remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
