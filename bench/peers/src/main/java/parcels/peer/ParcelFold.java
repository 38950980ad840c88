package parcels.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.apache.avro.util.Utf8;
import parcels.hub.Direction;
import parcels.hub.Entry;
import parcels.hub.Identity;
import parcels.hub.Kind;
import parcels.hub.KindTimes;
import parcels.hub.Milestone;
import parcels.hub.MilestoneType;
import parcels.hub.ParcelState;

/**
 * What one more record makes of a parcel: the state is a pure function of the set of its distinct records.
 *
 * <p>Keeps scratch arrays between calls, so an instance belongs to one thread.
 */
final class ParcelFold {
    private static final int RECORDS_PER_PARCEL = 10_000;
    private static final int VOIDS_PER_PARCEL = 1_000;
    private static final Kind[] KINDS = Kind.values();
    private static final Utf8 NOWHERE = new Utf8("");

    private final long[] firsts = new long[KINDS.length];
    private final long[] lasts = new long[KINDS.length];
    private final int[] counts = new int[KINDS.length];

    /** What happened to a parcel: its state is new, and perhaps stages were reached, corrected or lost. */
    record Change(List<Milestone> milestones) {}

    /** Puts a record into the timeline and derives the state anew; empty if the record changes nothing. */
    Optional<Change> add(ParcelState parcel, Entry entry) {
        List<Entry> timeline = parcel.getScans();
        if (isKnown(timeline, entry) || isFull(timeline, entry)) {
            return Optional.empty();
        }
        Entry target = entry.getKind() == Kind.VOID ? find(timeline, entry.getVoids()) : null;
        int place = place(timeline, entry);
        entry.setVoided(entry.getKind() != Kind.VOID && isVoided(timeline, entry.getIdentity()));
        if (concernsOthers(timeline, entry, place)) {
            return Optional.of(new Change(addAmong(parcel, entry, target, place)));
        }
        // It changes the first time of at most one kind: its own, or the one of the record that it voids.
        Kind touched = target == null ? entry.getKind() : target.getKind();
        boolean mayBeMilestone = Kinds.MILESTONES.contains(touched);
        Entry before = mayBeMilestone ? firstOf(timeline, touched) : null;
        if (target != null) {
            target.setVoided(true);
        }
        timeline.add(place, entry);
        if (Inside.isFromContainer(entry)) {
            judge(timeline);
        }
        derive(parcel);
        Entry after = mayBeMilestone ? firstOf(timeline, touched) : null;
        Milestone milestone = milestone(parcel, touched, before, after, entry);
        return Optional.of(new Change(milestone == null ? List.of() : List.of(milestone)));
    }

    /** May the record change which others count, because they were inferred from a container? */
    private static boolean concernsOthers(List<Entry> timeline, Entry entry, int place) {
        for (int later = entry.getKind() == Kind.VOID ? 0 : place; later < timeline.size(); later++) {
            if (timeline.get(later).getInferred()) {
                return true;
            }
        }
        return false;
    }

    private List<Milestone> addAmong(ParcelState parcel, Entry entry, Entry target, int place) {
        List<Entry> timeline = parcel.getScans();
        Entry[] before = new Entry[KINDS.length];
        for (Kind kind : Kinds.MILESTONES) {
            before[kind.ordinal()] = firstOf(timeline, kind);
        }
        if (target != null) {
            target.setVoided(true);
        }
        timeline.add(place, entry);
        judge(timeline);
        derive(parcel);
        List<Milestone> milestones = new ArrayList<>();
        for (Kind kind : Kinds.MILESTONES) {
            Milestone milestone =
                    milestone(parcel, kind, before[kind.ordinal()], firstOf(timeline, kind), entry);
            if (milestone != null) {
                milestones.add(milestone);
            }
        }
        return milestones;
    }

