package parcels.peer;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.apache.avro.util.Utf8;
import parcels.hub.Direction;
import parcels.hub.Kind;
import parcels.hub.KindTimes;
import parcels.hub.Milestone;
import parcels.hub.MilestoneType;
import parcels.hub.ParcelState;
import parcels.hub.RecordHash;
import parcels.hub.TimelineEntry;

/**
 * Folds one record into a parcel. The state is a pure function of the set of its distinct records.
 *
 * <p>The instance keeps scratch arrays between calls, so it belongs to one thread.
 */
final class ParcelFold {
    private static final int RECORDS_PER_PARCEL = 10_000;
    private static final int VOIDS_PER_PARCEL = 1_000;
    private static final Kind[] KINDS = Kind.values();
    private static final Utf8 NO_TEXT = new Utf8("");

    private final long[] firsts = new long[KINDS.length];
    private final long[] lasts = new long[KINDS.length];
    private final int[] counts = new int[KINDS.length];

    /** A change of a parcel: its state is new, and stages may have been reached, corrected or retracted. */
    record Change(List<Milestone> milestones) {}

    /** Adds a record to the timeline and derives the state again; empty if the record changes nothing. */
    Optional<Change> add(ParcelState parcel, TimelineEntry entry) {
        List<TimelineEntry> timeline = parcel.getTimeline();
        if (isKnown(timeline, entry) || isLimitReached(timeline, entry)) {
            return Optional.empty();
        }
        TimelineEntry target = entry.getKind() == Kind.VOID ? find(timeline, entry.getVoids()) : null;
        int index = indexOf(timeline, entry);
        entry.setVoided(entry.getKind() != Kind.VOID && isVoided(timeline, entry.getRecordHash()));
        if (mayChangeInferred(timeline, entry, index)) {
            return Optional.of(new Change(addAndReevaluate(parcel, entry, target, index)));
        }
        // The record changes the first time of at most one kind: its own kind, or the kind of the record that it voids.
        Kind changedKind = target == null ? entry.getKind() : target.getKind();
        boolean mayBeMilestone = Kinds.MILESTONES.contains(changedKind);
        TimelineEntry before = mayBeMilestone ? firstOf(timeline, changedKind) : null;
        if (target != null) {
            target.setVoided(true);
        }
        timeline.add(index, entry);
        if (Containment.isFromContainer(entry)) {
            evaluateContainment(timeline);
        }
        derive(parcel);
        TimelineEntry after = mayBeMilestone ? firstOf(timeline, changedKind) : null;
        Milestone milestone = milestone(parcel, changedKind, before, after, entry);
        return Optional.of(new Change(milestone == null ? List.of() : List.of(milestone)));
    }

    /** Whether the record may change which inferred records count. */
    private static boolean mayChangeInferred(List<TimelineEntry> timeline, TimelineEntry entry, int index) {
        for (int later = entry.getKind() == Kind.VOID ? 0 : index; later < timeline.size(); later++) {
            if (timeline.get(later).getInferred()) {
                return true;
            }
        }
        return false;
    }

