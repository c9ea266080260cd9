/*
 * The simulated logs by themselves: writers without nodes that fence each other off, while everything goes wrong.
 *
 * Decides: that sim_log.c keeps what port/bus.h promises - what was acknowledged stays, nothing is there twice, whoever
 * appended behind another's last message has fenced him off - and that the faults it is there for do happen. Must not use a
 * node. Invariant: a writer follows port/bus.h to the letter and knows nothing else.
 */
#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { SUBJECTS = 4, ACKS_MAX = 20000, SEEDS = 60, RUN_S = 60, TURN_US = 5000, TIMEOUT_MS = 800 };
enum state { IDLE, LOOKING, APPENDING, REPLAYING, OWNING, READING_BACK };

struct writer {
    struct world *w;
    struct sim_bus *bus;
    unsigned subject;
    enum state state;
    bool waiting, marking; /* marking: the append under way is that of a take-over */
    uint64_t token, expected, from, mark;
    uint64_t term;   /* of the one who writes: unique */
    uint64_t number; /* of the message under way */
    uint64_t last_read;
    bool missed; /* a read back did not find it */
};

struct ack {
    unsigned subject;
    uint64_t sequence, term, number;
};

struct bench {
    struct writer writers[SIM_NODES_MAX];
    struct ack acks[ACKS_MAX];
    size_t ack_count;
    uint64_t terms;
    uint64_t purged[SUBJECTS]; /* below this everything may be gone */
    unsigned unknown, late, conflicts, stale, replayed, purges;
};

static struct bench *bench;

struct content {
    uint64_t term, number;
};

static const char *subject_of(unsigned i)
{
    static const char *const names[SUBJECTS] = {"log.a", "log.b", "log.c", "log.d"};
    return names[i];
}

/* ---- a writer ---- */

static void ask(struct writer *x, enum state state)
{
    struct bus *b = &x->bus->base;
    const char *subject = subject_of(x->subject);
    struct content c = {x->term, x->number};
    int rc = ROOM_E_INTERNAL;
    x->token++;
    if (state == LOOKING || state == READING_BACK)
        rc = bus_log_last(b, x->token, "LOG", subject, TIMEOUT_MS);
    else if (state == REPLAYING)
        rc = bus_log_next(b, x->token, "LOG", subject, x->from, TIMEOUT_MS);
    else
        rc = bus_log_append(b, x->token, subject, x->expected, &c, sizeof(c), TIMEOUT_MS);
    x->state = state;
    x->waiting = rc == 0;
}

static void purge_some(struct writer *x)
{
    uint64_t below = x->expected > 3 ? x->expected - (uint64_t)world_between(x->w, 0, 3) : x->expected;
    if (below < 2 || bus_log_purge(&x->bus->base, 0, "LOG", subject_of(x->subject), below, TIMEOUT_MS) != 0)
        return;
    bench->purges++;
    if (below > bench->purged[x->subject])
        bench->purged[x->subject] = below;
}

static void appended(struct writer *x, uint64_t sequence)
{
    ASSERT(bench->ack_count < ACKS_MAX);
    bench->acks[bench->ack_count++] = (struct ack){x->subject, sequence, x->term, x->number};
    bench->late += x->missed;
    x->missed = false;
    x->expected = sequence;
    if (x->marking) {
        x->marking = false;
        x->mark = sequence;
        x->from = 0;
        x->last_read = 0;
        x->state = REPLAYING;
        return;
    }
    x->state = OWNING;
}

static void was_appended(struct writer *x, const struct bus_event *ev)
{
    if (ev->result == BUS_OK) {
        appended(x, ev->revision);
    } else if (ev->result == BUS_NO_RESPONDERS) {
        x->state = APPENDING;
    } else {
        bench->conflicts += ev->result == BUS_CONFLICT;
        bench->unknown += ev->result == BUS_UNKNOWN;
        x->state = READING_BACK;
    }
}

static bool readable(struct writer *x, const struct bus_event *ev, struct content *c)
{
    *c = (struct content){0, 0};
    if (ev->result == BUS_OK && ev->len == sizeof(*c))
        memcpy(c, ev->data, sizeof(*c));
    return ev->result == BUS_OK || ev->result == BUS_NOT_FOUND;
}

