/*
 * See scenarios.h. Floors and subjects are measured in turns (A B A B), so that a drift of the machine hits both. Memory is
 * measured on a fresh node by itself: what an earlier scenario has freed would be taken again, and nothing would seem used.
 */
#include "tools/roombench/scenarios.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "tools/roombench/cluster.h"
#include "tools/roombench/durable.h"
#include "tools/roombench/floors.h"
#include "tools/roombench/measure.h"
#include "tools/roombench/queue.h"
#include "tools/roombench/sessions.h"
#include "tools/roombench/table.h"

enum { ROUNDS = 5, QUICK_ROUNDS = 3, AT_ONCE = 50, SEARCH = 32, CONNECTIONS = 500, ROOM_SIZE = 100 };
enum { MANY_ROOMS = 50000, QUICK_ROOMS = 5000, IDLE_ROOMS = 20000, FILLERS = 50, LOOKUPS = 200000 };
enum { JOIN_ROUNDS = 20, QUICK_JOIN_ROUNDS = 4, JOINS_ALONE = 500, QUICK_JOINS_ALONE = 100 };

struct bench {
    const struct scenarios_options *o;
    struct cluster cluster;
    struct floors *floors;
    struct table table;
    unsigned rounds, trips, most; /* `most`: other rooms listed in the end */
    unsigned serial;              /* of players' names */
    double first_p50[6];          /* of joins, with no other rooms listed */
    char here[64], there[64]; /* rooms on the first and on the second node; "-0" is added by players_join() */
    struct players *hold_here, *hold_there;
};

/* Finds a name for which a player of the first node gets its room locally, or by relay, and keeps the room open. */
static struct players *find_room(struct bench *b, const char *type, int via, char name[64])
{
    for (int i = 0; i < SEARCH; i++) {
        char player[32];
        snprintf(player, sizeof player, "%s-%d-%d", type, via, i);
        snprintf(name, 64, "home-%s-%d-%d", type, via, i);
        struct players *ps = players_open(b->cluster.address[0], player, 1, 0, 1);
        if (!ps || players_join(ps, type, name, 0) != 0) {
            players_close(ps);
            return NULL;
        }
        if (ps->p[0].via == via)
            return ps;
        players_close(ps);
    }
    fprintf(stderr, "roombench: of %d rooms none was placed where it was wanted\n", SEARCH);
    return NULL;
}

/* The one who answers is in the room only while it is measured. */
static double pingpong(struct bench *b, int node)
{
    double us = -1;
    struct players *pong = players_open(b->cluster.address[node], node ? "pong-there" : "pong-here", 1, 0, 1);
    if (pong && players_join(pong, "relay", b->here, 0) == 0)
        us = players_pingpong_us(b->hold_here, pong, b->trips);
    players_close(pong);
    return us;
}

static struct players *counter_player(struct bench *b, int via)
{
    char name[64];
    return find_room(b, "tally", via, name); /* a counter without a journal */
}

struct trips {
    double echo[ROUNDS], ack[ROUNDS], same[ROUNDS], request[ROUNDS], across[ROUNDS], cross[ROUNDS], publish[ROUNDS];
};

static int measure_trips(struct bench *b, struct players *here, struct players *there, struct trips *t)
{
    for (unsigned i = 0; i < b->rounds; i++) {
        t->echo[i] = floors_echo_us(b->floors, b->trips);
        t->ack[i] = players_ack_us(here, b->trips);
        t->same[i] = pingpong(b, 0);
        t->request[i] = floors_request_us(b->floors, b->trips, NULL);
        t->across[i] = players_ack_us(there, b->trips);
        t->cross[i] = pingpong(b, 1);
        t->publish[i] = floors_publish_rate(b->floors, b->trips * 20);
        if (t->echo[i] < 0 || t->ack[i] < 0 || t->same[i] < 0 || t->request[i] < 0 || t->across[i] < 0 || t->cross[i] < 0 ||
            t->publish[i] < 0)
            return -1;
    }
    return 0;
}

