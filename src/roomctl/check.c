/*
 * `check`: the cluster's fsck. The listing, the nodes' own lists, and what must hold between them.
 *
 * Decides: what counts as a breach. Must not repair anything. Invariant: exit code 0 only if every room was seen on
 * exactly one node that is up, as listed, and could be restored by another one. Weak spot: counts are listed with a delay,
 * so that a difference counts only if each look within the settling time shows it.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/findings.h"
#include "roomctl/stored.h"
#include "roomctl/table.h"
#include "wire/wire_gen.h"

enum { SCRATCH_BYTES = 1 << 20, LOOK_AGAIN_MS = 500 };

struct check {
    struct conn *conn;
    json_t *servers, *rooms; /* id -> entry */
    json_t *alive;           /* id of a node that answered -> true */
    json_t *running;         /* room id -> id of the node that runs it */
    json_t *players;         /* player id -> id of the server that has its session */
    bool space;              /* a node that takes rooms has capacity left */
    json_t *found;
};

#define BREACH(c, about, ...) findings_add((c)->found, FINDING_FAIL, about, __VA_ARGS__)

static const char *text_of(json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static long long number_of(json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

typedef int from_json(json_t *entry, const char *text, struct err_detail *detail);

static int server_from_json(json_t *entry, const char *text, struct err_detail *detail)
{
    struct buf scratch;
    struct wire_server_entry m;
    buf_init(&scratch, &alloc_libc, SCRATCH_BYTES);
    int err = wire_server_entry_from_json(&m, text, strlen(text), &scratch, detail);
    buf_deinit(&scratch);
    return err;
}

static int room_from_json(json_t *entry, const char *text, struct err_detail *detail)
{
    struct buf scratch;
    struct wire_room_entry m;
    buf_init(&scratch, &alloc_libc, SCRATCH_BYTES);
    int err = wire_room_entry_from_json(&m, text, strlen(text), &scratch, detail);
    buf_deinit(&scratch);
    return err;
}

/* Takes unreadable entries out, so that what follows can rely on the schema. */
static void check_schema(struct check *c, const char *what, json_t *entries, from_json *read)
{
    const char *id;
    json_t *entry;
    void *next;
    char about[ID_SIZE + 40];
    json_object_foreach_safe(entries, next, id, entry)
    {
        struct err_detail detail = {""};
        char *text = json_dumps(entry, JSON_COMPACT);
        bool valid = id_valid(id) && !json_object_get(entry, "broken") && text && read(entry, text, &detail) == 0;
        snprintf(about, sizeof about, "%s %.*s", what, ID_MAX, id);
        if (!valid) {
            BREACH(c, about, "the entry is not readable: %s", !id_valid(id) ? "its key is not an id"
                   : detail.text[0] ? detail.text : "it is not a JSON object");
            json_object_del(entries, id);
        }
        free(text);
    }
}

/* One room of a node's own list against the listing. */
static void check_run(struct check *c, const char *server, json_t *room)
{
    const char *id = text_of(room, "id"), *other = json_string_value(json_object_get(c->running, id));
    static const char *const FIELDS[] = {"epoch", "players", "max_players"};
    char about[ID_SIZE + 40];
    json_t *entry = json_object_get(c->rooms, id);
    if (!id_valid(id)) {
        snprintf(about, sizeof about, "server %s", server);
        BREACH(c, about, "its own list is not readable: a room without a valid id");
        return;
    }
    snprintf(about, sizeof about, "room %s", id);
    if (other)
        BREACH(c, about, "two owners: it runs on '%s' and on '%s'; stop the node that is not the listed owner", other, server);
    json_object_set_new(c->running, id, json_string(server));
    if (number_of(room, "seats") > number_of(room, "max_players"))
        BREACH(c, about, "overfull on its node: %lld seats of %lld; roomctl lock %s until players have left", number_of(room, "seats"),
               number_of(room, "max_players"), id);
    if (!entry) {
        BREACH(c, about, "not listed: it runs on '%s', which should list it again by itself; if not, restart that node", server);
        return;
    }
    if (strcmp(text_of(entry, "owner"), server) != 0) {
        BREACH(c, about, "runs elsewhere: listed on '%s', also runs on '%s'; restart the latter", text_of(entry, "owner"), server);
        return;
    }
    for (size_t i = 0; i < sizeof FIELDS / sizeof FIELDS[0]; i++)
        if (number_of(entry, FIELDS[i]) != number_of(room, FIELDS[i]))
            BREACH(c, about, "%s differs: listed %lld, its node says %lld", FIELDS[i], number_of(entry, FIELDS[i]),
                   number_of(room, FIELDS[i]));
}

/* One session per player. A session that moves just now is seen on both servers, or on none; another look shows where it is. */
static void check_players(struct check *c, const char *server, json_t *list)
{
    json_t *player;
    size_t i;
    json_array_foreach(list, i, player)
    {
        const char *id = text_of(player, "player"), *other = json_string_value(json_object_get(c->players, id));
        char about[ID_SIZE + 40];
        snprintf(about, sizeof about, "player %.64s", id);
        if (other && strcmp(other, server) != 0)
            BREACH(c, about, "two sessions: on '%s' and on '%s'; let it connect again", other, server);
        else
            json_object_set_new(c->players, id, json_string(server));
    }
}

static void check_server(struct check *c, const char *id, json_t *entry)
{
    struct err_detail detail = {""};
    json_t *pong = NULL, *list = NULL, *players = NULL, *room;
    char about[ID_SIZE + 40];
    size_t i;
    snprintf(about, sizeof about, "server %s", id);
    if (strcmp(text_of(entry, "status"), "down") == 0)
        return;
    int err = conn_ping(c->conn, id, &pong, &detail);
    if (err == 0)
        err = conn_ctl_pages(c->conn, id, "rooms", "rooms", &list, &detail);
    if (err == 0)
        err = conn_ctl_pages(c->conn, id, "players", "players", &players, &detail);
    if (err) {
        BREACH(c, about, "listed as %s but does not tell its rooms: %s; see roomctl doctor", text_of(entry, "status"),
               detail.text);
    } else {
        json_object_set_new(c->alive, id, json_true());
        if (strcmp(text_of(pong, "boot"), text_of(entry, "boot")) != 0)
            BREACH(c, about, "boot differs: listed '%s', the node says '%s'; it should list itself again", text_of(entry, "boot"),
                   text_of(pong, "boot"));
        json_array_foreach(list, i, room)
            check_run(c, id, room);
        check_players(c, id, players);
        c->space = c->space || (strcmp(text_of(entry, "status"), "up") == 0 &&
                                (long long)json_array_size(list) < number_of(entry, "capacity"));
    }
    json_decref(pong);
    json_decref(list);
    json_decref(players);
}

/* A room that nobody runs, and is not lost: false if it should have an owner. */
static bool check_waiting(struct check *c, const char *about, const char *id, json_t *entry)
{
    const char *state = text_of(entry, "state");
    if (strcmp(state, "parked") == 0)
        BREACH(c, about, "parked: %lld owners in a row could not run it; see their logs, then roomctl snapshot restore %s",
               number_of(entry, "restores"), id);
    else if (strcmp(state, "pending") == 0 && c->space)
        BREACH(c, about, "pending: nobody runs it, though a node has room; does it know the type '%s'?", text_of(entry, "type"));
    else if (strcmp(state, "pending") == 0)
        findings_add(c->found, FINDING_WARN, about, "pending: no node has room for it; start one, or raise --capacity");
    else
        return false;
    return true;
}

static void check_room(struct check *c, const char *id, json_t *entry)
{
    const char *owner = text_of(entry, "owner");
    json_t *server = json_object_get(c->servers, owner);
    char about[ID_SIZE + 40];
    snprintf(about, sizeof about, "room %s", id);
    if (number_of(entry, "seats") > number_of(entry, "max_players"))
        BREACH(c, about, "overfull in the listing: %lld seats of %lld; roomctl lock %s until players have left",
               number_of(entry, "seats"), number_of(entry, "max_players"), id);
    if (check_waiting(c, about, id, entry))
        return;
    if (!server)
        BREACH(c, about, "its owner is no server of this cluster: '%s'; nodes take it over or remove it, if one runs", owner);
    else if (strcmp(text_of(server, "status"), "down") == 0)
        BREACH(c, about, "its owner is down: '%s'; the others should have it by now, see their logs", owner);
    else if (strcmp(text_of(server, "boot"), text_of(entry, "boot")) != 0)
        BREACH(c, about, "its owner has started anew: '%s' is in boot '%s', the room in '%s'; that node should take it", owner,
               text_of(server, "boot"), text_of(entry, "boot"));
    else if (!json_object_get(c->alive, owner))
        BREACH(c, about, "its owner does not answer: '%s'; see roomctl doctor", owner);
    else if (!json_object_get(c->running, id))
        BREACH(c, about, "its owner does not run it: '%s'; restart that node", owner);
}

static bool check_new(struct check *c)
{
    c->alive = json_object();
    c->running = json_object();
    c->players = json_object();
    c->found = findings_new();
    return c->alive && c->running && c->players && c->found;
}

static void check_free(struct check *c)
{
    json_decref(c->servers);
    json_decref(c->rooms);
    json_decref(c->alive);
    json_decref(c->running);
    json_decref(c->players);
    json_decref(c->found);
}

/* What one look has found. */
struct seen {
    json_t *found;
    size_t servers, rooms;
    struct stored_counts stored;
};

static int look(struct conn *conn, struct seen *seen, struct err_detail *detail)
{
    struct check c = {.conn = conn};
    const char *id;
    json_t *entry, *named = NULL;
    int err = conn_list(conn, "servers", &c.servers, detail);
    if (err == 0)
        err = conn_list(conn, "rooms", &c.rooms, detail);
    if (err == 0 && (!check_new(&c) || !(named = json_copy(c.rooms))))
        err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    if (err == 0) {
        check_schema(&c, "server", c.servers, server_from_json);
        check_schema(&c, "room", c.rooms, room_from_json);
        json_object_foreach(c.servers, id, entry)
            check_server(&c, id, entry);
        json_object_foreach(c.rooms, id, entry)
            check_room(&c, id, entry);
        err = stored_check(conn, c.rooms, named, c.found, &seen->stored, detail);
    }
    if (err == 0) {
        seen->servers = json_object_size(c.servers);
        seen->rooms = json_object_size(c.rooms);
        seen->found = json_incref(c.found);
    }
    json_decref(named);
    check_free(&c);
    return err;
}

/* Looks until no breach is left that every look has shown, or the settling time is over. */
static int look_often(struct conn *conn, const struct options *o, struct seen *seen, struct err_detail *detail)
{
    struct mono end = mono_add_ms(time_mono_now(), o->settle_ms);
    int err = look(conn, seen, detail);
    while (err == 0 && findings_count(seen->found, FINDING_FAIL) > 0 && !mono_reached(time_mono_now(), end)) {
        json_t *before = seen->found;
        poll(NULL, 0, LOOK_AGAIN_MS);
        seen->found = NULL;
        err = look(conn, seen, detail);
        json_t *both = err ? NULL : findings_lasting(before, seen->found);
        json_decref(seen->found);
        seen->found = both;
        json_decref(before);
    }
    return err;
}

enum ctl_exit ctl_check(struct conn *conn, const struct options *o)
{
    struct seen seen = {0};
    struct err_detail detail = {""};
    int err = look_often(conn, o, &seen, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    json_t *breaches = findings_only(seen.found, FINDING_FAIL), *warnings = findings_only(seen.found, FINDING_WARN);
    size_t count = json_array_size(breaches);
    if (o->json) {
        json_t *all = json_pack("{s:b,s:I,s:I,s:I,s:I,s:O,s:O}", "ok", count == 0, "servers", (json_int_t)seen.servers, "rooms",
                                (json_int_t)seen.rooms, "snapshots", (json_int_t)seen.stored.snapshots, "journals",
                                (json_int_t)seen.stored.journals, "breaches", breaches, "warnings", warnings);
        table_json(stdout, all);
        json_decref(all);
    } else {
        findings_print(seen.found);
        printf("%s: %zu servers, %zu rooms, %zu breaches\n", count ? "failed" : "all holds", seen.servers, seen.rooms, count);
    }
    json_decref(breaches);
    json_decref(warnings);
    json_decref(seen.found);
    return count ? CTL_FAILED : CTL_DONE;
}
