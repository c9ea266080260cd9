/*
 * The books of the rooms that outlive their owners: what was acknowledged, what is in doubt, and what may be lost.
 *
 * Decides: whether what players were told of a counter can all be true. Of `journal` rooms (G2, G3): every acknowledged add made
 * a value, no two the same; what was told at one epoch is in every state told at a later one; at the end the value is the
 * acknowledged adds and at most those in doubt. Of `snapshot` rooms: what a later epoch has not is younger than the interval
 * and LATE_MS, on a clock that stands still while its owner can save nothing. Of all rooms: a move loses nothing, whatever
 * becomes of the room's owners later. Must not look into nodes.
 * A name used again is another room: an *account* is one life of a name, known by its first epoch.
 */
#include "ledger.h"

#include <stdlib.h>
#include <string.h>

/* Operations of the registries that nobody answers cost their deadline, twice in a row at times; and a read after an election
 * may be stale. */
enum { LATE_MS = 12000 };

struct ack {
    int64_t value, at_us; /* on the clock of its epoch */
};

struct period { /* of one epoch */
    struct period *next; /* of a lower epoch */
    int64_t epoch, clock_us, seen_us;
    int64_t low, high; /* of all values told; high -1: none */
    bool moved; /* it ended by a move */
    struct ack *acks;
    size_t count, cap;
};

struct account {
    struct account *next; /* the life of this name before */
    const struct room_type_def *type;
    int64_t first_epoch, last_epoch, acknowledged, doubts, highest;
    struct period *periods;
    bool deleted, damaged, excused;
    bool moved; /* once at least: since then there is a whole copy of it that all nodes can read */
};

static bool keeps(const struct account *a)
{
    return a && a->type->durability == ROOM_DURABILITY_JOURNAL;
}

static struct account *open_account(struct world *w, const char *room, const char *type, int64_t epoch)
{
    const struct room_type_def *def = types_find(w->types, type);
    if (!def || strcmp(def->impl->name, "counter") != 0)
        return NULL;
    struct account *a = world_alloc(sizeof(*a));
    *a = (struct account){.next = map_get(&w->ledger, room), .type = def, .first_epoch = epoch,
                          .last_epoch = epoch};
    if (!map_put(&w->ledger, room, a))
        exit(2);
    return a;
}

static struct account *account_of(const struct world *w, const char *room, int64_t epoch)
{
    struct account *a = map_get(&w->ledger, room);
    while (a && a->first_epoch > epoch)
        a = a->next;
    return a;
}

static struct period *period_of(struct account *a, int64_t epoch)
{
    struct period **at = &a->periods;
    while (*at && (*at)->epoch > epoch)
        at = &(*at)->next;
    if (*at && (*at)->epoch == epoch)
        return *at;
    struct period *p = world_alloc(sizeof(*p));
    *p = (struct period){.next = *at, .epoch = epoch, .low = INT64_MAX, .high = -1};
    *at = p;
    return p;
}

/* Whatever is told at one epoch is at least what was told at those before; but the acknowledgement of something repeated may
 * be one of those itself. */
static void told(struct world *w, struct account *a, const char *room, int64_t epoch, int64_t value, bool repeated)
{
    struct period *p = period_of(a, epoch);
    if (value < p->low && !repeated)
        p->low = value;
    if (value > p->high)
        p->high = value;
    for (const struct period *q = a->periods; q && keeps(a); q = q->next) {
        if (q->epoch < epoch && q->high > value && !repeated)
            world_fail(w, "G2: room %s had %lld at epoch %lld, and has %lld at epoch %lld", room, (long long)q->high,
                       (long long)q->epoch, (long long)value, (long long)epoch);
        if (q->epoch > epoch && q->low < value)
            world_fail(w, "G2: room %s told %lld at epoch %lld, but had %lld at epoch %lld", room, (long long)value,
                       (long long)epoch, (long long)q->low, (long long)q->epoch);
    }
}

void ledger_state(struct world *w, const char *room, const char *type, int64_t epoch, int64_t value)
{
    struct account *a = account_of(w, room, epoch);
    if (!a) /* it runs before it is listed */
        a = open_account(w, room, type, epoch);
    if (a)
        told(w, a, room, epoch, value, false);
}

void ledger_heard(struct world *w, const char *room, int64_t epoch, int64_t value)
{
    struct account *a = account_of(w, room, epoch);
    if (a)
        told(w, a, room, epoch, value, false);
}

void ledger_acknowledged(struct world *w, const char *room, int64_t joined_epoch, int64_t epoch, int64_t value)
{
    struct account *a = account_of(w, room, epoch);
    if (!a)
        return;
    if (account_of(w, room, joined_epoch) != a)
        world_fail(w, "G3: a message to room %s of epoch %lld was applied to another one of that name, at epoch %lld", room,
                   (long long)joined_epoch, (long long)epoch);
    struct period *p = period_of(a, epoch);
    for (const struct period *q = a->periods; q && keeps(a); q = q->next)
        for (size_t i = 0; i < q->count; i++)
            if (q->acks[i].value == value)
                world_fail(w, "G3: room %s acknowledged the value %lld twice, at epochs %lld and %lld", room,
                           (long long)value, (long long)q->epoch, (long long)epoch);
    if (p->count == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->acks = realloc(p->acks, p->cap * sizeof(*p->acks));
        if (!p->acks)
            exit(2);
    }
    p->acks[p->count++] = (struct ack){value, p->clock_us};
    a->acknowledged++;
    if (value > a->highest)
        a->highest = value;
    told(w, a, room, epoch, value, true);
}

void ledger_doubt(struct world *w, const char *room, int64_t epoch, unsigned count)
{
    struct account *a = account_of(w, room, epoch);
    if (a)
        a->doubts += count;
}