static void report_trips(struct bench *b, struct trips *one, struct trips *all)
{
    struct table *t = &b->table;
    double e = stats_median(one->echo, b->rounds), r1 = stats_median(one->request, b->rounds),
           r = stats_median(all->request, b->rounds), e2 = stats_median(all->echo, b->rounds);
    table_add(t, "floor: TCP echo through libuv, one processor", "us", e);
    table_ratio(t, "echo (send to sent), same node, one processor", "us", stats_median(one->ack, b->rounds), "TCP echo", e, 2,
                false);
    table_ratio(t, "ping-pong of 2 players, the same", "us", stats_median(one->same, b->rounds), "2 x TCP echo", 2 * e, 0, false);
    table_ratio(t, "echo (send to sent), across nodes, the same", "us", stats_median(one->across, b->rounds), "NATS request", r1,
                0, false);
    table_add(t, "floor: NATS request and reply", "us", r);
    table_add(t, "floor: NATS publish", "msg/s", stats_median(all->publish, b->rounds));
    table_ratio(t, "echo (send to sent), across nodes", "us", stats_median(all->across, b->rounds), "NATS request", r, 2.5, false);
    table_ratio(t, "ping-pong of 2 players, across nodes", "us", stats_median(all->cross, b->rounds), "2 TCP echo + NATS request",
                2 * e2 + r, 0, false);
}

/* First with all on one processor: else the scheduler decides anew for each pair of processes whether a wake-up stays on the
 * processor (8 us for the echo) or goes to the other one (80 us), and a ratio of two of them says which it chose for which.
 * Across nodes five processes are involved, and what two processors make of it is what counts. */
static int round_trips(struct bench *b)
{
    struct trips one, all;
    struct players *here = counter_player(b, ROOM_CLIENT_LOCAL), *there = here ? counter_player(b, ROOM_CLIENT_RELAY) : NULL;
    int rc = there ? 0 : -1;
    if (rc == 0) {
        cluster_pin(&b->cluster, floors_echo_pid(b->floors), true);
        rc = measure_trips(b, here, there, &one);
        cluster_pin(&b->cluster, floors_echo_pid(b->floors), false);
    }
    if (rc == 0)
        rc = measure_trips(b, here, there, &all);
    if (rc == 0)
        report_trips(b, &one, &all);
    players_close(here);
    players_close(there);
    return rc;
}

/* How a player of the first node comes into a room. */
static const struct way {
    const char *name;
    bool there, redirect;
    double alone_us; /* the most that 99 of 100 joins may take, one at a time; 0: not said */
} ways[] = {{"local", false, false, 2000}, {"redirect", true, true, 5000}, {"relay", true, false, 0}};

static int join_series(struct bench *b, const struct way *w, unsigned players, unsigned rounds, struct stats *s)
{
    char name[64];
    for (unsigned i = 0; i < rounds; i++) {
        snprintf(name, sizeof name, "join-%u", b->serial++);
        struct players *ps = players_open(b->cluster.address[0], name, players, w->redirect, !w->redirect);
        if (!ps)
            return -1;
        ps->joins = s;
        int rc = players_join(ps, "relay", w->there ? b->there : b->here, 0);
        players_close(ps);
        if (rc != 0)
            return -1;
    }
    return 0;
}

static int joins_one_way(struct bench *b, unsigned listed, unsigned way, bool at_once)
{
    static struct stats s;
    const struct way *w = &ways[way];
    unsigned alone = b->o->quick ? QUICK_JOINS_ALONE : JOINS_ALONE, rounds = b->o->quick ? QUICK_JOIN_ROUNDS : JOIN_ROUNDS;
    double *first = &b->first_p50[2 * way + at_once];
    char name[64];
    memset(&s, 0, sizeof s);
    if (join_series(b, w, at_once ? AT_ONCE : 1, at_once ? rounds : alone, &s) != 0)
        return -1;
    int len = snprintf(name, sizeof name, "join %s%s, %u listed, ", w->name, at_once ? ", 50 at once" : "", listed);
    snprintf(name + len, sizeof name - (size_t)len, "p50");
    if (*first > 0)
        table_ratio(&b->table, name, "us", stats_at(&s, 0.5), "with 2 listed", *first, 0, false);
    else
        table_add(&b->table, name, "us", *first = stats_at(&s, 0.5));
    snprintf(name + len, sizeof name - (size_t)len, "p99");
    table_limit(&b->table, name, "us", stats_at(&s, 0.99), at_once ? 20000 : w->alone_us);
    return 0;
}

static int joins(struct bench *b, unsigned listed)
{
    int rc = floors_settled(b->floors, "rooms") ? 0 : -1;
    for (unsigned way = 0; rc == 0 && way < 3; way++) {
        rc = joins_one_way(b, listed, way, false);
        if (rc == 0)
            rc = joins_one_way(b, listed, way, true);
    }
    return rc;
}