    private List<Milestone> addAndReevaluate(ParcelState parcel, TimelineEntry entry, TimelineEntry target, int index) {
        List<TimelineEntry> timeline = parcel.getTimeline();
        TimelineEntry[] before = new TimelineEntry[KINDS.length];
        for (Kind kind : Kinds.MILESTONES) {
            before[kind.ordinal()] = firstOf(timeline, kind);
        }
        if (target != null) {
            target.setVoided(true);
        }
        timeline.add(index, entry);
        evaluateContainment(timeline);
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

    /** Decides again which of the records that were inferred from a container count. */
    private static void evaluateContainment(List<TimelineEntry> timeline) {
        Containment containment = new Containment();
        for (TimelineEntry entry : timeline) {
            if (entry.getKind() == Kind.VOID || entry.getPlan() != null) {
                continue;
            }
            if (entry.getVoided() && (!Containment.isFromContainer(entry) || isVoided(timeline, entry.getRecordHash()))) {
                containment.applyVoided(entry);
                continue;
            }
            entry.setVoided(!containment.counts(entry));
            containment.applyDeclaration(entry);
            if (!entry.getVoided()) {
                containment.apply(entry);
            }
        }
    }

    private static boolean isKnown(List<TimelineEntry> timeline, TimelineEntry entry) {
        byte[] hash = entry.getRecordHash().bytes();
        for (TimelineEntry known : timeline) {
            if (Arrays.equals(known.getRecordHash().bytes(), hash)) {
                return true;
            }
        }
        return false;
    }

    private static boolean isLimitReached(List<TimelineEntry> timeline, TimelineEntry entry) {
        if (timeline.size() < VOIDS_PER_PARCEL) {
            return false;
        }
        return timeline.size() >= RECORDS_PER_PARCEL
                || entry.getKind() == Kind.VOID
                        && timeline.stream().filter(known -> known.getKind() == Kind.VOID).count() >= VOIDS_PER_PARCEL;
    }

    /** The record with this hash that a VOID can void, or null. */
    private static TimelineEntry find(List<TimelineEntry> timeline, RecordHash hash) {
        for (TimelineEntry known : timeline) {
            if (known.getKind() != Kind.VOID && Arrays.equals(known.getRecordHash().bytes(), hash.bytes())) {
                return known;
            }
        }
        return null;
    }

    private static boolean isVoided(List<TimelineEntry> timeline, RecordHash hash) {
        for (TimelineEntry known : timeline) {
            if (known.getVoids() != null && Arrays.equals(known.getVoids().bytes(), hash.bytes())) {
                return true;
            }
        }
        return false;
    }

    private static TimelineEntry firstOf(List<TimelineEntry> timeline, Kind kind) {
        for (TimelineEntry entry : timeline) {
            if (entry.getKind() == kind && !entry.getVoided()) {
                return entry;
            }
        }
        return null;
    }

    /** Index of the record in the order of time, kind and hash. Searches from the end, as most records are the latest. */
    private static int indexOf(List<TimelineEntry> timeline, TimelineEntry entry) {
        int index = timeline.size();
        while (index > 0 && compare(entry, timeline.get(index - 1)) < 0) {
            index--;
        }
        return index;
    }

    private static int compare(TimelineEntry first, TimelineEntry second) {
        int order = Long.compare(first.getEventTime(), second.getEventTime());
        if (order == 0) {
            order = first.getKind().compareTo(second.getKind());
        }
        if (order == 0) {
            order = Arrays.compareUnsigned(first.getRecordHash().bytes(), second.getRecordHash().bytes());
        }
        return order;
    }

    private void derive(ParcelState parcel) {
        Arrays.fill(counts, 0);
        TimelineEntry latestMove = null;
        TimelineEntry customs = null;
        TimelineEntry located = null;
        TimelineEntry advice = null;
        Utf8 container = null;
        Utf8 lane = null;
        Containment containment = new Containment();
        for (TimelineEntry entry : parcel.getTimeline()) {
            Kind kind = entry.getKind();
            if (entry.getVoided() || kind == Kind.VOID) {
                continue;
            }
            int number = kind.ordinal();
            if (counts[number]++ == 0) {
                firsts[number] = entry.getEventTime();
            }
            lasts[number] = entry.getEventTime();
            // An advice that is corrected after the arrival of the parcel does not set its stage back.
            if (Kinds.MOVES.contains(kind)
                    && (kind != Kind.ADVISED || latestMove == null || latestMove.getKind() == Kind.ADVISED)) {
                latestMove = entry;
            }
            if (entry.getPlan() != null) {
                advice = entry;
                continue;
            }
            if (Kinds.CUSTOMS.contains(kind)) {
                customs = entry;
            }
            if (!Kinds.NO_LOCATION.contains(kind)) {
                located = entry;
            }
            boolean contradicts = containment.apply(entry);
            if (Kinds.UNCONTAINED.contains(kind) || contradicts && entry.getContainerId() == null) {
                container = null;
            } else if (entry.getContainerId() != null) {
                container = entry.getContainerId();
            }
            if (Kinds.LANE.contains(kind) && entry.getDetails().getLane() != null) {
                lane = entry.getDetails().getLane();
            }
        }
        boolean held = customs != null && customs.getKind() == Kind.CUSTOMS_HELD;
        parcel.setVersion(parcel.getTimeline().size());
        parcel.setStage(latestMove == null ? null : latestMove.getKind());
        parcel.setStageTime(latestMove == null ? null : latestMove.getEventTime());
        parcel.setCustoms(customs == null ? null : customs.getKind());
        parcel.setHeld(held);
        parcel.setHoldReason(held ? customs.getDetails().getReason() : null);
        parcel.setSite(located == null ? null : located.getDetails().getSite());
        parcel.setStation(located == null ? null : located.getDetails().getStation());
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

    /** The milestone of a stage; null if the first time of the stage did not change. */
    private static Milestone milestone(
            ParcelState parcel, Kind stage, TimelineEntry before, TimelineEntry after, TimelineEntry cause) {
        if (before == after || before != null && after != null && before.getEventTime() == after.getEventTime()) {
            return null;
        }
        Milestone milestone = new Milestone();
        milestone.setParcelId(parcel.getParcelId());
        milestone.setVersion(parcel.getVersion());
        milestone.setStage(stage);
        milestone.setDirection(parcel.getPlan() == null ? Direction.UNKNOWN : parcel.getPlan().getDirection());
        if (after == null) {
            milestone.setType(MilestoneType.RETRACTED);
            milestone.setEventTime(before.getEventTime());
            milestone.setEvidence(cause.getRecordHash());
        } else {
            milestone.setType(before == null ? MilestoneType.REACHED : MilestoneType.CORRECTED);
            milestone.setEventTime(after.getEventTime());
            milestone.setPreviousTime(before == null ? null : before.getEventTime());
            milestone.setEvidence(after.getRecordHash());
        }
        boolean hasLocation = after != null && after.getDetails() != null;
        milestone.setSite(hasLocation ? after.getDetails().getSite() : NO_TEXT);
        milestone.setStation(hasLocation ? after.getDetails().getStation() : NO_TEXT);
        milestone.setMilestoneId(idOf(milestone));
        return milestone;
    }

    private static RecordHash idOf(Milestone milestone) {
        Utf8 parcelId = milestone.getParcelId();
        int length = parcelId.getByteLength();
        ByteBuffer input = ByteBuffer.allocate(length + 1 + 4 + 1 + 1 + 16 + 8 + 8);
        input.put(parcelId.getBytes(), 0, length).put((byte) 0);
        input.putInt(milestone.getVersion());
        input.put((byte) milestone.getType().ordinal()).put((byte) milestone.getStage().ordinal());
        input.put(milestone.getEvidence().bytes());
        input.putLong(milestone.getEventTime());
        input.putLong(milestone.getPreviousTime() == null ? Long.MIN_VALUE : milestone.getPreviousTime());
        return RecordHashes.hash(input.array(), input.position());
    }
}
