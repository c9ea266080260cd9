/*
 * `doctor`: is this NATS fit for roomd, and are the nodes there.
 *
 * Decides: what an operator must repair (fail), should know (warn, note). Must not change anything. Invariant: every remark
 * says what to do. Weak spot: how often a nats-server syncs its disk cannot be asked by a client, so it is only said.
 */
#include <string.h>

#include "base/id.h"
#include "bus/bus_nats.h"
#include "roomctl/ctl.h"
#include "roomctl/findings.h"
#include "roomctl/table.h"
#include "wire/subject.h"

enum { WANTED_REPLICAS = 3, NOT_FOR_ACCOUNT = 10039 /* err_code */ };

static const char *const BUCKETS[] = {"servers", "rooms", "locks", "shared"};
static const char *const DURABLE[] = {"snapshots", "cluster"};
static const char *const SUBJECTS[] = {"server.*.offline", "room.*.created", "player.*.joined"};

struct doctor {
    struct conn *conn;
    json_t *found;
};

static void check_version(struct doctor *d, int replicas)
{
    const char *version = bus_nats_server_version(d->conn->bus);
    struct err_detail detail = {""};
    bool old = false;
    if (bus_nats_check_version(version, replicas, &old, &detail) != 0)
        findings_add(d->found, FINDING_FAIL, "nats", "%s", detail.text);
    else if (old)
        findings_add(d->found, FINDING_WARN, "nats",
                     "nats-server %s works with one replica only: use 2.10.23 or later for a cluster", version);
    else
        findings_add(d->found, FINDING_OK, "nats", "nats-server %s is safe for roomd", version);
}

static bool check_jetstream(struct doctor *d)
{
    json_t *info = NULL;
    struct err_detail detail = {""};
    int err = conn_jetstream(d->conn, "INFO", "", &info, &detail);
    json_t *error = json_object_get(info, "error");
    const char *text = json_string_value(json_object_get(error, "description"));
    if (err)
        findings_add(d->found, FINDING_FAIL, "jetstream", "%s", detail.text);
    else if (error)
        findings_add(d->found, FINDING_FAIL, "jetstream", "not usable: %s: %s", text ? text : "no reason given",
                     (int)json_number_value(json_object_get(error, "code")) == 503 &&
                             (int)json_number_value(json_object_get(error, "err_code")) != NOT_FOR_ACCOUNT
                         ? "it has no leader: start the nats-servers that are down"
                         : "enable JetStream for this account");
    else
        findings_add(d->found, FINDING_OK, "jetstream", "on: %.0f streams",
                     json_number_value(json_object_get(info, "streams")));
    json_decref(info);
    return err == 0 && !error;
}

static void check_leader(struct doctor *d, const char *about, json_t *cluster)
{
    const char *leader = json_string_value(json_object_get(cluster, "leader"));
    json_t *peers = json_object_get(cluster, "replicas"), *peer;
    size_t i;
    if (!leader || !*leader)
        findings_add(d->found, FINDING_FAIL, about,
                     "no leader: writes wait until a majority of the nats-servers is back");
    json_array_foreach(peers, i, peer)
    {
        const char *name = json_string_value(json_object_get(peer, "name"));
        if (json_is_true(json_object_get(peer, "offline")))
            findings_add(d->found, FINDING_WARN, about, "replica on '%s' is offline: start that nats-server again",
                         name ? name : "?");
        else if (json_is_false(json_object_get(peer, "current")))
            findings_add(d->found, FINDING_WARN, about, "replica on '%s' is behind: its nats-server is down or catching up",
                         name ? name : "?");
    }
}

/* What is said of a bucket or a stream that is there; returns its replicas. */
static int check_replicas(struct doctor *d, const char *about, const char *stream, json_t *info)
{
    json_t *cluster = json_object_get(info, "cluster");
    bool clustered = json_string_length(json_object_get(cluster, "name")) > 0;
    int replicas = (int)json_number_value(json_object_get(json_object_get(info, "config"), "num_replicas"));
    if (clustered) {
        check_leader(d, about, cluster);
        if (replicas < WANTED_REPLICAS)
            findings_add(d->found, FINDING_WARN, about,
                         "%d replica(s) in a NATS cluster: the death of one nats-server can stop or lose it; with three "
                         "nats-servers: nats stream edit %s --replicas 3", replicas, stream);
        else
            findings_add(d->found, FINDING_OK, about, "%d replicas, leader '%s'", replicas,
                         json_string_value(json_object_get(cluster, "leader"))
                             ? json_string_value(json_object_get(cluster, "leader")) : "");
    } else {
        findings_add(d->found, FINDING_OK, about, "%d replica on a single nats-server (three survive the loss of one)",
                     replicas);
    }
    return replicas;
}

