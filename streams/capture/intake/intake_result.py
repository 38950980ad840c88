"""The result of checking the records of one request, before they are on disk."""

from dataclasses import dataclass, field
from typing import Any

from streams.capture.intake.dedup_cache import CapturedEvent, DedupEntry
from streams.capture.spool.segment_files import SpoolEntry


@dataclass(slots=True)
class IntakeResult:
    """The result of checking the records of one request, before they are on disk."""

    # The result of each record of POST /scans, as it is answered.
    record_results: list[dict[str, Any]] = field(default_factory=list)
    # The spool entries of the accepted records.
    entries: list[SpoolEntry] = field(default_factory=list)
    # What the dedup cache and the event cache get by identity, once the entries are on disk.
    dedup_entries: dict[bytes, DedupEntry] = field(default_factory=dict)
    captured_events: dict[bytes, CapturedEvent] = field(default_factory=dict)
    accepted: int = 0
    duplicates: int = 0
    # Rejected because the identity is known with other content, and rejected for any other reason.
    conflicts: int = 0
    rejected: int = 0
    # Objects that the EPCIS events name, and bytes of the records made from these events.
    object_count: int = 0
    record_bytes: int = 0
    # The rejected records that the sender was not authorized to send.
    out_of_scope: int = 0
