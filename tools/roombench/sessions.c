/*
 * See sessions.h. Floors: a login reads the player's entry and then writes it by compare-and-set, so as many writes of as many
 * bytes into the same bucket stand beside it. Whoever comes back to the node that has his session is welcome without a word on
 * NATS: beside that stands what the machine gives of new connections. A push is in the player's inbox before it is said, so
 * one append to that stream is measured, too.
 * Weak points: all players are in this one process, so a rate of theirs has its work in it, too. What a node's allocator keeps
 * of memory that it has no use for counts as used.
 */
#include "tools/roombench/sessions.h"

#include <stdio.h>
#include <string.h>

#include "core/view.h"
#include "tools/roombench/backend.h"
#include "tools/roombench/measure.h"
#include "wire/subject.h"

enum { ROUNDS_MAX = 8, PLAYERS = 1000, QUICK_PLAYERS = 200, LOGINS = 500, QUICK_LOGINS = 100, PER_ROOM = 10 };
enum { WARM = 50, BATCHES = 10, BACK_MS = 3000, PUSHES_PART = 3, HEARD_US = 5000000 };

/* Whoever left is kept as long as is measured. */
const char *const sessions_memory_options[] = {"--grace", "10m", NULL};
const char *const sessions_options[] = {"--prefer-local", NULL};

static unsigned players_of(const struct sessions *s)
{
    return s->quick ? QUICK_PLAYERS : PLAYERS;
}

/* ---- memory ---- */

static int connected(const struct sessions *s)
{
    struct players *warm = players_open(s->cluster->address[0], "warm", WARM, 0, 1);
    double before = cluster_rss(s->cluster->nodes[0]);
    struct players *idle = warm ? players_open(s->cluster->address[0], "idle", players_of(s), 0, 1) : NULL;
    if (idle)
        table_add(s->table, "memory per session, connected", "bytes",
                  (cluster_rss(s->cluster->nodes[0]) - before) / players_of(s));
    players_close(idle);
    players_close(warm);
    return idle ? 0 : -1;
}

/* They come and lose their connection; the node is still the gateway of their sessions. */
static int leave_behind(const struct sessions *s, struct backend *b, unsigned batch, unsigned count)
{
    char name[32];
    snprintf(name, sizeof name, "away-%u", batch);
    struct players *ps = players_open(s->cluster->address[1], name, count, 0, 1);
    int rc = ps && players_cut(ps) >= 0 ? 0 : -1;
    players_close(ps);
    return rc ? rc : backend_await(b, s->cluster->id[1], "away", (batch + 1) * count);
}

/* A few at a time, and the first before it is measured: what their connections took is taken again by the next. */
static int away(const struct sessions *s, struct backend *b)
{
    unsigned count = players_of(s) / BATCHES;
    double before = 0;
    for (unsigned i = 0; i <= BATCHES; i++) {
        if (leave_behind(s, b, i, count) != 0)
            return -1;
        if (i == 0)
            before = cluster_rss(s->cluster->nodes[1]);
    }
    table_add(s->table, "memory per session, away", "bytes",
              (cluster_rss(s->cluster->nodes[1]) - before) / (count * BATCHES));
    return 0;
}

int sessions_memory(const struct sessions *s)
{
    struct backend *b = backend_create(s->cluster->nats_url);
    int rc = b ? connected(s) : -1;
    if (rc == 0)
        rc = away(s, b);
    backend_destroy(b);
    return rc;
}

/* ---- logins ---- */

/* Bytes of a player's entry; 0: there is none. */
static unsigned entry_bytes(const struct sessions *s)
{
    struct players *ps = players_open(s->cluster->address[0], "entry", 1, 0, 1);
    unsigned bytes = ps ? floors_last_bytes(s->floors, "KV_players", "$KV.players.entry-0") : 0;
    if (ps && !bytes)
        fprintf(stderr, "roombench: a player who has logged in has no entry\n");
    players_close(ps);
    return bytes;
}

static double login_rate(const struct sessions *s, unsigned round, unsigned count)
{
    char servers[2 * CLUSTER_ADDRESS + 1], name[32];
    snprintf(servers, sizeof servers, "%s,%s", s->cluster->address[0], s->cluster->address[1]);
    snprintf(name, sizeof name, "login-%u", round);
    if (!floors_settled(s->floors, "players"))
        return -1;
    int64_t start = stats_now_us();
    struct players *ps = players_open(servers, name, count, 0, 1);
    double rate = count * 1e6 / (double)(stats_now_us() - start);
    players_close(ps);
    return ps ? rate : -1;
}