/* Returns the bucket's replicas, 0 if it cannot be read. */
static int check_bucket(struct doctor *d, const char *bucket)
{
    json_t *info = NULL;
    struct err_detail detail = {""};
    char about[80], stream[80];
    snprintf(about, sizeof about, "bucket %s%s", d->conn->prefix, bucket);
    snprintf(stream, sizeof stream, "KV_%s%s", d->conn->prefix, bucket);
    int err = conn_bucket_info(d->conn, bucket, &info, &detail);
    if (err)
        findings_add(d->found, FINDING_FAIL, about, "%s", detail.text);
    int replicas = err ? 0 : check_replicas(d, about, stream, info);
    json_decref(info);
    return replicas;
}

/* A journal that drops messages by itself loses what was acknowledged; nodes take a stream as they find it. */
static void check_journal_limits(struct doctor *d, const char *about, json_t *info)
{
    static const char *const LIMITS[] = {"max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"};
    json_t *config = json_object_get(info, "config");
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++)
        if (json_number_value(json_object_get(config, LIMITS[i])) > 0)
            findings_add(d->found, FINDING_FAIL, about, "it has a limit, %s: it would drop what was acknowledged; remove it with nats "
                         "stream edit", LIMITS[i]);
}

/* What rooms that outlive their node rest on: made by nodes that have a --data-dir, all of it or nothing. */
static int check_durable(struct doctor *d)
{
    enum { MORE = sizeof DURABLE / sizeof DURABLE[0], ALL = MORE + JOURNAL_STREAMS };
    int most = 0, missing = 0;
    char about[ALL][80];
    bool gone[ALL] = {false};
    for (int i = 0; i < ALL; i++) {
        json_t *info = NULL;
        struct err_detail detail = {""};
        char stream[80];
        bool bucket = i < MORE;
        if (bucket)
            snprintf(stream, sizeof stream, "KV_%s%s", d->conn->prefix, DURABLE[i]);
        else
            snprintf(stream, sizeof stream, "%sROOM_JOURNAL_%d", d->conn->prefix, i - MORE);
        snprintf(about[i], sizeof about[i], "%s %.70s", bucket ? "bucket" : "stream", stream + (bucket ? 3 : 0));
        int err = conn_stream_info(d->conn, stream, about[i], "", &info, &detail);
        int have = err ? 0 : check_replicas(d, about[i], stream, info);
        most = have > most ? have : most;
        gone[i] = err == ROOM_E_NOT_FOUND;
        missing += gone[i];
        if (err && !gone[i])
            findings_add(d->found, FINDING_FAIL, about[i], "%s", detail.text);
        if (err == 0 && !bucket)
            check_journal_limits(d, about[i], info);
        json_decref(info);
    }
    for (int i = 0; i < ALL && missing < ALL; i++)
        if (gone[i])
            findings_add(d->found, FINDING_FAIL, about[i], "missing, though the others are there: was it deleted? restart a node, "
                         "which makes it again, then see roomctl check");
    if (missing == ALL)
        findings_add(d->found, FINDING_WARN, "snapshots and journals", "no bucket and no stream for them: no room outlives its node; "
                     "nodes make them unless they run with --data-dir none");
    return most;
}

