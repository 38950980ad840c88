"""The expected outputs of the parcel processor, in dicts and sorted lists: slow, plain, and without the kernel.

Everything is derived from all distinct records of a parcel, each time that it is needed.
"""

import struct
from collections import Counter

import mmh3

from streams.domain import kinds
from streams.domain.kinds import KINDS, MILESTONE_TYPES
from streams.domain.promises import Promises
from streams.domain.reference.alerts import ReferenceAlertEvaluator
from streams.domain.reference.containment import ChildScan, derive_containment
from streams.domain.reference.promise_clocks import ParcelRecord, evaluate
from tests.kernel.records import type_of

NO_TIME = -(2**63)
LOCATION_FIELDS = ("site", "station", "lane", "reason")
PLAN_FIELDS = ("direction", "service", "origin", "destination", "planned_lane", "owner")


def kind_names(bits):
    return {name for number, name in enumerate(KINDS) if bits >> number & 1}


STAGE_KINDS = kind_names(kinds.STAGE_KINDS)
CUSTOMS_KINDS = kind_names(kinds.CUSTOMS_KINDS)
NO_LOCATION = kind_names(kinds.NO_LOCATION)
MILESTONE_KINDS = kind_names(kinds.MILESTONE_KINDS)
IN_HUB_STAGES = kind_names(kinds.IN_HUB_STAGES)
UNCONTAINED = kind_names(kinds.UNCONTAINED)

LEAVES_HUB = {"DISPATCHED", "DELIVERED", "RETURNED", "LOST"}
ENTERS_HUB = {"ARRIVED", "UNLOADED", "INDUCTED", "SORTED", "NO_READ", "RECIRCULATED", "LOADED"}


def hash128(message):
    return struct.pack(">QQ", *mmh3.hash64(message, 0, x64arch=True, signed=False))


def kind_of(record):
    return record["kind"] if type_of(record) == "Scan" else "ADVISED"


def record_hash_of(record):
    message = record["event_id"].encode()
    if kind_of(record) == "VOID":
        message += b"\0" + struct.pack(">q", record["event_time"])
    return hash128(message)


class DistinctRecord:
    """One distinct record."""

    def __init__(self, record):
        self.record = record
        self.kind = kind_of(record)
        self.record_hash = record_hash_of(record)
        self.time = record["event_time"]
        self.key = (self.time, KINDS.index(self.kind), self.record_hash)
        self.target = hash128(record["voids"].encode()) if self.kind == "VOID" else None
        self.is_advice = type_of(record) == "Advice"

    def __getitem__(self, field):
        return self.record.get(field)


