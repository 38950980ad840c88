"""What the parcel stage must say, in dicts and sorted lists: slow, plain, and made without the kernel.

Everything is derived anew from all records that are known, whenever it is asked for.
"""

import struct
from collections import Counter

import mmh3

from streams.domain import kinds
from streams.domain.containment import ContainmentRecord, evaluate_containment
from streams.domain.kinds import KINDS, MILESTONE_TYPES
from streams.domain.promises import Promises
from streams.domain.reference.alerts import ReferenceAlertEvaluator
from streams.domain.reference.promise_clocks import ParcelRecord, evaluate
from tests.kernel.records import type_of

NEVER = -(2**63)
WHERE_FIELDS = ("site", "station", "lane", "reason")
PLAN_FIELDS = ("direction", "service", "origin", "destination", "planned_lane", "owner")


def words(bits):
    return {name for number, name in enumerate(KINDS) if bits >> number & 1}


MOVES, CUSTOMS, OFFICE = words(kinds.STAGE_KINDS), words(kinds.CUSTOMS_KINDS), words(kinds.NO_LOCATION)
MILESTONES, IN_HUB, LOOSE = words(kinds.MILESTONE_KINDS), words(kinds.IN_HUB_STAGES), words(kinds.UNCONTAINED)

ELSEWHERE = {"DISPATCHED", "DELIVERED", "RETURNED", "LOST"}
HERE = {"ARRIVED", "UNLOADED", "INDUCTED", "SORTED", "NO_READ", "RECIRCULATED", "LOADED"}


def hashed(said):
    return struct.pack(">QQ", *mmh3.hash64(said, 0, x64arch=True, signed=False))


def kind_of(record):
    return record["kind"] if type_of(record) == "Scan" else "ADVISED"


def identity_of(record):
    name = record["event_id"].encode()
    if kind_of(record) == "VOID":
        name += b"\0" + struct.pack(">q", record["event_time"])
    return hashed(name)


class Known:
    """One distinct record."""

    def __init__(self, record):
        self.record = record
        self.kind = kind_of(record)
        self.record_hash = identity_of(record)
        self.time = record["event_time"]
        self.key = (self.time, KINDS.index(self.kind), self.record_hash)
        self.target = hashed(record["voids"].encode()) if self.kind == "VOID" else None
        self.is_advice = type_of(record) == "Advice"

    def __getitem__(self, field):
        return self.record.get(field)