static void check_node(struct doctor *d, const char *id, json_t *entry)
{
    json_t *pong = NULL;
    struct err_detail detail = {""};
    char about[ID_SIZE + 10];
    const char *status = json_string_value(json_object_get(entry, "status"));
    snprintf(about, sizeof about, "server %.*s", ID_MAX, id);
    if (!id_valid(id) || !status) {
        findings_add(d->found, FINDING_WARN, about, "its entry is not readable: see roomctl check");
        return;
    }
    if (strcmp(status, "down") == 0) {
        findings_add(d->found, FINDING_NOTE, about, "down: start it again, or wait until its entry expires");
        return;
    }
    int err = conn_ping(d->conn, id, &pong, &detail);
    if (err) {
        findings_add(d->found, FINDING_FAIL, about, "listed as %s but: %s", status, detail.text);
    } else if (!json_equal(json_object_get(pong, "boot"), json_object_get(entry, "boot"))) {
        findings_add(d->found, FINDING_WARN, about, "it has started anew and its entry is of the start before: wait a moment");
    } else {
        findings_add(d->found, FINDING_OK, about, "%s, answers", status);
    }
    json_decref(pong);
}

static void check_nodes(struct doctor *d)
{
    json_t *servers = NULL, *entry, *versions = json_object();
    struct err_detail detail = {""};
    const char *id;
    if (conn_list(d->conn, "servers", &servers, &detail) != 0) {
        findings_add(d->found, FINDING_FAIL, "nodes", "cannot be looked at: %s", detail.text);
        json_decref(versions);
        return;
    }
    if (json_object_size(servers) == 0)
        findings_add(d->found, FINDING_WARN, "servers", "no node is listed: start one with roomd");
    json_object_foreach(servers, id, entry)
    {
        const char *version = json_string_value(json_object_get(entry, "version"));
        const char *status = json_string_value(json_object_get(entry, "status"));
        check_node(d, id, entry);
        if (version && (!status || strcmp(status, "down") != 0))
            json_object_set_new(versions, version, json_true());
    }
    if (json_object_size(versions) > 1)
        findings_add(d->found, FINDING_WARN, "versions", "%zu versions of roomd run together: finish the upgrade",
                     json_object_size(versions));
    json_decref(versions);
    json_decref(servers);
}

/* A refused subscription is told by an error message some time after it: one round trip later it has come. */
static void check_permissions(struct doctor *d)
{
    json_t *info = NULL;
    struct err_detail detail = {""};
    for (size_t i = 0; i < sizeof SUBJECTS / sizeof SUBJECTS[0]; i++)
        if (bus_subscribe(d->conn->bus, (uint32_t)i + 1, SUBJECTS[i]) != 0)
            findings_add(d->found, FINDING_WARN, "permissions", "cannot subscribe to '%s' now", SUBJECTS[i]);
    int err = conn_jetstream(d->conn, "INFO", "", &info, &detail);
    json_decref(info);
    conn_turn(d->conn, 50);
    bool refused = false;
    for (int i = 0; i < d->conn->log_count; i++) {
        bool permission = strstr(d->conn->logs[i], "ermission") != NULL;
        findings_add(d->found, permission ? FINDING_FAIL : FINDING_WARN, permission ? "permissions" : "nats", "%s",
                     d->conn->logs[i]);
        refused = refused || permission;
    }
    if (err == 0 && !refused)
        findings_add(d->found, FINDING_OK, "permissions", "this user may ask JetStream and hear events");
}

enum ctl_exit ctl_doctor(struct conn *conn, const struct options *o)
{
    struct doctor d = {.conn = conn, .found = findings_new()};
    int replicas = 1;
    if (!d.found) {
        ctl_say("out of memory");
        return CTL_FAILED;
    }
    if (check_jetstream(&d)) {
        for (size_t i = 0; i < sizeof BUCKETS / sizeof BUCKETS[0]; i++) {
            int have = check_bucket(&d, BUCKETS[i]);
            replicas = have > replicas ? have : replicas;
        }
        int have = check_durable(&d);
        replicas = have > replicas ? have : replicas;
        check_nodes(&d);
    }
    check_version(&d, replicas);
    check_permissions(&d);
    findings_add(d.found, FINDING_NOTE, "sync_interval",
                 "JetStream acknowledges before fsync (2 min by default): a power loss of a majority at once can lose the last "
                 "writes, unless the nats-servers run with sync_interval: always");
    size_t fails = findings_count(d.found, FINDING_FAIL);
    if (o->json) {
        table_json(stdout, d.found);
    } else {
        findings_print(d.found);
        printf("%zu to repair, %zu to look at\n", fails, findings_count(d.found, FINDING_WARN));
    }
    json_decref(d.found);
    return fails ? CTL_FAILED : CTL_DONE;
}