static double rss(const struct bench *b)
{
    double sum = 0;
    for (unsigned i = 0; i < b->cluster.count; i++)
        sum += cluster_rss(b->cluster.nodes[i]);
    return sum;
}

static double cpu(const struct bench *b)
{
    double sum = 0;
    for (unsigned i = 0; i < b->cluster.count; i++)
        sum += cluster_cpu_us(b->cluster.nodes[i]);
    return sum;
}

/* Adds empty rooms until so many are listed, and waits until all of them are. */
static unsigned fill(struct bench *b, unsigned rooms, int64_t *took)
{
    char name[64];
    snprintf(name, sizeof name, "fill-%u", b->serial++);
    struct players *ps = players_open(b->cluster.address[0], name, FILLERS, 0, 1);
    unsigned made = ps ? players_fill(ps, "relay", rooms, took) : 0;
    players_close(ps);
    return made && floors_settled(b->floors, "rooms") ? made : 0;
}

/* One node by itself. */
static int memory(struct bench *b)
{
    int64_t took;
    struct players *warm = players_open(b->cluster.address[0], "warm", FILLERS, 0, 1); /* what a node has once is not counted */
    bool warmed = warm && fill(b, FILLERS, &took);
    double before = rss(b);
    struct players *ps = warmed ? players_open(b->cluster.address[0], "idle", CONNECTIONS, 0, 1) : NULL;
    players_close(warm);
    if (!ps)
        return -1;
    double connected = rss(b);
    unsigned made = fill(b, IDLE_ROOMS, &took);
    table_limit(&b->table, "memory per idle connection", "bytes", (connected - before) / CONNECTIONS, 4096);
    if (made)
        table_limit(&b->table, "memory per idle room, at its node", "bytes", (rss(b) - connected) / made, 2048);
    players_close(ps);
    return made ? 0 : -1;
}

static int many_rooms(struct bench *b)
{
    unsigned listed = 0;
    int64_t took;
    table_limit(&b->table, "registry look-up in memory", "ns", floors_lookup_ns(b->most, LOOKUPS), 1000);
    for (unsigned want = b->most / 10; want <= b->most; want += b->most - b->most / 10) {
        unsigned made = fill(b, want - listed, &took);
        if (!made)
            return -1;
        if (listed == 0)
            table_add(&b->table, "room creations", "rooms/s", made * 1e6 / (double)took);
        listed += made;
        if (joins(b, listed) != 0)
            return -1;
    }
    return 0;
}

struct cast {
    const char *name;
    unsigned players, per_room, window, messages;
    double target;
};

static int broadcast(struct bench *b, const struct cast *c)
{
    double rate[ROUNDS], floor[ROUNDS], spent = 0, delivered = 0;
    unsigned rooms = c->players / c->per_room, messages = b->o->quick ? c->messages / 10 : c->messages;
    char room[64];
    snprintf(room, sizeof room, "cast-%u", b->serial++);
    struct players *ps = players_open(b->cluster.address[0], room, c->players, 1, 0);
    int rc = ps ? players_join(ps, "relay", room, c->per_room) : -1;
    for (unsigned i = 0; rc == 0 && i < b->rounds; i++) {
        floor[i] = floors_fanout_rate(ROOM_SIZE, messages * rooms * c->per_room / ROOM_SIZE);
        double before = cpu(b);
        rate[i] = players_broadcast_rate(ps, c->per_room, messages, c->window);
        rc = rate[i] < 0 || floor[i] < 0 ? -1 : 0;
        spent += cpu(b) - before;
        delivered += (double)(c->players - rooms) * messages;
    }
    if (rc == 0) {
        table_ratio(&b->table, c->name, "msg/s", stats_median(rate, b->rounds), "bare loop, writes to 100",
                    stats_median(floor, b->rounds), c->target, true);
        snprintf(room, sizeof room, "%s, CPU each", c->name);
        table_add(&b->table, room, "us", spent / delivered);
    }
    players_close(ps);
    return rc;
}

static int broadcasts(struct bench *b)
{
    /* One by one, the node sleeps a round trip between two messages, which the bare loop does not; steady, the next
     * message is on its way when one is done, so that now and then two leave in one write. */
    static const struct cast casts[] = {{"broadcast, 1 room of 100, one by one", 100, 100, 1, 2000, 0.8},
                                        {"broadcast, 1 room of 100, steady", 100, 100, 2, 2000, 0.8},
                                        {"broadcast, 1 room of 100, queued", 100, 100, WINDOW, 2000, 1},
                                        {"broadcast, 100 rooms of 10, queued", 1000, 10, WINDOW, 200, 0}};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < sizeof casts / sizeof casts[0]; i++)
        rc = broadcast(b, &casts[i]);
    return rc;
}