class Parcel:
    """The distinct records of one parcel."""

    def __init__(self, parcel_id, promises):
        self.parcel_id = parcel_id
        self.known = {}
        self.teller = ReferenceAlertEvaluator(parcel_id, promises, hashed)

    def records(self):
        """For streams/domain/reference/promise_clocks.py."""
        return [
            ParcelRecord(
                record_hash=known.record_hash,
                kind=known.kind,
                time=known.time,
                site=known["site"] or "",
                station=known["station"] or "",
                lane=known["lane"],
                reason=known["reason"],
                voids=known.target,
                plan=plan_of(known) if known.is_advice else None,
                promised_at=known["promised_at"],
                container=known["container_id"],
                inferred=known["inferred_from"] is not None,
            )
            for known in self.known.values()
        ]

    def ordered(self):
        return sorted(self.known.values(), key=lambda known: known.key)

    def targets(self):
        return {known.target for known in self.known.values()}

    def live(self):
        gone = self.uncounted()
        return [known for known in self.ordered() if known.kind != "VOID" and known.record_hash not in gone]

    def uncounted(self):
        """Identities of what a VOID declares wrong, and of what is set aside."""
        targets = self.targets()
        scans = [known for known in self.ordered() if known.kind != "VOID" and not known.is_advice]
        aside = evaluate_containment([told_of(known, targets) for known in scans]).superseded
        return targets | {known.record_hash for known, is_aside in zip(scans, aside, strict=True) if is_aside}

    def firsts(self):
        """kind -> the first live record of each kind whose first time is a milestone."""
        return {known.kind: known for known in reversed(self.live()) if known.kind in MILESTONES}

    def last_advice(self):
        return last(self.live(), lambda known: known.is_advice)

    def is_in_hub(self):
        """Once something was done to it here, until it left; packings and unpackings may be done anywhere."""
        told = last(self.live(), lambda known: known.kind in ELSEWHERE | HERE)
        return told is not None and told.kind in HERE

    def direction(self):
        latest = self.last_advice()
        return "UNKNOWN" if latest is None else latest["direction"]

    def watched(self, hub_time):
        """What ParcelState says of clocks and alerts."""
        looked = evaluate(self.teller.promises, self.records(), hub_time)
        return {
            "journeys": looked.journeys,
            "clocks": [
                {
                    "promise": name,
                    "status": clock.status,
                    "since": clock.start.time,
                    "deadline": clock.deadline,
                    "remaining_ms": clock.left if clock.status == "PAUSED" else None,
                    "stopped_at": clock.stop and clock.stop.time,
                }
                for name, clock in looked.clocks.items()
            ],
            # The newest first.
            "active_alerts": [
                {"condition": about, "type": told.type, "since": told.since, "alert_id": told.alert_id}
                for about, told in reversed(self.teller.told.items())
            ],
        }

    def state(self, hub_time):
        """ParcelState as fastavro reads it, times as numbers."""
        live = self.live()
        scans = [known for known in live if not known.is_advice]
        stage = last(live, lambda known: known.kind in MOVES - {"ADVISED"})
        stage = stage or last(live, lambda known: known.kind == "ADVISED")
        customs = last(scans, lambda known: known.kind in CUSTOMS)
        held = customs is not None and customs.kind == "CUSTOMS_HELD"
        place = last(scans, lambda known: known.kind not in OFFICE)
        lane = last(scans, lambda known: known.kind in {"SORTED", "LOADED"} and known["lane"] is not None)
        latest = self.last_advice()
        times = {}
        for known in live:
            times.setdefault(known.kind, []).append(known.time)
        return {
            "parcel_id": self.parcel_id,
            "version": len(self.known),
            "stage": stage and stage.kind,
            "stage_time": stage and stage.time,
            "customs": customs and customs.kind,
            "held": held,
            "hold_reason": customs["reason"] if held else None,
            "site": place and place["site"],
            "station": place and place["station"],
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
            **self.watched(hub_time),
        }

    def entries(self):
        gone = self.uncounted()
        return [
            {
                "record_hash": known.record_hash,
                "kind": known.kind,
                "event_time": known.time,
                "utc_offset_minutes": known["utc_offset_minutes"] or 0,
                "voided": known.kind != "VOID" and known.record_hash in gone,
                "inferred": known["inferred_from"] is not None,
                "details": None if known.is_advice else {field: known[field] for field in WHERE_FIELDS},
                "container_id": None if known.kind == "VOID" else known["container_id"],
                "voids": known.target,
                "plan": plan_of(known) if known.is_advice else None,
                "promised_at": known["promised_at"],
            }
            for known in self.ordered()
        ]

    def add(self, record):
        """Take a record in. Returns None for a duplicate, else the milestones that follow."""
        known = Known(record)
        if known.record_hash in self.known:
            return None
        before = self.firsts()
        self.known[known.record_hash] = known
        after = self.firsts()
        told = [self.milestone(kind, before.get(kind), after.get(kind), known) for kind in KINDS]
        return [milestone for milestone in told if milestone]

    def milestone(self, kind, before, after, cause):
        if before is after or (before and after and before.time == after.time):
            return None
        said = {
            "parcel_id": self.parcel_id,
            "version": len(self.known),
            "type": "REACHED" if before is None else "RETRACTED" if after is None else "CORRECTED",
            "stage": kind,
            "event_time": (after or before).time,
            "previous_time": before.time if before and after else None,
            "evidence": (after or cause).record_hash,
            "site": (after and after["site"]) or "",
            "station": (after and after["station"]) or "",
            "direction": self.direction(),
        }
        previous = NEVER if said["previous_time"] is None else said["previous_time"]
        number = MILESTONE_TYPES.index(said["type"])
        said["milestone_id"] = hashed(
            self.parcel_id.encode()
            + b"\0"
            + struct.pack(">iBB", said["version"], number, KINDS.index(kind))
            + said["evidence"]
            + struct.pack(">qq", said["event_time"], previous)
        )
        return said