class Parcel:
    """The distinct records of one parcel."""

    def __init__(self, parcel_id, promises):
        self.parcel_id = parcel_id
        self.records_by_hash = {}
        self.alert_evaluator = ReferenceAlertEvaluator(parcel_id, promises, hash128)

    def records(self):
        """For streams/domain/reference/promise_clocks.py."""
        return [
            ParcelRecord(
                record_hash=record.record_hash,
                kind=record.kind,
                time=record.time,
                site=record["site"] or "",
                station=record["station"] or "",
                lane=record["lane"],
                reason=record["reason"],
                voids=record.target,
                plan=plan_of(record) if record.is_advice else None,
                promised_at=record["promised_at"],
                container=record["container_id"],
                inferred=record["inferred_from"] is not None,
            )
            for record in self.records_by_hash.values()
        ]

    def ordered(self):
        return sorted(self.records_by_hash.values(), key=lambda record: record.key)

    def targets(self):
        return {record.target for record in self.records_by_hash.values()}

    def effective(self):
        not_counting = self.not_counting()
        return [record for record in self.ordered() if record.kind != "VOID" and record.record_hash not in not_counting]

    def not_counting(self):
        """Hashes of the targets of VOIDs and of the superseded records."""
        targets = self.targets()
        scans = [record for record in self.ordered() if record.kind != "VOID" and not record.is_advice]
        superseded = derive_containment([containment_record_of(record, targets) for record in scans]).superseded
        return targets | {
            record.record_hash for record, is_superseded in zip(scans, superseded, strict=True) if is_superseded
        }

    def first_records(self):
        """kind -> the first record that counts, for each kind whose first time is a milestone."""
        return {record.kind: record for record in reversed(self.effective()) if record.kind in MILESTONE_KINDS}

    def last_advice(self):
        return last(self.effective(), lambda record: record.is_advice)

    def is_in_hub(self):
        """From the first scan that proves it, until the parcel leaves; it may be packed and unpacked anywhere."""
        latest = last(self.effective(), lambda record: record.kind in LEAVES_HUB | ENTERS_HUB)
        return latest is not None and latest.kind in ENTERS_HUB

    def direction(self):
        latest = self.last_advice()
        return "UNKNOWN" if latest is None else latest["direction"]

    def monitoring(self, hub_time):
        """The fields of ParcelState that depend on the promises."""
        evaluation = evaluate(self.alert_evaluator.promises, self.records(), hub_time)
        return {
            "journeys": evaluation.journey_count,
            "clocks": [
                {
                    "promise": name,
                    "status": clock.status,
                    "since": clock.start.time,
                    "deadline": clock.deadline,
                    "remaining_ms": clock.remaining if clock.status == "PAUSED" else None,
                    "stopped_at": clock.stop and clock.stop.time,
                }
                for name, clock in evaluation.clocks.items()
            ],
            # The newest first.
            "active_alerts": [
                {"condition": condition, "type": alert.type, "since": alert.since, "alert_id": alert.alert_id}
                for condition, alert in reversed(self.alert_evaluator.active_alerts.items())
            ],
        }

    def state(self, hub_time):
        """ParcelState as fastavro reads it, times as numbers."""
        effective = self.effective()
        scans = [record for record in effective if not record.is_advice]
        stage = last(effective, lambda record: record.kind in STAGE_KINDS - {"ADVISED"})
        stage = stage or last(effective, lambda record: record.kind == "ADVISED")
        customs = last(scans, lambda record: record.kind in CUSTOMS_KINDS)
        held = customs is not None and customs.kind == "CUSTOMS_HELD"
        location = last(scans, lambda record: record.kind not in NO_LOCATION)
        lane = last(scans, lambda record: record.kind in {"SORTED", "LOADED"} and record["lane"] is not None)
        latest = self.last_advice()
        times = {}
        for record in effective:
            times.setdefault(record.kind, []).append(record.time)
        return {
            "parcel_id": self.parcel_id,
            "version": len(self.records_by_hash),
            "stage": stage and stage.kind,
            "stage_time": stage and stage.time,
            "customs": customs and customs.kind,
            "held": held,
            "hold_reason": customs["reason"] if held else None,
            "site": location and location["site"],
            "station": location and location["station"],
            "container_id": container_of(scans, self.ordered(), self.targets()),
            "lane": lane and lane["lane"],
            "damaged": "DAMAGED" in times,
            "no_reads": len(times.get("NO_READ", ())),
            "recirculations": len(times.get("RECIRCULATED", ())),
            "plan": latest and plan_of(latest),
            "promised_at": latest and latest["promised_at"],
            "kinds": [
                {"kind": kind, "first": min(times[kind]), "last": max(times[kind]), "count": len(times[kind])}
                for kind in KINDS
                if kind in times
            ],
            "timeline": self.entries(),
            **self.monitoring(hub_time),
        }

    def entries(self):
        not_counting = self.not_counting()
        return [
            {
                "record_hash": record.record_hash,
                "kind": record.kind,
                "event_time": record.time,
                "utc_offset_minutes": record["utc_offset_minutes"] or 0,
                "voided": record.kind != "VOID" and record.record_hash in not_counting,
                "inferred": record["inferred_from"] is not None,
                "details": None if record.is_advice else {field: record[field] for field in LOCATION_FIELDS},
                "container_id": None if record.kind == "VOID" else record["container_id"],
                "voids": record.target,
                "plan": plan_of(record) if record.is_advice else None,
                "promised_at": record["promised_at"],
            }
            for record in self.ordered()
        ]

    def add(self, record):
        """Add a record. Returns None for a duplicate, else the milestones that follow."""
        distinct = DistinctRecord(record)
        if distinct.record_hash in self.records_by_hash:
            return None
        before = self.first_records()
        self.records_by_hash[distinct.record_hash] = distinct
        after = self.first_records()
        milestones = [self.milestone(kind, before.get(kind), after.get(kind), distinct) for kind in KINDS]
        return [milestone for milestone in milestones if milestone]

    def milestone(self, kind, before, after, cause):
        if before is after or (before and after and before.time == after.time):
            return None
        milestone = {
            "parcel_id": self.parcel_id,
            "version": len(self.records_by_hash),
            "type": "REACHED" if before is None else "RETRACTED" if after is None else "CORRECTED",
            "stage": kind,
            "event_time": (after or before).time,
            "previous_time": before.time if before and after else None,
            "evidence": (after or cause).record_hash,
            "site": (after and after["site"]) or "",
            "station": (after and after["station"]) or "",
            "direction": self.direction(),
        }
        previous_time = NO_TIME if milestone["previous_time"] is None else milestone["previous_time"]
        type_number = MILESTONE_TYPES.index(milestone["type"])
        milestone["milestone_id"] = hash128(
            self.parcel_id.encode()
            + b"\0"
            + struct.pack(">iBB", milestone["version"], type_number, KINDS.index(kind))
            + milestone["evidence"]
            + struct.pack(">qq", milestone["event_time"], previous_time)
        )
        return milestone


