"""What happens in a capture gateway, as plain records: each is both a metric and a log line (see streams/observe)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Why a request, or a record of one, was turned away.
DENIAL_REASONS: Final = (
    "no_credentials",
    "unknown_device",
    "revoked",
    "bad_signature",
    "bad_digest",
    "component_not_signed",
    "created_out_of_window",
    "replayed",
    "bad_token",
    "insecure_transport",
    "out_of_scope",
    "rate_limited",
)
ROUTE_LABELS: Final = ("scans", "capture", "events", "read")
# A conflict is a record whose id is known with other content: refused as well.
RECORD_RESULTS: Final = ("accepted", "duplicate", "conflict", "refused")


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request was answered; `seconds` from its first byte to the answer."""

    route: str
    status: int
    seconds: float
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class RequestDenied:
    """Somebody may not do what he asked for. `device` is the name that was claimed and is known, else empty."""

    reason: str
    device: str


@dataclass(frozen=True, slots=True)
class SpoolStopped:
    """The spool cannot be written, or is full: requests are answered with 503."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class SpoolRecovered:
    """The spool can be written again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KafkaUnavailable:
    """Records stay in the spool: Kafka does not take them."""

    error: str


@dataclass(frozen=True, slots=True)
class KafkaRecovered:
    """Kafka takes records again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayState:
    """How things stand, once a second."""

    pending_bytes: int
    forwarded_records: int
    groups: int
    frames: int
    sync_seconds: float
    # Beyond so many pending bytes nothing is accepted.
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class GatewayStarted:
    """The gateway listens."""

    address: str
    insecure: bool


@dataclass(frozen=True, slots=True)
class GatewayStopped:
    """The gateway has stopped; everything accepted is in the spool."""

    pending_bytes: int


GatewayEvent = (
    RequestAnswered
    | RequestDenied
    | SpoolStopped
    | SpoolRecovered
    | KafkaUnavailable
    | KafkaRecovered
    | GatewayState
    | GatewayStarted
    | GatewayStopped
)
GatewayEventListener = Callable[[GatewayEvent], None]