int sessions_logins(const struct sessions *s)
{
    double logins[ROUNDS_MAX], puts[ROUNDS_MAX];
    unsigned count = s->quick ? QUICK_LOGINS : LOGINS, bytes = entry_bytes(s);
    char name[64], floor[48];
    if (!bytes)
        return -1;
    for (unsigned i = 0; i < s->rounds; i++) {
        logins[i] = login_rate(s, i, count);
        if (logins[i] < 0 || !floors_settled(s->floors, "players"))
            return -1;
        puts[i] = floors_put_rate(s->floors, "players", bytes, count);
        if (puts[i] < 0)
            return -1;
    }
    snprintf(name, sizeof name, "logins, %u at once at 2 nodes", count);
    snprintf(floor, sizeof floor, "KV creates, %u at once", count);
    table_ratio(s->table, name, "/s", stats_median(logins, s->rounds), floor, stats_median(puts, s->rounds), 0, true);
    return 0;
}

/* ---- pushes ---- */

/* A player of the first node, to whom that node pushes, or the other one. */
struct way {
    const char *name;
    unsigned node; /* the one that sees to it */
    char player[ID_SIZE];
    struct players *ps;
    struct stats heard, answered;
};

/* A name for which that node is the first in rank: it sees to whatever is pushed to the player. */
static int way_open(const struct sessions *s, struct way *w)
{
    const char *own = s->cluster->id[w->node], *other = s->cluster->id[!w->node];
    char name[32];
    unsigned i = 0;
    do {
        snprintf(name, sizeof name, "push-%u-%u", w->node, i++);
        snprintf(w->player, sizeof w->player, "%s-0", name);
    } while (view_rank(w->player, own) <= view_rank(w->player, other));
    w->ps = players_open(s->cluster->address[0], name, 1, 0, 1);
    return w->ps ? 0 : -1;
}

static int push_one(const struct sessions *s, struct backend *b, struct way *w)
{
    const struct player *p = &w->ps->p[0];
    uint64_t before = p->pushed;
    int64_t start = stats_now_us(), heard = start, answered;
    players_timers();
    if (backend_push(b, w->player) != 0)
        return -1;
    while (p->pushed == before && heard - start < HEARD_US) {
        players_turn(w->ps, 100);
        heard = stats_now_us();
    }
    if (p->pushed == before) {
        fprintf(stderr, "roombench: a push to '%s' was not heard\n", w->player);
        return -1;
    }
    if ((answered = backend_answered(b, s->cluster->id[w->node])) < 0)
        return -1;
    stats_add(&w->heard, heard - start);
    stats_add(&w->answered, answered - start);
    return 0;
}

static int push_some(const struct sessions *s, struct backend *b, struct way *w, unsigned count)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = push_one(s, b, w);
    return rc;
}

/* In turns, as all floors. What comes before the first round is not counted: a message of an inbox grows until it knows the
 * last INBOX_RECENT pushes, and its length then is the floor's. */
static int push_rounds(const struct sessions *s, struct backend *b, struct way ways[2], struct stats *request,
                       struct stats *append)
{
    char subject[SUBJECT_SIZE];
    unsigned count = s->trips / PUSHES_PART;
    int rc = push_some(s, b, &ways[0], count);
    unsigned bytes = rc == 0 ? floors_last_bytes(s->floors, "PLAYER_INBOX", subject_inbox(subject, ways[0].player)) : 0;
    if (rc == 0)
        rc = push_some(s, b, &ways[1], count);
    if (rc == 0 && !bytes) {
        fprintf(stderr, "roombench: the inbox of '%s' is empty\n", ways[0].player);
        return -1;
    }
    for (int i = 0; i < 2; i++)
        ways[i].heard = ways[i].answered = (struct stats){0};
    subject_inbox(subject, "roombench-floor");
    for (unsigned i = 0; rc == 0 && i < s->rounds; i++) {
        rc = floors_request_us(s->floors, count, request) < 0 ? -1 : 0;
        if (rc == 0)
            rc = floors_append_us(s->floors, subject, bytes, count, append) < 0 ? -1 : 0;
        for (int k = 0; rc == 0 && k < 2; k++)
            rc = push_some(s, b, &ways[k], count);
    }
    return rc;
}

static void push_row(const struct sessions *s, const char *what, const struct way *w, const struct stats *of,
                     const struct stats *request)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s%s, p50", what, w ? ", " : "", w ? w->name : "");
    table_ratio(s->table, name, "us", stats_at(of, 0.5), "NATS request, p50", stats_at(request, 0.5), 0, false);
    snprintf(name, sizeof name, "%s%s%s, p99", what, w ? ", " : "", w ? w->name : "");
    table_ratio(s->table, name, "us", stats_at(of, 0.99), "NATS request, p99", stats_at(request, 0.99), 0, false);
}