def last(records, condition):
    return next((record for record in reversed(records) if condition(record)), None)


def containment_record_of(record, targets):
    return ChildScan(
        record.kind,
        record["site"],
        record["container_id"],
        record["inferred_from"] is not None,
        record.record_hash in targets,
        record["reason"],
    )


def container_of(effective, ordered, targets):
    """The last container that a record names, unless the parcel left it since."""
    scans = [record for record in ordered if record.kind != "VOID" and not record.is_advice]
    containers = derive_containment([containment_record_of(record, targets) for record in scans]).containers_after
    container_at = {record.record_hash: container for record, container in zip(scans, containers, strict=True)}
    container = before = None
    for record in effective:
        after = container_at[record.record_hash]
        if record["container_id"] is not None and record.kind not in UNCONTAINED:
            container = record["container_id"]
        elif record.kind in UNCONTAINED or (before is not None and after is None):
            container = None
        before = after
    return container


def plan_of(record):
    return {field: record[field] for field in PLAN_FIELDS}


class Oracle:
    """All parcels of a log."""

    def __init__(self, records=(), promises=None):
        self.promises = promises or Promises.default()
        self.parcels = {}
        self.milestones = []
        self.alerts = []
        # Parcels whose state is to be published, until the test clears the set, and parcels that retired.
        self.changed = set()
        self.retired = []
        self.duplicates = 0
        # (site, kind, direction) of each distinct scan, with the direction of the parcel when it was folded.
        self.scans = Counter()
        self.hub_time = None
        for record in records:
            self.add(record)

    def add(self, record):
        """Add the next record of the log."""
        if type_of(record) == "Tick":
            self.tick(record["hub_time"])
            return
        parcel_id = record["parcel_id"]
        parcel = self.parcels.setdefault(parcel_id, Parcel(parcel_id, self.promises))
        milestones = parcel.add(record)
        if milestones is None:
            self.duplicates += 1
            return
        self.changed.add(parcel_id)
        self.milestones += milestones
        if type_of(record) == "Scan":
            self.scans[record["site"], record["kind"], parcel.direction()] += 1

    def tick(self, hub_time):
        """Evaluate every parcel, due or not, unless the Tick is before the hub time."""
        if self.hub_time is not None and hub_time < self.hub_time:
            return
        self.hub_time = hub_time
        for parcel_id, parcel in list(self.parcels.items()):
            before = dict(parcel.alert_evaluator.active_alerts)
            alerts, evaluation = parcel.alert_evaluator.tick(parcel.records(), hub_time)
            self.alerts += alerts
            if evaluation.retirement_time is not None and hub_time > evaluation.retirement_time:
                del self.parcels[parcel_id]
                self.retired.append(parcel_id)
                self.changed.discard(parcel_id)
            elif alerts or parcel.alert_evaluator.active_alerts != before:
                self.changed.add(parcel_id)

    def states(self):
        """parcel_id -> its state."""
        return {parcel_id: parcel.state(self.hub_time) for parcel_id, parcel in self.parcels.items()}

    def counted(self):
        """(site, station, kind, direction, minute) -> scans that count, of all parcels that have not retired."""
        return Counter(
            (record["site"], record["station"], record.kind, parcel.direction(), record.time // 60_000 * 60_000)
            for parcel in self.parcels.values()
            for record in parcel.effective()
            if not record.is_advice
        )

    def parcels_by_stage(self):
        """stage -> parcels in the hub."""
        stages = Counter(parcel.state(self.hub_time)["stage"] for parcel in self.parcels.values() if parcel.is_in_hub())
        return {kind: stages[kind] for kind in KINDS if kind in IN_HUB_STAGES}
