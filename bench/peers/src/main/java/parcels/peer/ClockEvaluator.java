package parcels.peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.avro.util.Utf8;
import parcels.hub.ActiveAlert;
import parcels.hub.Alert;
import parcels.hub.AlertType;
import parcels.hub.ClockStatus;
import parcels.hub.Direction;
import parcels.hub.Kind;
import parcels.hub.ParcelState;
import parcels.hub.Plan;
import parcels.hub.PromiseClock;
import parcels.hub.RecordHash;
import parcels.hub.TimelineEntry;

/**
 * Evaluates the promise clocks of a parcel from its records and the hub time.
 *
 * <p>The rules are those of streams/domain/promise_clocks.py. Alerts are decided at Ticks only, as in
 * streams/kernel/tick_alerts.py, so that both programs raise the same alerts. Anomalies and retirement are left out.
 * The instance keeps scratch arrays between calls, so it belongs to one thread.
 */
final class ClockEvaluator {
    /** No such instant. As the hub time: no Tick yet. */
    static final long NEVER = Long.MIN_VALUE;
    /** An instant that never comes: the clock is paused, or nothing is due. */
    static final long OPEN = 1L << 62;

    private static final long REUSED_MILLIS = Duration.ofDays(5).toMillis();
    private static final int KINDS = Kind.values().length;
    private static final int BEGINS = bits(Kind.ADVISED, Kind.ARRIVED);
    private static final int ENDED = bits(Kind.DELIVERED, Kind.RETURNED);
    private static final int NO_ALERT = 0;
    private static final int AT_RISK = AlertType.AT_RISK.ordinal();
    private static final int BREACHED = AlertType.BREACHED.ordinal();
    private static final AlertType[] TYPES = AlertType.values();
    private static final RecordHash NONE = new RecordHash(new byte[16]);
    private static final Utf8 NO_TEXT = new Utf8("");

    private final Evaluation[] evaluations;
    // Facts about the last journey.
    private final TimelineEntry[] firsts = new TimelineEntry[KINDS];
    private long[] pausesFrom = new long[8];
    private long[] pausesUntil = new long[8];
    private int pauses;
    private boolean paused;
    private int journeys;
    private long journeyAt;
    private long endedAt;
    private Plan plan;
    private TimelineEntry advice;

    /** A promise and its evaluation for one parcel. */
    private static final class Evaluation {
        final Promise promise;
        final Utf8 name;
        final byte[] nameBytes;
        final int starts;
        final int stops;
        final int renews;
        final int[] startKinds;
        final int[] stopKinds;
        // Of a clock that restarts: the last start, and the first stop after it.
        TimelineEntry runStart;
        TimelineEntry runStop;
        int level;
        boolean firing;
        long since;
        long deadline;
        long limit;
        long stoppedAt;
        long remaining;
        long next;
        ClockStatus status;
        TimelineEntry startEvidence;
        TimelineEntry stopEvidence;

        Evaluation(Promise promise) {
            this.promise = promise;
            this.name = new Utf8(promise.name());
            this.nameBytes = promise.name().getBytes(StandardCharsets.UTF_8);
            this.starts = bits(promise.starts().toArray(Kind[]::new));
            this.stops = bits(promise.stops().toArray(Kind[]::new));
            this.renews = bits(promise.renews().toArray(Kind[]::new));
            this.startKinds = promise.starts().stream().mapToInt(Kind::ordinal).toArray();
            this.stopKinds = promise.stops().stream().mapToInt(Kind::ordinal).toArray();
        }

        /** Whether a scan of this kind starts the clock; {@code runs}: whether the clock runs already. */
        boolean startsWith(int bit, boolean runs) {
            return (starts & bit) != 0 || runs && (renews & bit) != 0;
        }

        void clear() {
            level = NO_ALERT;
            firing = false;
            since = NEVER;
            deadline = NEVER;
            limit = NEVER;
            stoppedAt = NEVER;
            remaining = 0;
            next = OPEN;
            status = null;
            startEvidence = null;
            stopEvidence = null;
        }
    }

    ClockEvaluator(List<Promise> promises) {
        evaluations = promises.stream().map(Evaluation::new).toArray(Evaluation[]::new);
    }

    /**
     * Derives the clocks of a parcel that has changed and stores them in its state.
     *
     * @return the first Tick after this instant must evaluate the parcel; {@code now} for the next Tick, OPEN for never
     */
    long update(ParcelState parcel, long now) {
        evaluate(parcel, now);
        storeClocks(parcel);
        if (!parcel.getActiveAlerts().isEmpty()) {
            return now;
        }
        for (Evaluation each : evaluations) {
            if (each.level > NO_ALERT && each.firing) {
                return now;
            }
        }
        return due();
    }

