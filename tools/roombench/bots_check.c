/*
 * Judging what the bots heard, and saying it. See bots_state.h.
 *
 * Decides: what is a loss, a repetition, a turn-around. Must not talk to servers. Weak point: a stream is checked from the
 * first number heard of it; that nothing at all arrives is found by the last round, when everybody speaks once more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/roombench/bots_state.h"

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

#define LLU(x) ((unsigned long long)(x))

static void print_json(const struct bots *b, bool ok)
{
    printf("{\"ok\":%s,\"bots\":%u,\"seconds\":%u,\"rooms\":%u,\"rooms_shared\":%u,\"servers\":{", ok ? "true" : "false",
           b->o.bots, b->o.seconds, b->rooms, b->shared);
    for (unsigned i = 0; i < b->seen_servers; i++)
        printf("%s\"%s\":%u", i ? "," : "", b->servers[i], b->homes[i]);
    printf("},\"joins\":{\"local\":%llu,\"redirect\":%llu,\"relay\":%llu},", LLU(b->join_local), LLU(b->join_redirect),
           LLU(b->join_relay));
    printf("\"sent\":%llu,\"acknowledged\":%llu,\"received\":%llu,\"refused\":%llu,\"errors\":%llu,", LLU(b->sent),
           LLU(b->acked), LLU(b->received), LLU(b->refused), LLU(b->errors));
    printf("\"lost\":%llu,\"out_of_order\":%llu,\"duplicated\":%llu,", LLU(b->lost), LLU(b->out_of_order),
           LLU(b->duplicated));
    printf("\"lost_homes\":%llu,\"lost_seats\":%llu,\"unacknowledged_at_loss\":%llu,", LLU(b->lost_homes),
           LLU(b->lost_seats), LLU(b->sent_at_loss));
    printf("\"latency_us\":{\"p50\":%.0f,\"p99\":%.0f},\"ack_us\":{\"p50\":%.0f,\"p99\":%.0f}}\n", stats_at(&b->latency, 0.5),
           stats_at(&b->latency, 0.99), stats_at(&b->ack, 0.5), stats_at(&b->ack, 0.99));
}

static void print_text(const struct bots *b, bool ok)
{
    printf("bots per server   ");
    for (unsigned i = 0; i < b->seen_servers; i++)
        printf(" %s=%u", b->servers[i], b->homes[i]);
    printf("\nrooms              %u, shared across servers %u\n", b->rooms, b->shared);
    printf("joins              local %llu, redirect %llu, relay %llu\n", LLU(b->join_local), LLU(b->join_redirect),
           LLU(b->join_relay));
    printf("messages           sent %llu, acknowledged %llu, received %llu, refused %llu, other errors %llu\n", LLU(b->sent),
           LLU(b->acked), LLU(b->received), LLU(b->refused), LLU(b->errors));
    if (b->last_error[0])
        printf("last error         %s\n", b->last_error);
    printf("lost by a kill     homes %llu, seats %llu, sends not acknowledged then %llu\n", LLU(b->lost_homes),
           LLU(b->lost_seats), LLU(b->sent_at_loss));
    printf("message            p50 %.0f us, p99 %.0f us\n", stats_at(&b->latency, 0.5), stats_at(&b->latency, 0.99));
    printf("acknowledgement    p50 %.0f us, p99 %.0f us\n", stats_at(&b->ack, 0.5), stats_at(&b->ack, 0.99));
    printf("lost %llu, out of order %llu, duplicated %llu: %s\n", LLU(b->lost), LLU(b->out_of_order), LLU(b->duplicated),
           ok ? "ok" : "FAILED");
}

int bots_report(struct bots *b)
{
    const char *why = NULL;
    if (b->lost + b->out_of_order + b->duplicated > 0)
        why = "messages were lost, turned around or repeated";
    else if (b->seen_servers < b->server_count)
        why = "a server had no bots";
    else if (b->received == 0)
        why = "no message was received";
    else if (b->server_count > 1 && b->shared == 0)
        why = "no room was shared across servers";
    if (b->o.json)
        print_json(b, !why);
    else
        print_text(b, !why);
    if (why)
        fprintf(stderr, "roombench: %s\n", why);
    return why ? 1 : 0;
}
