/*
 * See durable.h. A new room is where the player who makes it is connected; the floor of its journal is measured in the very same
 * stream, under a name no room has.
 * Weak point: a recovery is measured from the kill to the last player's acknowledgement, so the time in which the death is
 * noticed is in it (half a second, by design).
 */
#include "tools/roombench/durable.h"

#include <stdio.h>
#include <string.h>

#include "tools/roombench/crowd.h"
#include "tools/roombench/measure.h"
#include "tools/roombench/stats.h"
#include "wire/subject.h"

enum { ROUNDS_MAX = 8, ADDS = 20000, ADDS_EACH = 500, ADD_ROOMS = 100, ADD_WINDOW = 64 };
enum { KEPT_ROOMS = 1000, LOST_ROOMS = 10000, QUICK_LOST_ROOMS = 1000, DOCUMENT = 1000, RECOVERY_MS = 5000 };

const char *const durable_options[] = {"--prefer-local", "--rooms-per-session", "1024", NULL};
/* So short that every change is due at once, and a round is one snapshot of each room. */
const char *const durable_snapshot_options[] = {"--prefer-local", "--rooms-per-session", "1024", "--snapshot-interval",
                                                "200ms", NULL};

static const char add_value[] = "\x81\xa3" "add\x01";

/* {"set": {"document": a string of DOCUMENT characters}} */
static size_t document(char out[DOCUMENT + 32])
{
    static const char head[] = "\x81\xa3set\x81\xa8" "document\xda";
    size_t len = sizeof head - 1;
    memcpy(out, head, len);
    out[len++] = (char)(DOCUMENT >> 8);
    out[len++] = (char)(DOCUMENT & 0xff);
    memset(out + len, 'x', DOCUMENT);
    return len + DOCUMENT;
}

struct latencies {
    double add[ROUNDS_MAX], append[ROUNDS_MAX];
};

/* A name no room has, in the same stream as that room: another one's leader may be elsewhere. */
static void floor_name(const char *room, char out[32])
{
    unsigned i = 0;
    do
        snprintf(out, 32, "roombench-floor-%u", i++);
    while (subject_journal_stream(out) != subject_journal_stream(room));
}

/* In turns, as all floors. The first add says how long a journal's message is. */
static int add_latency(const struct durable *d, struct players *ps, const char *room, struct latencies *l)
{
    char subject[SUBJECT_SIZE], stream[32], name[32];
    if (players_ack_us(ps, 10) < 0)
        return -1;
    snprintf(stream, sizeof stream, "ROOM_JOURNAL_%u", subject_journal_stream(room));
    unsigned bytes = floors_last_bytes(d->floors, stream, subject_journal(subject, room));
    if (!bytes) {
        fprintf(stderr, "roombench: the journal of '%s' is empty\n", room);
        return -1;
    }
    floor_name(room, name);
    subject_journal(subject, name);
    for (unsigned i = 0; i < d->rounds; i++) {
        l->append[i] = floors_append_us(d->floors, subject, bytes, d->trips, NULL);
        l->add[i] = players_ack_us(ps, d->trips);
        if (l->append[i] < 0 || l->add[i] < 0)
            return -1;
    }
    return 0;
}

static const char *copies(const struct durable *d)
{
    return d->replicas > 1 ? "3 replicas" : "1 replica";
}

static int latency(const struct durable *d)
{
    struct latencies one, all;
    struct players *ps = players_open(d->cluster->address[0], "journalled", 1, 0, 1);
    int rc = ps ? players_join(ps, "counter", "journalled", 0) : -1;
    if (rc == 0) {
        cluster_pin(d->cluster, floors_echo_pid(d->floors), true);
        rc = add_latency(d, ps, "journalled-0", &one);
        cluster_pin(d->cluster, floors_echo_pid(d->floors), false);
    }
    if (rc == 0)
        rc = add_latency(d, ps, "journalled-0", &all);
    players_close(ps);
    if (rc != 0)
        return rc;
    char name[64];
    snprintf(name, sizeof name, "journalled add, %s, one processor", copies(d));
    table_ratio(d->table, name, "us", stats_median(one.add, d->rounds), "JetStream append", stats_median(one.append, d->rounds),
                0, false);
    snprintf(name, sizeof name, "journalled add, %s", copies(d));
    table_ratio(d->table, name, "us", stats_median(all.add, d->rounds), "JetStream append", stats_median(all.append, d->rounds),
                1.5, false);
    return 0;
}

static int rate(const struct durable *d, unsigned rooms, unsigned adds)
{
    double rates[ROUNDS_MAX];
    char prefix[32], name[64];
    snprintf(prefix, sizeof prefix, "adds-%u", rooms);
    snprintf(name, sizeof name, "journalled adds, %s, %u room%s", copies(d), rooms, rooms > 1 ? "s" : "");
    struct players *ps = players_open(d->cluster->address[0], prefix, rooms, 0, 1);
    int rc = ps ? players_join(ps, "counter", prefix, 1) : -1;
    for (unsigned i = 0; rc == 0 && i < d->rounds; i++)
        rc = (rates[i] = players_add_rate(ps, d->quick ? adds / 10 : adds, ADD_WINDOW)) < 0 ? -1 : 0;
    if (rc == 0)
        table_add(d->table, name, "adds/s", stats_median(rates, d->rounds));
    players_close(ps);
    return rc;
}

