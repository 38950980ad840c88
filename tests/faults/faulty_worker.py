"""`parcels run` with a fault, which the environment names.

PARCELS_TEST_GROUP=NAME: in a consumer group of its own, so that it believes to own every partition beside the group
that does. PARCELS_TEST_STOP_AT=POINT:N: stops itself (SIGSTOP) at the Nth pass of a named point of a batch's path.
PARCELS_TEST_HANG=1: hangs in its first turn, and is given 2 seconds until somebody notices.
PARCELS_TEST_LONG_FOLD=1: a batch takes a minute to fold, as one with a Tick at which a million parcels are due may.
PARCELS_TEST_UNHEARD=1: its first request to join a group is never answered, and it is given 2 seconds to miss that.
"""

import os
import signal
import threading
import time
from typing import Any, ClassVar
from unittest.mock import patch

from confluent_kafka import Consumer

from streams.cli.app import main
from streams.processors import registry
from streams.worker import group_membership, partition_task, worker, worker_process


class HaltAt:
    """Stands in for `hit_failpoint`; the process goes on when it gets SIGCONT."""

    def __init__(self, where: str) -> None:
        self._point, _, times = where.partition(":")
        self._left = int(times or 0)
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        with self._lock:
            self._left -= point == self._point
            halt = point == self._point and self._left == 0
        if halt:
            os.kill(os.getpid(), signal.SIGSTOP)


def hang(_: object) -> None:
    time.sleep(600)


def long_fold(_: object) -> None:
    print("folding", flush=True)
    time.sleep(60)


class Unheard(Consumer):
    """A client that waits for ever if it is the first of its group to join."""

    _groups: ClassVar[set[str]] = set()

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._group: str = options["group.id"]

    def subscribe(self, *args: Any, **options: Any) -> None:
        if self._group in self._groups:
            super().subscribe(*args, **options)
        self._groups.add(self._group)


if __name__ == "__main__":
    hangs = "PARCELS_TEST_HANG" in os.environ
    unheard = "PARCELS_TEST_UNHEARD" in os.environ
    long = "PARCELS_TEST_LONG_FOLD" in os.environ
    with (
        patch(
            "streams.processors.registry.PARCELS_GROUP", os.environ.get("PARCELS_TEST_GROUP", registry.PARCELS_GROUP)
        ),
        patch("streams.worker.partition_writer.hit_failpoint", HaltAt(os.environ.get("PARCELS_TEST_STOP_AT", ""))),
        patch("streams.worker.partition_task.hit_failpoint", long_fold if long else partition_task.hit_failpoint),
        patch("streams.worker.worker_process._HUNG_SECONDS", 2.0 if hangs else worker_process._HUNG_SECONDS),
        patch("streams.kafka.clients.Consumer", Unheard if unheard else Consumer),
        patch("streams.worker.group_membership._JOIN_SECONDS", 2.0 if unheard else group_membership._JOIN_SECONDS),
        patch.object(worker.Worker, "_turn", hang if hangs else worker.Worker._turn),
    ):
        main()
