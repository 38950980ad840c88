"""A name for a worker that it finds again after a restart: the group then returns its partitions at once.

A static member that was killed and is back within its session keeps its partitions, and no other member is disturbed
(docs/decisions/). The names of one machine are slots. A file lock holds each of them and ends with the process.
"""

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import IO, Final

from streams.errors import Misconfigured

_SLOTS: Final = 64


class StaticMemberId:
    """The first free slot of this machine for a group, held until the process ends."""

    def __init__(self, group: str) -> None:
        """Take a slot.

        Raises:
            Misconfigured: the temporary folder cannot be written, or there are too many workers on this machine.
        """
        folder = Path(tempfile.gettempdir(), f"parcels-{os.getuid()}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            message = f"{folder} cannot be made ({error}): set TMPDIR, or name the worker with --group-instance-id"
            raise Misconfigured(message) from error
        for slot in range(_SLOTS):
            lock = _lock(folder / f"{group}.{slot}.lock")
            if lock is not None:
                self._lock = lock
                self.group_instance_id = f"{socket.gethostname()}-{slot}"
                return
        message = f"{_SLOTS} workers of {group} run on this machine: name this one with --group-instance-id"
        raise Misconfigured(message)


def _lock(path: Path) -> IO[str] | None:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
