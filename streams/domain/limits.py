"""Bounds of the content of a record; a record beyond them becomes a dead letter, with reason OUT_OF_BOUNDS.

Each bound is far above the needs of a hub, and keeps a broken or hostile sender from disturbing other parcels.
"""

from typing import Final

MAX_PARCEL_ID_BYTES: Final = 128  # a GS1 Digital Link of an SSCC has 41
MAX_EVENT_ID_BYTES: Final = 1024  # an EPCIS content hash has 80
MAX_TEXT_BYTES: Final = 255  # site, station, lane, reason, container, and each text of a plan
MAX_RECORD_BYTES: Final = 64 * 1024
# 1900-01-01T00:00Z and 2200-01-01T00:00Z in ms since 1970. In between, ms fit the table's 44 bits.
EARLIEST_MS: Final = -2_208_988_800_000
LATEST_MS: Final = 7_258_118_400_000
MAX_UTC_OFFSET_MINUTES: Final = 14 * 60  # EPCIS 2.0: up to 14:00 in both directions
# A parcel has about 12 scans; a stuck reader may send thousands. The state of a parcel is one Kafka record.
MAX_RECORDS_PER_PARCEL: Final = 10_000
MAX_VOIDS_PER_PARCEL: Final = 1_000
MAX_CONTAINER_ID_BYTES: Final = 128
# One aggregation names every child of a ULD: some 50,000 at most.
MAX_CONTAINER_RECORD_BYTES: Final = 1 << 20
# A freighter is a container as well: it holds ULDs, and bags may go into it directly.
MAX_CHILDREN_PER_CONTAINER: Final = 100_000
MAX_EVENTS_PER_CONTAINER: Final = 10_000
# Children named by all packings and removals together; they are kept until the container retires.
MAX_NAMED_CHILDREN_PER_CONTAINER: Final = 1_000_000
# Parcel, bag, ULD, flight, and room for the nesting of partners.
MAX_NESTING_DEPTH: Final = 8