    /** Set aside, or take back, what was inferred from a container. */
    private static void judge(List<Entry> timeline) {
        Inside inside = new Inside();
        for (Entry entry : timeline) {
            if (entry.getKind() == Kind.VOID || entry.getPlan() != null) {
                continue;
            }
            if (entry.getVoided() && (!Inside.isFromContainer(entry) || isVoided(timeline, entry.getIdentity()))) {
                inside.tellVoided(entry);
                continue;
            }
            entry.setVoided(!inside.counts(entry));
            inside.hear(entry);
            if (!entry.getVoided()) {
                inside.tell(entry);
            }
        }
    }

    private static boolean isKnown(List<Entry> timeline, Entry entry) {
        byte[] identity = entry.getIdentity().bytes();
        for (Entry known : timeline) {
            if (Arrays.equals(known.getIdentity().bytes(), identity)) {
                return true;
            }
        }
        return false;
    }

    private static boolean isFull(List<Entry> timeline, Entry entry) {
        if (timeline.size() < VOIDS_PER_PARCEL) {
            return false;
        }
        return timeline.size() >= RECORDS_PER_PARCEL
                || entry.getKind() == Kind.VOID
                        && timeline.stream().filter(known -> known.getKind() == Kind.VOID).count() >= VOIDS_PER_PARCEL;
    }

    /** The record of this identity that a VOID can void, or null. */
    private static Entry find(List<Entry> timeline, Identity identity) {
        for (Entry known : timeline) {
            if (known.getKind() != Kind.VOID && Arrays.equals(known.getIdentity().bytes(), identity.bytes())) {
                return known;
            }
        }
        return null;
    }

    private static boolean isVoided(List<Entry> timeline, Identity identity) {
        for (Entry known : timeline) {
            if (known.getVoids() != null && Arrays.equals(known.getVoids().bytes(), identity.bytes())) {
                return true;
            }
        }
        return false;
    }

    private static Entry firstOf(List<Entry> timeline, Kind kind) {
        for (Entry entry : timeline) {
            if (entry.getKind() == kind && !entry.getVoided()) {
                return entry;
            }
        }
        return null;
    }

    /** Where the record stands in the order of time, kind, identity. Most records are the latest, so looks from the end. */
    private static int place(List<Entry> timeline, Entry entry) {
        int place = timeline.size();
        while (place > 0 && compare(entry, timeline.get(place - 1)) < 0) {
            place--;
        }
        return place;
    }

    private static int compare(Entry one, Entry other) {
        int order = Long.compare(one.getEventTime(), other.getEventTime());
        if (order == 0) {
            order = one.getKind().compareTo(other.getKind());
        }
        if (order == 0) {
            order = Arrays.compareUnsigned(one.getIdentity().bytes(), other.getIdentity().bytes());
        }
        return order;
    }

