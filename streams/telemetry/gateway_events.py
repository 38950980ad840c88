"""The events of a capture gateway, as plain records. Each gives metrics and a log line (see streams/observe)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Why a request, or a record of one, was denied to its sender.
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
# A conflict is a record whose id is known with other content. Its sender is told that it was rejected.
RECORD_RESULTS: Final = ("accepted", "duplicate", "conflict", "rejected")


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request was answered; `seconds` is the time from its head to the answer."""

    route: str
    status: int
    seconds: float
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class RequestDenied:
    """A sender was not permitted to make a request or send a record. `device` is empty for an unknown name."""

    reason: str
    device: str


@dataclass(frozen=True, slots=True)
class SpoolStopped:
    """The spool cannot be written, or is full: requests are answered with 503."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class SpoolRecovered:
    """The spool can be written again, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KafkaUnavailable:
    """Kafka does not accept records: they stay in the spool."""

    error: str


@dataclass(frozen=True, slots=True)
class KafkaRecovered:
    """Kafka accepts records again, after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayState:
    """The state of the gateway, once a second: the bytes that wait for Kafka, and totals since the start."""

    pending_bytes: int
    forwarded_records: int
    group_commits: int
    frames: int
    sync_seconds: float
    # Limit of the pending bytes; above it nothing is accepted.
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class GatewayStarted:
    """The gateway listens at this address."""

    address: str
    # It admits everybody (--insecure-local).
    allows_anonymous: bool


@dataclass(frozen=True, slots=True)
class GatewayStopped:
    """The gateway has stopped. Everything it accepted is in Kafka or in the spool."""

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