    /**
     * Applies a Tick to a parcel: adds new alerts to {@code alerts} and keeps the active alerts in the state.
     *
     * @return whether the state changed
     */
    boolean applyTick(ParcelState parcel, long now, List<Alert> alerts) {
        evaluate(parcel, now);
        boolean changed = false;
        for (Evaluation each : evaluations) {
            if (!parcel.getActiveAlerts().isEmpty() || each.firing) {
                changed |= updateAlerts(parcel, each, now, alerts);
            }
        }
        if (changed) {
            storeClocks(parcel);
        }
        return changed;
    }

    /** After {@link #applyTick}: the first Tick after this instant must evaluate the parcel again; OPEN for never. */
    long due() {
        long due = OPEN;
        for (Evaluation each : evaluations) {
            due = Math.min(due, each.next);
        }
        return due;
    }

    private void evaluate(ParcelState parcel, long now) {
        readTimeline(parcel.getTimeline());
        Direction direction = plan == null ? Direction.UNKNOWN : plan.getDirection();
        for (Evaluation each : evaluations) {
            each.clear();
            if (each.promise.direction() == null || each.promise.direction() == direction) {
                evaluatePromise(each, now);
            }
        }
    }

    private void readTimeline(List<TimelineEntry> timeline) {
        journeys = 0;
        journeyAt = NEVER;
        endedAt = NEVER;
        resetJourney();
        for (TimelineEntry entry : timeline) {
            Kind kind = entry.getKind();
            if (kind == Kind.VOID || entry.getVoided()) {
                continue;
            }
            addEntry(entry, 1 << kind.ordinal());
            if (entry.getPlan() != null) {
                plan = entry.getPlan();
                advice = entry;
            } else if (kind == Kind.CUSTOMS_HELD) {
                CharSequence reason = entry.getDetails().getReason();
                if (reason != null && reason.length() > 0 && !paused) {
                    pause(entry.getEventTime());
                }
            } else if (kind == Kind.CUSTOMS_RELEASED && paused) {
                paused = false;
                pausesUntil[pauses - 1] = entry.getEventTime();
            }
        }
    }

    private void addEntry(TimelineEntry entry, int bit) {
        long time = entry.getEventTime();
        if (journeys == 0) {
            journeys = 1;
        } else if ((bit & BEGINS) != 0 && endedAt != NEVER && time - endedAt > REUSED_MILLIS) {
            resetJourney();
            endedAt = NEVER;
            journeys++;
            journeyAt = time;
        }
        if ((bit & ENDED) != 0) {
            endedAt = time;
        }
        int kind = entry.getKind().ordinal();
        if (firsts[kind] == null) {
            firsts[kind] = entry;
        }
        for (Evaluation each : evaluations) {
            if (!each.promise.restarts()) {
                continue;
            }
            if (each.startsWith(bit, each.runStart != null && each.runStop == null)) {
                each.runStart = entry;
                each.runStop = null;
            } else if ((each.stops & bit) != 0 && each.runStop == null) {
                each.runStop = entry;
            }
        }
    }

    private void resetJourney() {
        Arrays.fill(firsts, null);
        pauses = 0;
        paused = false;
        plan = null;
        advice = null;
        for (Evaluation each : evaluations) {
            each.runStart = null;
            each.runStop = null;
        }
    }

    private void pause(long from) {
        if (pauses == pausesFrom.length) {
            pausesFrom = Arrays.copyOf(pausesFrom, 2 * pauses);
            pausesUntil = Arrays.copyOf(pausesUntil, 2 * pauses);
        }
        paused = true;
        pausesFrom[pauses] = from;
        pausesUntil[pauses++] = OPEN;
    }

    private void evaluatePromise(Evaluation each, long now) {
        Promise promise = each.promise;
        TimelineEntry start = promise.restarts() ? each.runStart : firstOf(each.startKinds);
        if (start == null) {
            return;
        }
        TimelineEntry stop = promise.restarts() ? each.runStop : firstOf(each.stopKinds);
        long since = start.getEventTime();
        long stoppedAt = stop == null ? NEVER : stop.getEventTime();
        long end = endOf(since, promise.limitMillis(), promise.pauses());
        long risk = promise.riskParts() == 0 ? end : endOf(since, riskMillis(promise), promise.pauses());
        long ranUntil = stop == null ? now : Math.min(stoppedAt, now);
        boolean runs = stop == null || stoppedAt > now;
        each.level = levelOf(promise, ranUntil, risk, end);
        // AT_RISK is not raised for a promise that is known to be met.
        each.firing = each.level == BREACHED || each.level == AT_RISK && runs;
        each.since = since;
        each.deadline = end;
        each.limit = promise.limitMillis();
        each.stoppedAt = stoppedAt;
        each.startEvidence = start;
        each.stopEvidence = stop;
        if (stop != null ? stoppedAt > end : now > end) {
            each.status = ClockStatus.BREACHED;
        } else if (stop != null) {
            each.status = ClockStatus.MET;
        } else if (end == OPEN) {
            each.status = ClockStatus.PAUSED;
            each.remaining = remaining(since, promise.limitMillis());
        } else {
            each.status = ClockStatus.RUNNING;
        }
        if (runs && each.level == NO_ALERT && promise.riskParts() != 0) {
            each.next = Math.min(risk, end);
        } else if (runs && each.level != BREACHED) {
            each.next = end;
        }
    }