int sessions_pushes(const struct sessions *s)
{
    static struct stats request, append;
    static struct way ways[2];
    struct backend *b = backend_create(s->cluster->nats_url);
    int rc = b ? 0 : -1;
    memset(&request, 0, sizeof request);
    memset(&append, 0, sizeof append);
    memset(ways, 0, sizeof ways);
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        ways[i].node = i;
        ways[i].name = i ? "other node" : "same node";
        rc = way_open(s, &ways[i]);
    }
    if (rc == 0)
        rc = push_rounds(s, b, ways, &request, &append);
    if (rc == 0)
        push_row(s, "floor: append to an inbox", NULL, &append, &request);
    for (int i = 0; rc == 0 && i < 2; i++) {
        push_row(s, "push to player", &ways[i], &ways[i].heard, &request);
        push_row(s, "push to answer", &ways[i], &ways[i].answered, &request);
    }
    players_close(ways[0].ps);
    players_close(ways[1].ps);
    backend_destroy(b);
    return rc;
}

/* ---- resumes ---- */

/* Players of the second node, each with a seat in a room of the first. */
static struct players *guests_of_second(const struct sessions *s)
{
    unsigned count = players_of(s), relayed = 0;
    struct players *makers = players_open(s->cluster->address[0], "maker", count / PER_ROOM, 0, 1), *guests = NULL;
    if (makers && players_join(makers, "tally", "far", 1) == 0)
        guests = players_open(s->cluster->address[1], "guest", count, 0, 1);
    bool in = guests && players_join(guests, "tally", "far", PER_ROOM) == 0;
    players_close(makers);
    for (unsigned i = 0; in && i < count; i++)
        relayed += guests->p[i].via == ROOM_CLIENT_RELAY;
    if (in && relayed < count)
        fprintf(stderr, "roombench: only %u of %u seats are in rooms of the first node\n", relayed, count);
    if (in && relayed == count)
        return guests;
    players_close(guests);
    return NULL;
}

/* What stands in the registries is what it takes to come back elsewhere, and no round begins before the one before is over. */
static bool at_rest(const struct sessions *s)
{
    return floors_settled(s->floors, "players") && floors_settled(s->floors, "sessions");
}

static int same_node(const struct sessions *s, struct players *guests)
{
    double back[ROUNDS_MAX], floor[ROUNDS_MAX];
    char name[64];
    for (unsigned i = 0; i < s->rounds; i++) {
        floor[i] = at_rest(s) ? floors_connect_rate(s->floors, guests->count) : -1;
        int64_t start = floor[i] < 0 ? -1 : players_cut(guests);
        if (start < 0 || players_back(guests) != 0)
            return -1;
        back[i] = guests->count * 1e6 / (double)(stats_now_us() - start);
    }
    snprintf(name, sizeof name, "resumes, same node, %u connections cut", guests->count);
    table_ratio(s->table, name, "/s", stats_median(back, s->rounds), "TCP connect and echo", stats_median(floor, s->rounds), 0,
                true);
    return 0;
}

/* Every seat is still one: who sits there is heard. */
static int other_node(const struct sessions *s, struct players *guests)
{
    double floor[ROUNDS_MAX];
    char name[64];
    unsigned bytes = entry_bytes(s);
    for (unsigned i = 0; i < s->rounds; i++) {
        floor[i] = bytes && at_rest(s) ? floors_put_rate(s->floors, "players", bytes, guests->count) : -1;
        if (floor[i] < 0)
            return -1;
    }
    if (!at_rest(s))
        return -1;
    int64_t start = stats_now_us();
    cluster_kill(s->cluster, 1);
    if (players_back(guests) != 0)
        return -1;
    double us = (double)(stats_now_us() - start);
    if (players_add_rate(guests, 1, 1) < 0)
        return -1;
    snprintf(name, sizeof name, "gateway of %u sessions killed, last resumed", guests->count);
    table_limit(s->table, name, "ms", us / 1e3, BACK_MS);
    table_ratio(s->table, "the same, resumes, other node", "/s", guests->count * 1e6 / us, "KV creates, as many at once",
                stats_median(floor, s->rounds), 0, true);
    return 0;
}

int sessions_resumes(const struct sessions *s)
{
    struct players *guests = guests_of_second(s);
    int rc = guests ? same_node(s, guests) : -1;
    if (rc == 0)
        rc = other_node(s, guests);
    players_close(guests);
    return rc;
}