static void was_read_back(struct writer *x, const struct bus_event *ev)
{
    struct content c;
    if (!readable(x, ev, &c))
        return;
    if (ev->revision > x->expected && c.term == x->term && c.number == x->number) {
        appended(x, ev->revision);
    } else if (ev->revision > x->expected) {
        x->missed = false;
        x->state = IDLE; /* fenced off; whether our last message is there only the new one can say */
    } else if (ev->revision == x->expected) {
        x->missed = true;
        x->state = APPENDING; /* the same again: one of the two gets in */
    } else {
        bench->stale++;
    }
}

static void was_looked_at(struct writer *x, const struct bus_event *ev)
{
    struct content c;
    if (!readable(x, ev, &c))
        return;
    x->expected = ev->revision;
    x->term = ++bench->terms;
    x->number = 0;
    x->marking = true;
    x->state = APPENDING;
}

/* Everything up to the own mark, in order; what was purged may be missing at the beginning. */
static void was_replayed(struct writer *x, const struct bus_event *ev)
{
    struct content c;
    if (!readable(x, ev, &c))
        return;
    if (ev->result == BUS_NOT_FOUND) {
        bench->stale++; /* the mark is there: ask again */
        return;
    }
    if (ev->revision > x->mark && x->mark < bench->purged[x->subject]) {
        x->state = IDLE; /* the one who came after us has purged our mark */
        return;
    }
    if (ev->revision <= x->last_read || ev->revision > x->mark)
        world_fail(x->w, "%s: %llu read after %llu, up to %llu", subject_of(x->subject), (unsigned long long)ev->revision,
                   (unsigned long long)x->last_read, (unsigned long long)x->mark);
    bench->replayed++;
    x->last_read = ev->revision;
    x->from = ev->revision + 1;
    x->state = ev->revision == x->mark ? OWNING : REPLAYING;
}

static void on_event(void *arg, const struct bus_event *ev)
{
    struct writer *x = arg;
    if (ev->kind != BUS_EV_DONE || ev->token != x->token || !x->waiting)
        return;
    x->waiting = false;
    switch (x->state) {
    case LOOKING:
        was_looked_at(x, ev);
        return;
    case REPLAYING:
        was_replayed(x, ev);
        return;
    case READING_BACK:
        was_read_back(x, ev);
        return;
    default:
        was_appended(x, ev);
    }
}

static void turn(struct world *w, void *arg)
{
    struct writer *x = &bench->writers[*(unsigned *)arg];
    unsigned *again = world_alloc(sizeof(*again));
    *again = *(unsigned *)arg;
    bus_drain(&x->bus->base, on_event, x, 64);
    if (!x->waiting && x->state == IDLE && world_chance(w, 1)) {
        x->subject = (unsigned)rng_below(&w->rng, SUBJECTS);
        ask(x, LOOKING);
    } else if (!x->waiting && x->state == OWNING) {
        if (world_chance(w, 3))
            purge_some(x);
        x->number++;
        ask(x, APPENDING);
    } else if (!x->waiting && x->state != IDLE) {
        ask(x, x->state);
    }
    if (!w->quiet)
        world_at(w, w->now_us + TURN_US, turn, again);
    else
        free(again);
}

/* ---- what goes wrong ---- */

static void fault(struct world *w, void *arg)
{
    struct sim_bus *b = w->procs[rng_below(&w->rng, w->proc_count)].bus;
    if (w->healing)
        return;
    switch (rng_below(&w->rng, 4)) {
    case 0:
        if (w->stream_count)
            sim_log_election(w, &w->streams[0], world_between(w, 1000, 5000) * SIM_MS);
        break;
    case 1:
        sim_bus_drop(b, world_between(w, 3, 2000) * SIM_MS);
        break;
    case 2:
        sim_bus_cut(b, true, world_chance(w, 50), world_between(w, 200, 6000) * SIM_MS);
        break;
    default:
        break;
    }
    world_at(w, w->now_us + world_between(w, 500, 4000) * SIM_MS, fault, NULL);
}

/* ---- the verdict ---- */

static const struct sim_log_message *message_at(const struct world *w, unsigned subject, uint64_t sequence)
{
    const struct sim_log *log = map_get(&w->streams[0].logs, subject_of(subject));
    const struct sim_log_message *m = log ? log->first : NULL;
    while (m && m->sequence < sequence)
        m = m->next;
    return m && m->sequence == sequence ? m : NULL;
}