    private static long riskMillis(Promise promise) {
        return promise.limitMillis() * promise.riskParts() / 10_000;
    }

    private static int levelOf(Promise promise, long ranUntil, long risk, long end) {
        if (ranUntil > end) {
            return BREACHED;
        }
        return promise.riskParts() != 0 && ranUntil > risk ? AT_RISK : NO_ALERT;
    }

    /** The first scan of one of these kinds; of two scans at the same instant the one of the lower kind. */
    private TimelineEntry firstOf(int[] kinds) {
        TimelineEntry first = null;
        for (int kind : kinds) {
            TimelineEntry found = firsts[kind];
            if (found != null && (first == null || found.getEventTime() < first.getEventTime())) {
                first = found;
            }
        }
        return first;
    }

    /** When a clock that starts at {@code start} has run for {@code ran} ms; OPEN while it is paused. */
    private long endOf(long start, long ran, boolean pausable) {
        long end = start + ran;
        for (int pause = 0; pausable && pause < pauses; pause++) {
            long begin = Math.max(pausesFrom[pause], start);
            long until = pausesUntil[pause];
            if (until <= begin) {
                continue;
            }
            if (begin > end) {
                break;
            }
            if (until == OPEN) {
                return OPEN;
            }
            end += until - begin;
        }
        return end;
    }

    /** The part of the limit that is left on a paused clock, in ms. */
    private long remaining(long start, long ran) {
        long end = start + ran;
        for (int pause = 0; pause < pauses; pause++) {
            long begin = Math.max(pausesFrom[pause], start);
            long until = pausesUntil[pause];
            if (until == OPEN) {
                return end - begin;
            }
            if (until > begin) {
                end += until - begin;
            }
        }
        return 0;
    }

    private void storeClocks(ParcelState parcel) {
        parcel.setJourneys(Math.max(1, journeys));
        List<PromiseClock> clocks = parcel.getClocks();
        clocks.clear();
        for (Evaluation each : evaluations) {
            if (each.status != null) {
                clocks.add(new PromiseClock(
                        each.name, each.status, each.since, each.deadline == OPEN ? null : each.deadline,
                        each.status == ClockStatus.PAUSED ? each.remaining : null,
                        each.stoppedAt == NEVER ? null : each.stoppedAt));
            }
        }
    }

    /** Compares the active alert of a promise with its evaluation; raises and withdraws alerts. Returns whether it did. */
    private boolean updateAlerts(ParcelState parcel, Evaluation each, long now, List<Alert> alerts) {
        List<ActiveAlert> activeAlerts = parcel.getActiveAlerts();
        boolean changed = false;
        ActiveAlert active = find(activeAlerts, each.name);
        if (active != null) {
            boolean ended = active.getSince() < journeyAt;
            if (!ended) {
                boolean isOtherRun = each.promise.restarts() && active.getSince() != each.since;
                int level = isOtherRun ? levelOfRun(parcel, each, active.getSince(), now) : each.level;
                if (level < active.getType().ordinal()) {
                    alerts.add(alert(parcel, each, AlertType.WITHDRAWN, active.getSince(), now, active.getAlertId()));
                    ended = true;
                }
                ended |= isOtherRun;
            }
            if (ended) {
                // Avro's lists remove by index only.
                activeAlerts.remove(activeAlerts.indexOf(active));
                active = null;
                changed = true;
            }
        }
        if (each.firing && each.level > (active == null ? NO_ALERT : active.getType().ordinal())) {
            Alert alert = alert(parcel, each, TYPES[each.level], each.since, now, null);
            alerts.add(alert);
            if (active == null) {
                active = new ActiveAlert();
                active.setCondition(each.name);
                activeAlerts.add(0, active);
            }
            active.setType(alert.getType());
            active.setSince(each.since);
            active.setAlertId(alert.getAlertId());
            changed = true;
        }
        return changed;
    }