    private void derive(ParcelState parcel) {
        Arrays.fill(counts, 0);
        Entry move = null;
        Entry customs = null;
        Entry placed = null;
        Entry advice = null;
        Utf8 container = null;
        Utf8 lane = null;
        Inside inside = new Inside();
        for (Entry entry : parcel.getScans()) {
            Kind kind = entry.getKind();
            if (entry.getVoided() || kind == Kind.VOID) {
                continue;
            }
            int number = kind.ordinal();
            if (counts[number]++ == 0) {
                firsts[number] = entry.getEventTime();
            }
            lasts[number] = entry.getEventTime();
            // An advice that is corrected after the parcel came does not move it back.
            if (Kinds.MOVES.contains(kind)
                    && (kind != Kind.ADVISED || move == null || move.getKind() == Kind.ADVISED)) {
                move = entry;
            }
            if (entry.getPlan() != null) {
                advice = entry;
                continue;
            }
            if (Kinds.CUSTOMS.contains(kind)) {
                customs = entry;
            }
            if (!Kinds.OFFICE.contains(kind)) {
                placed = entry;
            }
            boolean contradicts = inside.tell(entry);
            if (Kinds.LOOSE.contains(kind) || contradicts && entry.getContainerId() == null) {
                container = null;
            } else if (entry.getContainerId() != null) {
                container = entry.getContainerId();
            }
            if (Kinds.LANE.contains(kind) && entry.getAt().getLane() != null) {
                lane = entry.getAt().getLane();
            }
        }
        boolean held = customs != null && customs.getKind() == Kind.CUSTOMS_HELD;
        parcel.setVersion(parcel.getScans().size());
        parcel.setStage(move == null ? null : move.getKind());
        parcel.setStageTime(move == null ? null : move.getEventTime());
        parcel.setCustoms(customs == null ? null : customs.getKind());
        parcel.setHeld(held);
        parcel.setHoldReason(held ? customs.getAt().getReason() : null);
        parcel.setSite(placed == null ? null : placed.getAt().getSite());
        parcel.setStation(placed == null ? null : placed.getAt().getStation());
        parcel.setContainerId(container);
        parcel.setLane(lane);
        parcel.setDamaged(counts[Kind.DAMAGED.ordinal()] > 0);
        parcel.setNoReads(counts[Kind.NO_READ.ordinal()]);
        parcel.setRecirculations(counts[Kind.RECIRCULATED.ordinal()]);
        parcel.setPlan(advice == null ? null : advice.getPlan());
        parcel.setPromisedAt(advice == null ? null : advice.getPromisedAt());
        List<KindTimes> kinds = parcel.getKinds();
        kinds.clear();
        for (Kind kind : KINDS) {
            int number = kind.ordinal();
            if (counts[number] > 0) {
                kinds.add(new KindTimes(kind, firsts[number], lasts[number], counts[number]));
            }
        }
    }

    /** Null where the first time of the stage did not change. */
    private static Milestone milestone(
            ParcelState parcel, Kind stage, Entry before, Entry after, Entry cause) {
        if (before == after || before != null && after != null && before.getEventTime() == after.getEventTime()) {
            return null;
        }
        Milestone milestone = new Milestone();
        milestone.setParcelId(parcel.getParcelId());
        milestone.setVersion(parcel.getVersion());
        milestone.setStage(stage);
        milestone.setDirection(parcel.getPlan() == null ? Direction.UNKNOWN : parcel.getPlan().getDirection());
        if (after == null) {
            milestone.setType(MilestoneType.LOST);
            milestone.setEventTime(before.getEventTime());
            milestone.setEvidence(cause.getIdentity());
        } else {
            milestone.setType(before == null ? MilestoneType.REACHED : MilestoneType.CORRECTED);
            milestone.setEventTime(after.getEventTime());
            milestone.setPreviousTime(before == null ? null : before.getEventTime());
            milestone.setEvidence(after.getIdentity());
        }
        boolean hasPlace = after != null && after.getAt() != null;
        milestone.setSite(hasPlace ? after.getAt().getSite() : NOWHERE);
        milestone.setStation(hasPlace ? after.getAt().getStation() : NOWHERE);
        milestone.setMilestoneId(identityOf(milestone));
        return milestone;
    }

    private static Identity identityOf(Milestone milestone) {
        Utf8 parcelId = milestone.getParcelId();
        int length = parcelId.getByteLength();
        ByteBuffer said = ByteBuffer.allocate(length + 1 + 4 + 1 + 1 + 16 + 8 + 8);
        said.put(parcelId.getBytes(), 0, length).put((byte) 0);
        said.putInt(milestone.getVersion());
        said.put((byte) milestone.getType().ordinal()).put((byte) milestone.getStage().ordinal());
        said.put(milestone.getEvidence().bytes());
        said.putLong(milestone.getEventTime());
        said.putLong(milestone.getPreviousTime() == null ? Long.MIN_VALUE : milestone.getPreviousTime());
        return Identities.hash(said.array(), said.position());
    }
}