static void check_acknowledged(struct world *w)
{
    for (size_t i = 0; i < bench->ack_count; i++) {
        const struct ack *a = &bench->acks[i];
        const struct sim_log_message *m = message_at(w, a->subject, a->sequence);
        struct content c = {0, 0};
        if (m)
            memcpy(&c, m->data, sizeof(c));
        if (m ? c.term != a->term || c.number != a->number : a->sequence >= bench->purged[a->subject])
            world_fail(w, "%s: what was acknowledged as %llu is not there", subject_of(a->subject),
                       (unsigned long long)a->sequence);
    }
}

/* Each term's messages are together, counted from its mark, and none is there twice. */
static void check_fenced(struct world *w, unsigned subject)
{
    const struct sim_log *log = map_get(&w->streams[0].logs, subject_of(subject));
    struct content before = {0, 0};
    for (const struct sim_log_message *m = log ? log->first : NULL; m; m = m->next) {
        struct content c;
        memcpy(&c, m->data, sizeof(c));
        bool follows = c.term == before.term ? c.number == before.number + 1 : c.number == 0 && c.term > 0;
        if (before.term && !follows)
            world_fail(w, "%s: %llu of term %llu came after %llu of term %llu", subject_of(subject),
                       (unsigned long long)c.number, (unsigned long long)c.term, (unsigned long long)before.number,
                       (unsigned long long)before.term);
        before = c;
    }
}

static void run_until(struct world *w, int64_t until_us)
{
    while (!w->failed && w->heap_count && w->heap[0].at_us <= until_us)
        world_step(w);
}

static void begin(struct world *w)
{
    static const struct bus_stream stream = {.name = "LOG", .subjects = "log.*"};
    proc_init(w);
    for (unsigned i = 0; i < w->proc_count; i++) {
        w->procs[i].life = 1;
        w->procs[i].bus = sim_bus_create(w, i, 1);
        bench->writers[i] = (struct writer){.w = w, .bus = w->procs[i].bus};
    }
    run_until(w, SIM_S); /* all are connected */
    for (unsigned i = 0; i < w->proc_count; i++) {
        unsigned *index = world_alloc(sizeof(*index));
        *index = i;
        world_at(w, w->now_us, turn, index);
        ASSERT(bus_stream(&w->procs[i].bus->base, 0, &stream, TIMEOUT_MS) == 0);
    }
    world_at(w, w->now_us + SIM_S, fault, NULL);
}

static bool run(uint64_t seed, bool trace)
{
    struct world *w = world_alloc(sizeof(*w));
    world_init(w, seed, trace, SIM_MUTATE_NONE);
    invariants_init(w);
    ledger_init(w);
    begin(w);
    run_until(w, RUN_S * (int64_t)SIM_S);
    w->healing = w->quiet = true;
    run_until(w, (RUN_S + 30) * (int64_t)SIM_S); /* what is late comes now, or never */
    check_acknowledged(w);
    for (unsigned i = 0; i < SUBJECTS; i++)
        check_fenced(w, i);
    if (w->failed)
        printf("FAILED seed %llu: %s\n", (unsigned long long)seed, w->failure);
    bool ok = !w->failed;
    proc_deinit(w);
    invariants_deinit(w);
    ledger_deinit(w);
    sim_kv_deinit(w);
    sim_log_deinit(w);
    world_deinit(w);
    free(w);
    return ok;
}

int main(int argc, char **argv)
{
    unsigned failed = 0;
    size_t acks = 0;
    struct bench sum = {0};
    uint64_t only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    log_setup(LOG_OFF, LOG_LOGFMT, "sim");
    bench = world_alloc(sizeof(*bench));
    for (uint64_t seed = only ? only : 1; seed <= (only ? only : SEEDS); seed++) {
        memset(bench, 0, sizeof(*bench));
        failed += !run(seed, only != 0);
        acks += bench->ack_count;
        sum.unknown += bench->unknown;
        sum.late += bench->late;
        sum.conflicts += bench->conflicts;
        sum.stale += bench->stale;
        sum.replayed += bench->replayed;
        sum.purges += bench->purges;
    }
    free(bench);
    printf("%zu appended, %u unknown, %u of them came late, %u conflicts, %u stale reads, %u replayed, %u purges, %u failed\n",
           acks, sum.unknown, sum.late, sum.conflicts, sum.stale, sum.replayed, sum.purges, failed);
    bool seen = sum.unknown && sum.late && sum.conflicts && sum.stale && sum.replayed && sum.purges;
    return failed || (!seen && !only) ? 1 : 0;
}
