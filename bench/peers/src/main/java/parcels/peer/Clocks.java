package parcels.peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.avro.util.Utf8;
import parcels.hub.Alert;
import parcels.hub.AlertType;
import parcels.hub.Clock;
import parcels.hub.Direction;
import parcels.hub.Entry;
import parcels.hub.Identity;
import parcels.hub.Kind;
import parcels.hub.ParcelState;
import parcels.hub.Plan;
import parcels.hub.Standing;
import parcels.hub.StandingAlert;

/**
 * What the records of a parcel and the hub's time say about each promise: the rules of streams/domain/promise_clocks.py.
 *
 * <p>Alerts are decided at Ticks only, as in streams/kernel/tick_alerts.py, so that both programs tell the same ones. Anomalies
 * and retirement are left out. Keeps scratch arrays between calls, so an instance belongs to one thread.
 */
final class Clocks {
    /** No such instant; as the hub's time: no Tick yet. */
    static final long NEVER = Long.MIN_VALUE;
    /** An instant that has not come. */
    static final long OPEN = 1L << 62;

    private static final long REUSED_MILLIS = Duration.ofDays(5).toMillis();
    private static final int KINDS = Kind.values().length;
    private static final int BEGINS = bits(Kind.ADVISED, Kind.ARRIVED);
    private static final int ENDED = bits(Kind.DELIVERED, Kind.RETURNED);
    private static final int NOTHING = 0;
    private static final int AT_RISK = AlertType.AT_RISK.ordinal();
    private static final int BREACHED = AlertType.BREACHED.ordinal();
    private static final AlertType[] TYPES = AlertType.values();
    private static final Identity NOBODY = new Identity(new byte[16]);
    private static final Utf8 NOWHERE = new Utf8("");

    private final Judged[] judged;
    // What the records of the last journey say.
    private final Entry[] firsts = new Entry[KINDS];
    private long[] pausesFrom = new long[8];
    private long[] pausesUntil = new long[8];
    private int pauses;
    private boolean paused;
    private int journeys;
    private long journeyAt;
    private long endedAt;
    private Plan plan;
    private Entry advice;

    /** A promise and what is found about one parcel. */
    private static final class Judged {
        final Promise promise;
        final Utf8 name;
        final byte[] said;
        final int starts;
        final int stops;
        final int renews;
        final int[] startKinds;
        final int[] stopKinds;
        // Last start of a clock that restarts, and the first stop after it.
        Entry runStart;
        Entry runStop;
        int level;
        boolean fires;
        long since;
        long deadline;
        long limit;
        long stopped;
        long left;
        long next;
        Standing standing;
        Entry one;
        Entry other;

        Judged(Promise promise) {
            this.promise = promise;
            this.name = new Utf8(promise.name());
            this.said = promise.name().getBytes(StandardCharsets.UTF_8);
            this.starts = bits(promise.starts().toArray(Kind[]::new));
            this.stops = bits(promise.stops().toArray(Kind[]::new));
            this.renews = bits(promise.renews().toArray(Kind[]::new));
            this.startKinds = promise.starts().stream().mapToInt(Kind::ordinal).toArray();
            this.stopKinds = promise.stops().stream().mapToInt(Kind::ordinal).toArray();
        }

        /** Does a scan of this kind start the clock, which runs or does not? */
        boolean startsWith(int bit, boolean runs) {
            return (starts & bit) != 0 || runs && (renews & bit) != 0;
        }

        void nothing() {
            level = NOTHING;
            fires = false;
            since = NEVER;
            deadline = NEVER;
            limit = NEVER;
            stopped = NEVER;
            left = 0;
            next = OPEN;
            standing = null;
            one = null;
            other = null;
        }
    }

    Clocks(List<Promise> promises) {
        judged = promises.stream().map(Judged::new).toArray(Judged[]::new);
    }

    /**
     * Derives the clocks of a parcel that has changed.
     *
     * @return the instant after which a Tick has to look at it; {@code now} for the next Tick, OPEN for never
     */
    long follow(ParcelState parcel, long now) {
        look(parcel, now);
        show(parcel);
        if (!parcel.getAlerts().isEmpty()) {
            return now;
        }
        for (Judged each : judged) {
            if (each.level > NOTHING && each.fires) {
                return now;
            }
        }
        return due();
    }

    /**
     * What a Tick makes of a parcel: adds to {@code said} what is to tell, and keeps in the state what stands.
     *
     * @return whether the state is another one now
     */
    boolean tell(ParcelState parcel, long now, List<Alert> said) {
        look(parcel, now);
        boolean changed = false;
        for (Judged each : judged) {
            if (!parcel.getAlerts().isEmpty() || each.fires) {
                changed |= compare(parcel, each, now, said);
            }
        }
        if (changed) {
            show(parcel);
        }
        return changed;
    }

    /** After {@link #tell}: the instant after which a Tick has to look again; OPEN for never. */
    long due() {
        long due = OPEN;
        for (Judged each : judged) {
            due = Math.min(due, each.next);
        }
        return due;
    }

