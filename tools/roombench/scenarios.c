/* See scenarios.h. Floors and subjects are measured in turns (A B A B), so that a drift of the machine hits both. */
#include "tools/roombench/scenarios.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "tools/roombench/cluster.h"
#include "tools/roombench/floors.h"
#include "tools/roombench/measure.h"
#include "tools/roombench/table.h"

enum { ROUNDS = 5, QUICK_ROUNDS = 3, AT_ONCE = 50, SEARCH = 32, CONNECTIONS = 500, ROOM_SIZE = 100 };

struct bench {
    const struct scenarios_options *o;
    struct cluster cluster;
    struct floors *floors;
    struct table table;
    unsigned rounds, trips;
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

static int round_trips(struct bench *b)
{
    double echo[ROUNDS], ack[ROUNDS], same[ROUNDS], request[ROUNDS], cross[ROUNDS], publish[ROUNDS];
    char name[64];
    struct players *counter = find_room(b, "counter", ROOM_CLIENT_LOCAL, name);
    int rc = counter ? 0 : -1;
    for (unsigned i = 0; rc == 0 && i < b->rounds; i++) {
        echo[i] = floors_echo_us(b->floors, b->trips);
        ack[i] = players_ack_us(counter, b->trips);
        same[i] = pingpong(b, 0);
        request[i] = floors_request_us(b->floors, b->trips);
        cross[i] = pingpong(b, 1);
        publish[i] = floors_publish_rate(b->floors, b->trips * 20);
        if (echo[i] < 0 || ack[i] < 0 || same[i] < 0 || request[i] < 0 || cross[i] < 0 || publish[i] < 0)
            rc = -1;
    }
    if (rc == 0) {
        double e = stats_median(echo, b->rounds), r = stats_median(request, b->rounds);
        table_add(&b->table, "floor: TCP echo through libuv", "us", e);
        table_add(&b->table, "floor: NATS request and reply", "us", r);
        table_add(&b->table, "floor: NATS publish", "msg/s", stats_median(publish, b->rounds));
        table_ratio(&b->table, "send to sent, counter, same node", "us", stats_median(ack, b->rounds), "TCP echo", e, 2, false);
        table_ratio(&b->table, "ping-pong of 2 players, same node (4 hops)", "us", stats_median(same, b->rounds),
                    "2 x TCP echo", 2 * e, 2, false);
        table_ratio(&b->table, "ping-pong across nodes, relay", "us", stats_median(cross, b->rounds),
                    "2 x TCP echo + NATS request", 2 * e + r, 2, false);
    }
    players_close(counter);
    return rc;
}

static int join_batch(struct bench *b, const char *label, const char *room, int redirect, int relay)
{
    struct stats s = {0};
    char name[64];
    for (unsigned i = 0; i < b->rounds; i++) {
        snprintf(name, sizeof name, "join-%d%d-%u-%u", redirect, relay, b->table.count, i);
        struct players *ps = players_open(b->cluster.address[0], name, AT_ONCE, redirect, relay);
        if (!ps)
            return -1;
        ps->joins = &s;
        int rc = players_join(ps, "relay", room, 0);
        players_close(ps);
        if (rc != 0)
            return -1;
    }
    snprintf(name, sizeof name, "%s p50", label);
    table_add(&b->table, name, "us", stats_at(&s, 0.5));
    snprintf(name, sizeof name, "%s p99", label);
    table_add(&b->table, name, "us", stats_at(&s, 0.99));
    return 0;
}

static int joins(struct bench *b, unsigned listed)
{
    char label[3][48];
    static const char *const words[] = {"local", "redirect", "relay"};
    for (int i = 0; i < 3; i++)
        snprintf(label[i], sizeof label[i], "join %s, 50 at once, %u rooms listed,", words[i], listed);
    return join_batch(b, label[0], b->here, 0, 1) == 0 && join_batch(b, label[1], b->there, 1, 0) == 0 &&
                   join_batch(b, label[2], b->there, 0, 1) == 0
               ? 0
               : -1;
}

static double rss(const struct bench *b)
{
    double sum = 0;
    for (int i = 0; i < CLUSTER_NODES; i++)
        sum += cluster_rss(b->cluster.nodes[i]);
    return sum;
}

static double cpu(const struct bench *b)
{
    double sum = 0;
    for (int i = 0; i < CLUSTER_NODES; i++)
        sum += cluster_cpu_us(b->cluster.nodes[i]);
    return sum;
}

static int connections(struct bench *b)
{
    double before = rss(b);
    struct players *ps = players_open(b->cluster.address[0], "idle", CONNECTIONS, 0, 1);
    if (!ps)
        return -1;
    table_add(&b->table, "memory per idle connection", "bytes", (rss(b) - before) / CONNECTIONS);
    players_close(ps);
    return 0;
}

/* Fills the listing, and measures the joins again beside it. */
static int many_rooms(struct bench *b)
{
    unsigned players = (b->o->rooms + PLAYER_ROOMS - 1) / PLAYER_ROOMS;
    int64_t took = 0;
    struct players *ps = players_open(b->cluster.address[0], "fill", players, 0, 1);
    if (!ps)
        return -1;
    double before = rss(b);
    unsigned made = players_fill(ps, "relay", b->o->rooms, &took);
    table_add(&b->table, "room creations", "rooms/s", took ? made * 1e6 / (double)took : 0);
    table_add(&b->table, "memory per idle room with a player, all nodes", "bytes", made ? (rss(b) - before) / made : 0);
    int rc = made ? joins(b, made) : -1;
    players_close(ps);
    return rc;
}

static int broadcast(struct bench *b, const char *name, unsigned players, unsigned per_room, unsigned messages)
{
    double rate[ROUNDS], floor[ROUNDS], spent = 0, delivered = 0;
    char room[64];
    struct players *ps = players_open(b->cluster.address[0], name, players, 1, 0);
    snprintf(room, sizeof room, "cast-%s", name);
    int rc = ps ? players_join(ps, "relay", room, per_room) : -1;
    for (unsigned i = 0; rc == 0 && i < b->rounds; i++) {
        floor[i] = floors_fanout_rate(ROOM_SIZE, messages * (players / per_room) * per_room / ROOM_SIZE);
        double before = cpu(b);
        rate[i] = players_broadcast_rate(ps, per_room, messages);
        rc = rate[i] < 0 ? -1 : 0;
        spent += cpu(b) - before;
        delivered += (double)(players - players / per_room) * messages;
    }
    if (rc == 0) {
        char text[64];
        snprintf(text, sizeof text, "broadcast, %u rooms of %u", players / per_room, per_room);
        table_ratio(&b->table, text, "msg/s", stats_median(rate, b->rounds), "bare loop of writes to 100", stats_median(floor, b->rounds),
                    0.5, true);
        snprintf(text, sizeof text, "node CPU per delivery, rooms of %u", per_room);
        table_add(&b->table, text, "us", spent / delivered);
    }
    players_close(ps);
    return rc;
}

/* Memory comes first: what an earlier scenario has freed would be taken again, and nothing would seem to be used. */
static int measure(struct bench *b)
{
    int rc = connections(b);
    if (rc == 0)
        b->hold_here = find_room(b, "relay", ROOM_CLIENT_LOCAL, b->here);
    if (rc == 0)
        b->hold_there = find_room(b, "relay", ROOM_CLIENT_RELAY, b->there);
    rc = b->hold_here && b->hold_there ? joins(b, 2) : -1;
    if (rc == 0)
        rc = many_rooms(b);
    if (rc == 0)
        rc = round_trips(b);
    if (rc == 0)
        rc = broadcast(b, "one", ROOM_SIZE, ROOM_SIZE, b->o->quick ? 200 : 2000);
    if (rc == 0)
        rc = broadcast(b, "many", 1000, 10, b->o->quick ? 20 : 200);
    players_close(b->hold_here);
    players_close(b->hold_there);
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
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (cluster_start(&b.cluster, options->roomd, options->nats_server) != 0)
        return 1;
    b.floors = floors_create(b.cluster.nats_url);
    int rc = b.floors ? measure(&b) : -1;
    table_print(&b.table, options->json);
    floors_destroy(b.floors);
    cluster_stop(&b.cluster);
    return rc ? 1 : 0;
}