int durable_journal(const struct durable *d)
{
    int rc = latency(d);
    if (rc == 0)
        rc = rate(d, 1, ADDS);
    if (rc == 0)
        rc = rate(d, ADD_ROOMS, ADDS_EACH);
    return rc;
}

/* Every room is changed once: processor time of the node's loop until all is at rest again, and until the bucket has them
 * all (not asked for where nothing is saved). */
static int change_all(const struct durable *d, struct crowd *c, bool saved, double *loop_us, double *kept_us)
{
    char bytes[DOCUMENT + 32];
    size_t len = document(bytes);
    pid_t node = d->cluster->nodes[0];
    unsigned long long before = floors_last_change(d->floors, "KV_snapshots");
    double loop = cluster_loop_us(node);
    int64_t start = stats_now_us();
    if (crowd_say(c, bytes, len) < 0)
        return -1;
    for (int64_t end = start + (int64_t)RECOVERY_MS * 1000; saved && stats_now_us() < end;) {
        if (floors_last_change(d->floors, "KV_snapshots") >= before + KEPT_ROOMS)
            break;
        crowd_turn(c);
    }
    *kept_us = (double)(stats_now_us() - start);
    if (saved && !floors_settled(d->floors, "snapshots"))
        return -1;
    *loop_us = cluster_loop_us(node) - loop;
    if (!saved || floors_last_change(d->floors, "KV_snapshots") >= before + KEPT_ROOMS)
        return 0;
    fprintf(stderr, "roombench: the snapshots of %d rooms do not come to the bucket\n", KEPT_ROOMS);
    return -1;
}

int durable_snapshots(const struct durable *d)
{
    double loop[ROUNDS_MAX], kept[ROUNDS_MAX], plain[ROUNDS_MAX], nothing;
    struct crowd *with = crowd_open(d->cluster->address[0], "kept", KEPT_ROOMS);
    struct crowd *without = with ? crowd_open(d->cluster->address[0], "plain", KEPT_ROOMS) : NULL;
    int rc = without && crowd_enter(with, "state", "kept") >= 0 && crowd_enter(without, "board", "plain") >= 0 ? 0 : -1;
    for (unsigned i = 0; rc == 0 && i < d->rounds; i++) {
        rc = floors_settled(d->floors, "snapshots") && floors_settled(d->floors, "rooms") ? 0 : -1;
        if (rc == 0)
            rc = change_all(d, without, false, &plain[i], &nothing);
        if (rc == 0)
            rc = change_all(d, with, true, &loop[i], &kept[i]);
    }
    crowd_close(with);
    crowd_close(without);
    if (rc != 0)
        return rc;
    table_add(d->table, "1,000 rooms of 1 KB changed: loop time", "ms", stats_median(plain, d->rounds) / 1e3);
    table_add(d->table, "the same, and saved: loop time", "ms", stats_median(loop, d->rounds) / 1e3);
    table_add(d->table, "the same, until all are in the bucket", "ms", stats_median(kept, d->rounds) / 1e3);
    return 0;
}

/* Players of the first node in rooms of the second, which then is killed. */
static struct crowd *guests_of_second(const struct durable *d, const char *type, unsigned rooms)
{
    struct crowd *makers = crowd_open(d->cluster->address[1], "maker", rooms);
    struct crowd *guests = NULL;
    if (makers && crowd_enter(makers, type, "far") >= 0)
        guests = crowd_open(d->cluster->address[0], "guest", rooms);
    bool in = guests && crowd_enter(guests, type, "far") >= 0;
    crowd_close(makers);
    if (in && floors_settled(d->floors, "rooms"))
        return guests;
    crowd_close(guests);
    return NULL;
}

int durable_recovery(const struct durable *d)
{
    struct crowd *guests = guests_of_second(d, "counter", KEPT_ROOMS);
    int64_t took = guests ? crowd_say(guests, add_value, sizeof add_value - 1) : -1;
    if (took >= 0 && !floors_settled(d->floors, "snapshots"))
        took = -1;
    if (took >= 0) {
        int64_t start = stats_now_us();
        cluster_kill(d->cluster, 1);
        took = crowd_say(guests, add_value, sizeof add_value - 1) < 0 ? -1 : stats_now_us() - start;
    }
    char name[64];
    snprintf(name, sizeof name, "1,000 journalled rooms killed, %s, last served", copies(d));
    if (took >= 0)
        table_limit(d->table, name, "ms", (double)took / 1e3, RECOVERY_MS);
    crowd_close(guests);
    return took >= 0 ? 0 : -1;
}

int durable_lost(const struct durable *d)
{
    unsigned rooms = d->quick ? QUICK_LOST_ROOMS : LOST_ROOMS;
    struct crowd *guests = guests_of_second(d, "tally", rooms);
    int64_t start = stats_now_us(), told = -1, again = -1;
    char name[64];
    if (guests) {
        cluster_kill(d->cluster, 1);
        told = crowd_lost(guests, start);
    }
    if (told >= 0)
        again = crowd_enter(guests, "tally", "far");
    if (again >= 0) {
        snprintf(name, sizeof name, "%u rooms not kept, kill to the last told", rooms);
        table_add(d->table, name, "ms", (double)told / 1e3);
        table_add(d->table, "the same, all made anew and joined", "ms", (double)(told + again) / 1e3);
    }
    crowd_close(guests);
    return again >= 0 ? 0 : -1;
}