static int speed(struct bench *b)
{
    b->hold_here = find_room(b, "relay", ROOM_CLIENT_LOCAL, b->here);
    if (b->hold_here)
        b->hold_there = find_room(b, "relay", ROOM_CLIENT_RELAY, b->there);
    int rc = b->hold_there ? round_trips(b) : -1;
    if (rc == 0)
        rc = broadcasts(b);
    if (rc == 0)
        rc = joins(b, 2);
    if (rc == 0)
        rc = many_rooms(b);
    players_close(b->hold_here);
    players_close(b->hold_there);
    return rc;
}

static struct durable durable_of(struct bench *b)
{
    return (struct durable){.cluster = &b->cluster, .replicas = b->cluster.nats[1] ? CLUSTER_NATS : 1, .floors = b->floors, .table = &b->table, .rounds = b->rounds,
                            .trips = b->trips, .quick = b->o->quick};
}

static int kept(struct bench *b)
{
    struct durable d = durable_of(b);
    int rc = durable_journal(&d);
    return rc ? rc : durable_recovery(&d);
}

static int not_kept(struct bench *b)
{
    struct durable d = durable_of(b);
    return durable_lost(&d);
}

static int saved(struct bench *b)
{
    struct durable d = durable_of(b);
    return durable_snapshots(&d);
}

static struct sessions sessions_of(struct bench *b)
{
    return (struct sessions){.cluster = &b->cluster, .floors = b->floors, .table = &b->table, .rounds = b->rounds,
                             .trips = b->trips, .quick = b->o->quick};
}

static int sessions_held(struct bench *b)
{
    struct sessions s = sessions_of(b);
    return sessions_memory(&s);
}

static int sessions_served(struct bench *b)
{
    struct sessions s = sessions_of(b);
    int rc = sessions_logins(&s);
    if (rc == 0)
        rc = sessions_pushes(&s);
    return rc ? rc : sessions_resumes(&s);
}

static int queue(struct bench *b)
{
    return queue_cycles(&b->table, b->rounds);
}

/* Each on a cluster of its own: some of them kill a node. Two may have a name in common. Without nodes there is none. */
static const struct scenario {
    const char *name;
    unsigned nats, nodes;
    const char *const *options;
    int (*run)(struct bench *b);
} scenarios[] = {{"memory", 1, 1, NULL, memory},
                 {"speed", 1, CLUSTER_NODES, NULL, speed},
                 {"journal", 1, CLUSTER_NODES, durable_options, kept},
                 {"replicas", CLUSTER_NATS, CLUSTER_NODES, durable_options, kept},
                 {"snapshots", 1, 1, durable_snapshot_options, saved},
                 {"lost", 1, CLUSTER_NODES, durable_options, not_kept},
                 {"sessions", 1, CLUSTER_NODES, sessions_memory_options, sessions_held},
                 {"sessions", 1, CLUSTER_NODES, sessions_options, sessions_served},
                 {"queue", 0, 0, NULL, queue}};

bool scenarios_has(const char *name)
{
    for (unsigned i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return true;
    return false;
}

static int with_cluster(struct bench *b, const struct scenario *s)
{
    const struct cluster_plan plan = {b->o->roomd, b->o->nats_server, s->nats, s->nodes, s->options};
    if (!s->nodes)
        return s->run(b);
    if (cluster_start(&b->cluster, &plan) != 0)
        return -1;
    b->floors = floors_create(b->cluster.nats_url);
    int rc = b->floors ? s->run(b) : -1;
    floors_destroy(b->floors);
    cluster_stop(&b->cluster);
    return rc;
}

int scenarios_run(const struct scenarios_options *options)
{
    static struct bench b;
    struct rlimit files;
    memset(&b, 0, sizeof b);
    b.o = options;
    b.rounds = options->quick ? QUICK_ROUNDS : ROUNDS;
    b.trips = options->quick ? 300 : 3000;
    b.most = options->rooms ? options->rooms : options->quick ? QUICK_ROOMS : MANY_ROOMS;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (!options->only || strcmp(options->only, scenarios[i].name) == 0)
            rc = with_cluster(&b, &scenarios[i]);
    table_print(&b.table, options->json);
    return rc ? 1 : 0;
}
