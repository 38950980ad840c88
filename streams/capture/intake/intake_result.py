"""What became of the records of one request, before they are on disk."""

from dataclasses import dataclass, field
from typing import Any

from streams.capture.intake.dedup_cache import CapturedEvent, DedupEntry
from streams.capture.spool.segment_files import SpoolEntry


@dataclass(slots=True)
class IntakeResult:
    """What became of the records of one request, before they are on disk."""

    results: list[dict[str, Any]] = field(default_factory=list)
    entries: list[SpoolEntry] = field(default_factory=list)
    # What to remember once it is on disk.
    dedup_entries: dict[bytes, DedupEntry] = field(default_factory=dict)
    # EPCIS events as they are archived, by identity.
    events: dict[bytes, CapturedEvent] = field(default_factory=dict)
    accepted: int = 0
    duplicates: int = 0
    # Refused, because their identity is known with other content; and for any other reason.
    conflicts: int = 0
    refused: int = 0
    # Objects that its EPCIS events name, and bytes that these become.
    object_count: int = 0
    bytes: int = 0
    # Records that were refused because of who sent them.
    out_of_scope: int = 0