    private static ActiveAlert find(List<ActiveAlert> activeAlerts, Utf8 name) {
        for (ActiveAlert active : activeAlerts) {
            if (name.equals(active.getCondition())) {
                return active;
            }
        }
        return null;
    }

    /** The alert level of the run that started at {@code since}, for a clock that was restarted after it. */
    private int levelOfRun(ParcelState parcel, Evaluation each, long since, long now) {
        boolean runs = false;
        boolean started = false;
        long until = now;
        for (TimelineEntry entry : parcel.getTimeline()) {
            int bit = 1 << entry.getKind().ordinal();
            boolean starts = each.startsWith(bit, runs);
            if (entry.getVoided() || entry.getEventTime() < journeyAt || !starts && (each.stops & bit) == 0) {
                continue;
            }
            runs = starts;
            if (entry.getEventTime() == since && starts) {
                started = true;
            } else if (entry.getEventTime() > since) {
                until = Math.min(until, entry.getEventTime());
            }
        }
        if (!started) {
            return NO_ALERT;
        }
        Promise promise = each.promise;
        return levelOf(
                promise, until, endOf(since, riskMillis(promise), promise.pauses()),
                endOf(since, promise.limitMillis(), promise.pauses()));
    }

    private Alert alert(
            ParcelState parcel, Evaluation each, AlertType type, long since, long now, RecordHash withdraws) {
        TimelineEntry first = each.startEvidence == null ? withdrawalEvidence(parcel, each) : each.startEvidence;
        TimelineEntry second = each.stopEvidence;
        TimelineEntry located = second != null && second.getPlan() == null ? second : first;
        boolean hasLocation = located != null && located.getDetails() != null;
        Alert alert = new Alert();
        alert.setParcelId(parcel.getParcelId());
        alert.setVersion(parcel.getVersion());
        alert.setType(type);
        alert.setCondition(each.name);
        alert.setHubTime(now);
        alert.setSince(since);
        alert.setDeadline(each.deadline == OPEN || each.deadline == NEVER ? null : each.deadline);
        alert.setLimit(each.limit == NEVER ? null : each.limit);
        alert.setStoppedAt(each.stoppedAt == NEVER ? null : each.stoppedAt);
        alert.setWithdraws(withdraws);
        List<RecordHash> evidence = new ArrayList<>(2);
        if (first != null) {
            evidence.add(first.getRecordHash());
        }
        if (second != null) {
            evidence.add(second.getRecordHash());
        }
        alert.setEvidence(evidence);
        alert.setSite(hasLocation ? located.getDetails().getSite() : NO_TEXT);
        alert.setStation(hasLocation ? located.getDetails().getStation() : NO_TEXT);
        alert.setDirection(parcel.getPlan() == null ? Direction.UNKNOWN : parcel.getPlan().getDirection());
        alert.setAlertId(idOf(alert, each.nameBytes));
        return alert;
    }

    /** Evidence of a withdrawal when the clock has no start any more: the voided scan that started it, or the advice. */
    private TimelineEntry withdrawalEvidence(ParcelState parcel, Evaluation each) {
        for (TimelineEntry entry : parcel.getTimeline()) {
            if (entry.getVoided() && ((each.starts | each.renews) & 1 << entry.getKind().ordinal()) != 0) {
                return entry;
            }
        }
        return advice;
    }

    private static RecordHash idOf(Alert alert, byte[] condition) {
        Utf8 parcelId = alert.getParcelId();
        int length = parcelId.getByteLength();
        ByteBuffer input = ByteBuffer.allocate(length + 1 + condition.length + 1 + 2 + 4 + 5 * 8 + 3 * 16);
        input.put(parcelId.getBytes(), 0, length).put((byte) 0).put(condition).put((byte) 0);
        input.put((byte) alert.getType().ordinal()).put((byte) alert.getEvidence().size()).putInt(alert.getVersion());
        input.putLong(alert.getHubTime()).putLong(alert.getSince());
        input.putLong(orNever(alert.getDeadline())).putLong(orNever(alert.getLimit()));
        input.putLong(orNever(alert.getStoppedAt()));
        for (int i = 0; i < 2; i++) {
            input.put((i < alert.getEvidence().size() ? alert.getEvidence().get(i) : NONE).bytes());
        }
        input.put((alert.getWithdraws() == null ? NONE : alert.getWithdraws()).bytes());
        return RecordHashes.hash(input.array(), input.position());
    }

    private static long orNever(Long time) {
        return time == null ? NEVER : time;
    }

    private static int bits(Kind... kinds) {
        int bits = 0;
        for (Kind kind : kinds) {
            bits |= 1 << kind.ordinal();
        }
        return bits;
    }
}