void ledger_moved(struct world *w, const char *room, int64_t epoch)
{
    struct account *a = account_of(w, room, epoch);
    if (!a)
        return;
    a->moved = true;
    period_of(a, epoch)->moved = true;
}

void ledger_damaged(struct world *w, const char *room)
{
    struct account *a = map_get(&w->ledger, room);
    if (a)
        a->damaged = true;
}

void ledger_runs(struct world *w, const char *room, int64_t epoch, bool can_save)
{
    struct account *a = account_of(w, room, epoch);
    if (!a || keeps(a))
        return;
    struct period *p = period_of(a, epoch);
    int64_t passed = w->now_us - p->seen_us;
    if (can_save && p->seen_us)
        p->clock_us += passed < 100 * SIM_MS ? passed : 100 * SIM_MS;
    p->seen_us = can_save ? w->now_us : 0;
}

static bool young(const struct world *w, const struct account *a)
{
    int64_t us = 0;
    for (const struct period *p = a->periods; p; p = p->next)
        us += p->clock_us;
    return us <= (SIM_SNAPSHOT_MS(w) + LATE_MS) * SIM_MS;
}

static void deleted(struct world *w, struct account *a, const char *room)
{
    a->deleted = true;
    if (a->type->durability == ROOM_DURABILITY_NONE || a->type->auto_dispose || a->damaged ||
        (!a->moved && (!a->periods || (!keeps(a) && young(w, a)))))
        return;
    world_fail(w, "G2: room %s has left the listing, though it never ends by itself", room);
}

/* A room of which nothing is kept has lost its owner, and its name was taken without a deletion in between. */
static bool replaced(struct account *a)
{
    return a->type->durability == ROOM_DURABILITY_NONE && !period_of(a, a->last_epoch)->moved;
}

void ledger_written(struct world *w, const char *room, const struct wire_room_entry *e, bool by_owner)
{
    struct account *a = map_get(&w->ledger, room);
    if (!e) {
        if (a && !a->deleted)
            deleted(w, a, room);
        return;
    }
    if (!a || (e->epoch > a->last_epoch && (a->deleted || replaced(a))))
        a = open_account(w, room, e->type.s, e->epoch);
    if (!a)
        return;
    a->deleted = false;
    if (e->epoch > a->last_epoch)
        a->last_epoch = e->epoch;
    if (e->state != WIRE_ROOM_STATE_PARKED)
        return;
    /* Three owners in a row have died, or one has not got it to run: only the former needs no excuse. */
    a->excused = true;
    if (by_owner && !a->damaged)
        world_fail(w, "G9: room %s is parked: it could not be restored", room);
}

bool ledger_lives(const struct world *w, const char *room, int64_t epoch)
{
    const struct account *a = account_of(w, room, epoch);
    return keeps(a) && a == map_get(&w->ledger, room) && !a->deleted;
}

bool ledger_excuses(const struct world *w, const char *room)
{
    const struct account *a = map_get(&w->ledger, room);
    return a && a->excused;
}

bool ledger_final(struct world *w, const char *room, int64_t value)
{
    const struct account *a = map_get(&w->ledger, room);
    if (!keeps(a) || (value >= a->acknowledged && value <= a->acknowledged + a->doubts && value >= a->highest))
        return true;
    world_fail(w, "G2, G3: of room %s %lld adds were acknowledged, up to %lld, %lld are in doubt, but its value is %lld", room,
               (long long)a->acknowledged, (long long)a->highest, (long long)a->doubts, (long long)value);
    return false;
}

/* What a later epoch had not must have been too young to be saved. */
static void judge_snapshots(struct world *w, const struct account *a, const char *room)
{
    int64_t low = INT64_MAX, allowed = (SIM_SNAPSHOT_MS(w) + LATE_MS) * SIM_MS;
    bool kept = a->type->durability != ROOM_DURABILITY_NONE;
    for (const struct period *p = a->periods; p; p = p->next) { /* the last epoch first */
        for (size_t i = 0; i < p->count; i++)
            if (p->acks[i].value > low && p->moved)
                world_fail(w, "G2: room %s lost %lld in a move, acknowledged at epoch %lld: later it had %lld", room,
                           (long long)p->acks[i].value, (long long)p->epoch, (long long)low);
            else if (p->acks[i].value > low && kept && p->clock_us - p->acks[i].at_us > allowed)
                world_fail(w, "G2: room %s lost %lld, acknowledged %lld ms before the end of epoch %lld: later it had %lld",
                           room, (long long)p->acks[i].value, (long long)(p->clock_us - p->acks[i].at_us) / SIM_MS,
                           (long long)p->epoch, (long long)low);
        if (p->low < low)
            low = p->low;
    }
}

void ledger_close(struct world *w)
{
    for (struct map_iter it = map_first(&w->ledger); it.value; map_next(&it))
        for (const struct account *a = it.value; a; a = a->next) {
            if (keeps(a) && a->highest > a->acknowledged + a->doubts)
                world_fail(w, "G3: room %s came to %lld with %lld adds acknowledged and %lld in doubt", it.key,
                           (long long)a->highest, (long long)a->acknowledged, (long long)a->doubts);
            if (!keeps(a) && !a->damaged)
                judge_snapshots(w, a, it.key);
        }
}

void ledger_init(struct world *w)
{
    map_init(&w->ledger, &alloc_libc);
}

void ledger_deinit(struct world *w)
{
    for (struct map_iter it = map_first(&w->ledger); it.value; map_next(&it))
        for (struct account *a = it.value, *before; a; a = before) {
            before = a->next;
            for (struct period *p = a->periods, *next; p; p = next) {
                next = p->next;
                free(p->acks);
                free(p);
            }
            free(a);
        }
    map_deinit(&w->ledger);
}
