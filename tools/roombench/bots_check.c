/*
 * Judging what the bots heard. See bots_state.h.
 *
 * Decides: what is a loss, a repetition, a turn-around. Must not talk to servers. Weak point: a stream is checked from the
 * first number heard of it; that nothing at all arrives is found by the last round, when everybody speaks once more.
 */
#include <stdlib.h>
#include <string.h>

#include "tools/roombench/bots_state.h"
#include "wire/mp_read.h"

static struct bots_stream *stream_of(struct bots_seat *seat, uint32_t sender)
{
    for (unsigned i = 0; i < seat->stream_count; i++)
        if (seat->streams[i].sender == sender)
            return &seat->streams[i];
    return NULL;
}

static struct bots_stream *stream_add(struct bots_seat *seat, uint32_t sender)
{
    if (seat->stream_count == seat->stream_cap) {
        unsigned cap = seat->stream_cap ? seat->stream_cap * 2 : BOTS_PER_ROOM;
        struct bots_stream *more = realloc(seat->streams, cap * sizeof *more);
        if (!more)
            abort();
        seat->streams = more;
        seat->stream_cap = cap;
    }
    struct bots_stream *s = &seat->streams[seat->stream_count++];
    *s = (struct bots_stream){.sender = sender};
    return s;
}

void bots_heard(struct bots *b, struct bots_seat *seat, uint32_t sender, uint32_t life, int64_t n)
{
    struct bots_stream *s = stream_of(seat, sender);
    if (!s || s->life != life) {
        if (!s)
            s = stream_add(seat, sender);
        *s = (struct bots_stream){.sender = sender, .life = life, .last = n};
        return;
    }
    if (n > s->last) {
        uint64_t gap = (uint64_t)(n - s->last - 1);
        s->missing += (int64_t)gap;
        b->lost += gap;
        s->last = n;
    } else if (n < s->last && s->missing > 0) {
        s->missing--;
        b->lost--;
        b->out_of_order++;
    } else {
        b->duplicated++;
    }
}

void bots_forget(struct bots_seat *seat)
{
    free(seat->streams);
    seat->streams = NULL;
    seat->stream_count = seat->stream_cap = 0;
    seat->gap = false;
}

bool bots_read_value(const void *data, size_t len, int64_t *value)
{
    struct mp_read r;
    struct mp_token map, key, v;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &map, NULL) != 0 || map.type != MP_MAP || mp_next(&r, &key, NULL) != 0 || key.type != MP_STR ||
        mp_next(&r, &v, NULL) != 0 || v.type != MP_INT)
        return false;
    *value = v.i;
    return true;
}

/* What a counter says is durable, so nothing that was heard of it may be taken back. A room that only takes snapshots may fall
 * back by some seconds: there, all numbers begin anew. */
void bots_resynced(struct bots *b, struct bots_seat *seat, const void *state, size_t len)
{
    const struct bots_stream *s = stream_of(seat, BOTS_ROOM);
    int64_t before = s ? s->last : 0, value;
    bots_forget(seat);
    if (seat->kind != BOTS_COUNTER)
        return;
    if (!bots_read_value(state, len, &value))
        bots_breach(b, seat->room_id, "a resync without its value");
    else if (value < before)
        bots_breach(b, seat->room_id, "its value fell from %lld to %lld", (long long)before, (long long)value);
    else
        bots_heard(b, seat, BOTS_ROOM, 0, value);
}

void bots_gap(struct bots_seat *seat)
{
    if (seat->kind != BOTS_COUNTER)
        bots_forget(seat);
    seat->gap = seat->kind == BOTS_COUNTER;
}

void bots_skip(struct bots_seat *seat, int64_t value)
{
    struct bots_stream *s = seat->gap ? stream_of(seat, BOTS_ROOM) : NULL;
    if (s && value > s->last)
        s->last = value - 1;
    seat->gap = false;
}

static bool together(const struct bots_seat *a, const struct bots_seat *b)
{
    return a->room && b->room && a->epoch == b->epoch && strcmp(a->room_id, b->room_id) == 0;
}

static uint64_t missing_from(const struct bots_seat *to, const struct bot *sender, const struct bots_seat *from)
{
    const struct bots_stream *s = stream_of((struct bots_seat *)to, sender->index);
    if (!s || s->life != from->life)
        return from->sent > 0;
    return (uint64_t)(from->sent > s->last ? from->sent - s->last : 0);
}

/* A counter has one stream for all, whose end is the highest value anybody has heard. */
static uint64_t counter_missing(struct bots *b, const struct bots_seat *to)
{
    int64_t top = 0, mine = 0;
    for (unsigned i = 0; i < b->o.bots; i++)
        for (unsigned k = 0; k < BOTS_SEATS; k++) {
            struct bots_seat *seat = &b->bots[i].seats[k];
            const struct bots_stream *s = together(to, seat) ? stream_of(seat, BOTS_ROOM) : NULL;
            if (s && s->last > top)
                top = s->last;
            if (s && seat == to)
                mine = s->last;
        }
    return (uint64_t)(top - mine);
}

uint64_t bots_outstanding(struct bots *b, bool count)
{
    uint64_t missing = 0;
    for (unsigned i = 0; i < b->o.bots; i++)
        for (unsigned k = 0; k < BOTS_SEATS; k++) {
            struct bots_seat *to = &b->bots[i].seats[k];
            missing += to->open;
            if (to->room && to->kind == BOTS_COUNTER) {
                missing += counter_missing(b, to);
                continue;
            }
            for (unsigned j = 0; j < b->o.bots; j++)
                if (j != i && together(to, &b->bots[j].seats[k]))
                    missing += missing_from(to, &b->bots[j], &b->bots[j].seats[k]);
        }
    if (count)
        b->lost += missing;
    return missing;
}

void bots_count_rooms(struct bots *b)
{
    unsigned rooms = 0, shared = 0;
    for (unsigned i = 0; i < b->o.bots; i++)
        for (unsigned k = 0; k < BOTS_SEATS; k++) {
            const struct bots_seat *seat = &b->bots[i].seats[k];
            bool first = seat->room != 0, several = false;
            for (unsigned j = 0; first && j < b->o.bots; j++) {
                if (!together(seat, &b->bots[j].seats[k]))
                    continue;
                first = j >= i;
                several |= b->bots[j].server != b->bots[i].server;
            }
            rooms += first;
            shared += first && several;
        }
    b->rooms = rooms > b->rooms ? rooms : b->rooms;
    b->shared = shared > b->shared ? shared : b->shared;
}