    private void look(ParcelState parcel, long now) {
        read(parcel.getScans());
        Direction direction = plan == null ? Direction.UNKNOWN : plan.getDirection();
        for (Judged each : judged) {
            each.nothing();
            if (each.promise.direction() == null || each.promise.direction() == direction) {
                judge(each, now);
            }
        }
    }

    private void read(List<Entry> timeline) {
        journeys = 0;
        journeyAt = NEVER;
        endedAt = NEVER;
        forgetJourney();
        for (Entry entry : timeline) {
            Kind kind = entry.getKind();
            if (kind == Kind.VOID || entry.getVoided()) {
                continue;
            }
            note(entry, 1 << kind.ordinal());
            if (entry.getPlan() != null) {
                plan = entry.getPlan();
                advice = entry;
            } else if (kind == Kind.CUSTOMS_HELD) {
                CharSequence reason = entry.getAt().getReason();
                if (reason != null && reason.length() > 0 && !paused) {
                    pause(entry.getEventTime());
                }
            } else if (kind == Kind.CUSTOMS_RELEASED && paused) {
                paused = false;
                pausesUntil[pauses - 1] = entry.getEventTime();
            }
        }
    }

    private void note(Entry entry, int bit) {
        long time = entry.getEventTime();
        if (journeys == 0) {
            journeys = 1;
        } else if ((bit & BEGINS) != 0 && endedAt != NEVER && time - endedAt > REUSED_MILLIS) {
            forgetJourney();
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
        for (Judged each : judged) {
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

    private void forgetJourney() {
        Arrays.fill(firsts, null);
        pauses = 0;
        paused = false;
        plan = null;
        advice = null;
        for (Judged each : judged) {
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

    private void judge(Judged each, long now) {
        Promise promise = each.promise;
        Entry start = promise.restarts() ? each.runStart : firstOf(each.startKinds);
        if (start == null) {
            return;
        }
        Entry stop = promise.restarts() ? each.runStop : firstOf(each.stopKinds);
        long since = start.getEventTime();
        long stopped = stop == null ? NEVER : stop.getEventTime();
        long end = reached(since, promise.limitMillis(), promise.pauses());
        long risk = promise.riskParts() == 0 ? end : reached(since, riskMillis(promise), promise.pauses());
        long ranUntil = stop == null ? now : Math.min(stopped, now);
        boolean runs = stop == null || stopped > now;
        each.level = levelOf(promise, ranUntil, risk, end);
        // Nobody has to be told that a promise was at risk when it is known to be kept.
        each.fires = each.level == BREACHED || each.level == AT_RISK && runs;
        each.since = since;
        each.deadline = end;
        each.limit = promise.limitMillis();
        each.stopped = stopped;
        each.one = start;
        each.other = stop;
        if (stop != null ? stopped > end : now > end) {
            each.standing = Standing.BROKEN;
        } else if (stop != null) {
            each.standing = Standing.KEPT;
        } else if (end == OPEN) {
            each.standing = Standing.PAUSED;
            each.left = left(since, promise.limitMillis());
        } else {
            each.standing = Standing.RUNNING;
        }
        if (runs && each.level == NOTHING && promise.riskParts() != 0) {
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
        return promise.riskParts() != 0 && ranUntil > risk ? AT_RISK : NOTHING;
    }

    /** The first scan of one of these kinds; of two at the same instant the lower kind. */
    private Entry firstOf(int[] kinds) {
        Entry first = null;
        for (int kind : kinds) {
            Entry found = firsts[kind];
            if (found != null && (first == null || found.getEventTime() < first.getEventTime())) {
                first = found;
            }
        }
        return first;
    }

    /** When a clock that starts at {@code start} has run for {@code ran} ms; OPEN while it stands still. */
    private long reached(long start, long ran, boolean pausable) {
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

    /** Of a clock that stands still: what is left of the limit. */
    private long left(long start, long ran) {
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

    private void show(ParcelState parcel) {
        parcel.setJourneys(Math.max(1, journeys));
        List<Clock> clocks = parcel.getClocks();
        clocks.clear();
        for (Judged each : judged) {
            if (each.standing != null) {
                clocks.add(new Clock(
                        each.name, each.standing, each.since, each.deadline == OPEN ? null : each.deadline,
                        each.standing == Standing.PAUSED ? each.left : null,
                        each.stopped == NEVER ? null : each.stopped));
            }
        }
    }

    /** What was told about a promise, and what is to tell. */
    private boolean compare(ParcelState parcel, Judged each, long now, List<Alert> said) {
        List<StandingAlert> standing = parcel.getAlerts();
        boolean changed = false;
        StandingAlert told = find(standing, each.name);
        if (told != null) {
            boolean over = told.getSince() < journeyAt;
            if (!over) {
                boolean otherRun = each.promise.restarts() && told.getSince() != each.since;
                int level = otherRun ? levelOfRun(parcel, each, told.getSince(), now) : each.level;
                if (level < told.getType().ordinal()) {
                    said.add(alert(parcel, each, AlertType.WITHDRAWN, told.getSince(), now, told.getAlertId()));
                    over = true;
                }
                over |= otherRun;
            }
            if (over) {
                // Avro's own lists remove by place only.
                standing.remove(standing.indexOf(told));
                told = null;
                changed = true;
            }
        }
        if (each.fires && each.level > (told == null ? NOTHING : told.getType().ordinal())) {
            Alert alert = alert(parcel, each, TYPES[each.level], each.since, now, null);
            said.add(alert);
            if (told == null) {
                told = new StandingAlert();
                told.setAbout(each.name);
                standing.add(0, told);
            }
            told.setType(alert.getType());
            told.setSince(each.since);
            told.setAlertId(alert.getAlertId());
            changed = true;
        }
        return changed;
    }

    private static StandingAlert find(List<StandingAlert> standing, Utf8 name) {
        for (StandingAlert told : standing) {
            if (name.equals(told.getAbout())) {
                return told;
            }
        }
        return null;
    }

    /** What the clock that started at {@code since}, and was started anew after it, came to. */
    private int levelOfRun(ParcelState parcel, Judged each, long since, long now) {
        boolean runs = false;
        boolean begun = false;
        long until = now;
        for (Entry entry : parcel.getScans()) {
            int bit = 1 << entry.getKind().ordinal();
            boolean starts = each.startsWith(bit, runs);
            if (entry.getVoided() || entry.getEventTime() < journeyAt || !starts && (each.stops & bit) == 0) {
                continue;
            }
            runs = starts;
            if (entry.getEventTime() == since && starts) {
                begun = true;
            } else if (entry.getEventTime() > since) {
                until = Math.min(until, entry.getEventTime());
            }
        }
        if (!begun) {
            return NOTHING;
        }
        Promise promise = each.promise;
        return levelOf(
                promise, until, reached(since, riskMillis(promise), promise.pauses()),
                reached(since, promise.limitMillis(), promise.pauses()));
    }

    private Alert alert(
            ParcelState parcel, Judged each, AlertType type, long since, long now, Identity withdraws) {
        Entry one = each.one == null ? reasonToWithdraw(parcel, each) : each.one;
        Entry other = each.other;
        Entry place = other != null && other.getPlan() == null ? other : one;
        boolean hasPlace = place != null && place.getAt() != null;
        Alert alert = new Alert();
        alert.setParcelId(parcel.getParcelId());
        alert.setVersion(parcel.getVersion());
        alert.setType(type);
        alert.setAbout(each.name);
        alert.setHubTime(now);
        alert.setSince(since);
        alert.setDeadline(each.deadline == OPEN || each.deadline == NEVER ? null : each.deadline);
        alert.setLimit(each.limit == NEVER ? null : each.limit);
        alert.setStopped(each.stopped == NEVER ? null : each.stopped);
        alert.setWithdraws(withdraws);
        List<Identity> evidence = new ArrayList<>(2);
        if (one != null) {
            evidence.add(one.getIdentity());
        }
        if (other != null) {
            evidence.add(other.getIdentity());
        }
        alert.setEvidence(evidence);
        alert.setSite(hasPlace ? place.getAt().getSite() : NOWHERE);
        alert.setStation(hasPlace ? place.getAt().getStation() : NOWHERE);
        alert.setDirection(parcel.getPlan() == null ? Direction.UNKNOWN : parcel.getPlan().getDirection());
        alert.setAlertId(identityOf(alert, each.said));
        return alert;
    }

    /** What takes an alert back when its clock has no start any more: the voided scan it rested on, or the advice. */
    private Entry reasonToWithdraw(ParcelState parcel, Judged each) {
        for (Entry entry : parcel.getScans()) {
            if (entry.getVoided() && ((each.starts | each.renews) & 1 << entry.getKind().ordinal()) != 0) {
                return entry;
            }
        }
        return advice;
    }

    private static Identity identityOf(Alert alert, byte[] about) {
        Utf8 parcelId = alert.getParcelId();
        int length = parcelId.getByteLength();
        ByteBuffer said = ByteBuffer.allocate(length + 1 + about.length + 1 + 2 + 4 + 5 * 8 + 3 * 16);
        said.put(parcelId.getBytes(), 0, length).put((byte) 0).put(about).put((byte) 0);
        said.put((byte) alert.getType().ordinal()).put((byte) alert.getEvidence().size()).putInt(alert.getVersion());
        said.putLong(alert.getHubTime()).putLong(alert.getSince());
        said.putLong(orNever(alert.getDeadline())).putLong(orNever(alert.getLimit()));
        said.putLong(orNever(alert.getStopped()));
        for (int i = 0; i < 2; i++) {
            said.put((i < alert.getEvidence().size() ? alert.getEvidence().get(i) : NOBODY).bytes());
        }
        said.put((alert.getWithdraws() == null ? NOBODY : alert.getWithdraws()).bytes());
        return Identities.hash(said.array(), said.position());
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