def last(among, condition):
    return next((known for known in reversed(among) if condition(known)), None)


def told_of(known, targets):
    return ContainmentRecord(
        known.kind,
        known["site"],
        known["container_id"],
        known["inferred_from"] is not None,
        known.record_hash in targets,
        known["reason"],
    )


def container_of(live, ordered, targets):
    """The last one that was named, unless the parcel left it since."""
    scans = [known for known in ordered if known.kind != "VOID" and not known.is_advice]
    inside = evaluate_containment([told_of(known, targets) for known in scans]).inside
    now_in = {known.record_hash: held for known, held in zip(scans, inside, strict=True)}
    container = before = None
    for known in live:
        after = now_in[known.record_hash]
        if known["container_id"] is not None and known.kind not in LOOSE:
            container = known["container_id"]
        elif known.kind in LOOSE or (before is not None and after is None):
            container = None
        before = after
    return container


def plan_of(known):
    return {field: known[field] for field in PLAN_FIELDS}


class Oracle:
    """All parcels of a log."""

    def __init__(self, records=(), promises=None):
        self.promises = promises or Promises.default()
        self.parcels = {}
        self.milestones = []
        self.alerts = []
        # Parcels whose state is to be told, until somebody clears it, and parcels that left.
        self.changed = set()
        self.retired = []
        self.duplicates = 0
        # (site, kind, direction) of each distinct scan, with the direction that is known when it is folded.
        self.scans = Counter()
        self.hub_time = None
        for record in records:
            self.add(record)

    def add(self, record):
        """Take the next record of the log."""
        if type_of(record) == "Tick":
            self.tick(record["hub_time"])
            return
        parcel_id = record["parcel_id"]
        parcel = self.parcels.setdefault(parcel_id, Parcel(parcel_id, self.promises))
        told = parcel.add(record)
        if told is None:
            self.duplicates += 1
            return
        self.changed.add(parcel_id)
        self.milestones += told
        if type_of(record) == "Scan":
            self.scans[record["site"], record["kind"], parcel.direction()] += 1

    def tick(self, hub_time):
        """Look at every parcel, due or not, unless the time goes back."""
        if self.hub_time is not None and hub_time < self.hub_time:
            return
        self.hub_time = hub_time
        for parcel_id, parcel in list(self.parcels.items()):
            before = dict(parcel.teller.told)
            said, looked = parcel.teller.tick(parcel.records(), hub_time)
            self.alerts += said
            if looked.retirement_time is not None and hub_time > looked.retirement_time:
                del self.parcels[parcel_id]
                self.retired.append(parcel_id)
                self.changed.discard(parcel_id)
            elif said or parcel.teller.told != before:
                self.changed.add(parcel_id)

    def states(self):
        """parcel_id -> its state."""
        return {parcel_id: parcel.state(self.hub_time) for parcel_id, parcel in self.parcels.items()}

    def counted(self):
        """(site, station, kind, direction, minute) -> scans that no VOID declares wrong, of all parcels still known."""
        return Counter(
            (known["site"], known["station"], known.kind, parcel.direction(), known.time // 60_000 * 60_000)
            for parcel in self.parcels.values()
            for known in parcel.live()
            if not known.is_advice
        )

    def parcels_by_stage(self):
        """How many parcels are at each stage in the hub."""
        stages = Counter(parcel.state(self.hub_time)["stage"] for parcel in self.parcels.values() if parcel.is_in_hub())
        return {kind: stages[kind] for kind in KINDS if kind in IN_HUB}
