/*
 * `check`: the cluster's fsck. The listing, the nodes' own lists, and what must hold between them.
 *
 * Decides: what counts as a breach. Must not repair anything. Invariant: exit code 0 only if every room was seen on
 * exactly one node that is up, as listed. Weak spot: counts are listed with a delay, so that a difference counts only if
 * each look within the settling time shows it.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/findings.h"
#include "roomctl/table.h"
#include "wire/wire_gen.h"

enum { SCRATCH_BYTES = 1 << 20, LOOK_AGAIN_MS = 500 };

struct check {
    struct conn *conn;
    json_t *servers, *rooms; /* id -> entry */
    json_t *alive;           /* id of a node that answered -> true */
    json_t *running;         /* room id -> id of the node that runs it */
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
        BREACH(c, about, "two owners: it runs on '%s' and on '%s'", other, server);
    json_object_set_new(c->running, id, json_string(server));
    if (number_of(room, "seats") > number_of(room, "max_players"))
        BREACH(c, about, "overfull on its node: %lld seats of %lld", number_of(room, "seats"),
               number_of(room, "max_players"));
    if (!entry) {
        BREACH(c, about, "not listed: it runs on '%s'", server);
        return;
    }
    if (strcmp(text_of(entry, "owner"), server) != 0) {
        BREACH(c, about, "runs elsewhere: listed on '%s', also runs on '%s'", text_of(entry, "owner"), server);
        return;
    }
    for (size_t i = 0; i < sizeof FIELDS / sizeof FIELDS[0]; i++)
        if (number_of(entry, FIELDS[i]) != number_of(room, FIELDS[i]))
            BREACH(c, about, "%s differs: listed %lld, its node says %lld", FIELDS[i], number_of(entry, FIELDS[i]),
                   number_of(room, FIELDS[i]));
}

static void check_server(struct check *c, const char *id, json_t *entry)
{
    struct err_detail detail = {""};
    json_t *pong = NULL, *list = NULL, *room;
    char about[ID_SIZE + 40];
    size_t i;
    snprintf(about, sizeof about, "server %s", id);
    if (strcmp(text_of(entry, "status"), "down") == 0)
        return;
    int err = conn_ping(c->conn, id, &pong, &detail);
    if (err == 0)
        err = conn_ctl_pages(c->conn, id, "rooms", "rooms", &list, &detail);
    if (err) {
        BREACH(c, about, "listed as %s but does not tell its rooms: %s", text_of(entry, "status"), detail.text);
    } else {
        json_object_set_new(c->alive, id, json_true());
        if (strcmp(text_of(pong, "boot"), text_of(entry, "boot")) != 0)
            BREACH(c, about, "boot differs: listed '%s', the node says '%s'", text_of(entry, "boot"), text_of(pong, "boot"));
        json_array_foreach(list, i, room)
            check_run(c, id, room);
    }
    json_decref(pong);
    json_decref(list);
}

static void check_room(struct check *c, const char *id, json_t *entry)
{
    const char *owner = text_of(entry, "owner"), *state = text_of(entry, "state");
    json_t *server = json_object_get(c->servers, owner);
    char about[ID_SIZE + 40];
    snprintf(about, sizeof about, "room %s", id);
    if (number_of(entry, "seats") > number_of(entry, "max_players"))
        BREACH(c, about, "overfull in the listing: %lld seats of %lld", number_of(entry, "seats"),
               number_of(entry, "max_players"));
    if (strcmp(state, "pending") == 0 || strcmp(state, "parked") == 0)
        BREACH(c, about, "nobody runs it: its state is '%s'", state);
    else if (!server)
        BREACH(c, about, "its owner is no server of this cluster: '%s'", owner);
    else if (strcmp(text_of(server, "status"), "down") == 0)
        BREACH(c, about, "its owner is down: '%s'", owner);
    else if (strcmp(text_of(server, "boot"), text_of(entry, "boot")) != 0)
        BREACH(c, about, "its owner has started anew: '%s' is in boot '%s', the room in '%s'", owner,
               text_of(server, "boot"), text_of(entry, "boot"));
    else if (!json_object_get(c->alive, owner))
        BREACH(c, about, "its owner does not answer: '%s'", owner);
    else if (!json_object_get(c->running, id))
        BREACH(c, about, "its owner does not run it: '%s'", owner);
}

static int look(struct conn *conn, json_t **found, size_t *servers, size_t *rooms, struct err_detail *detail)
{
    struct check c = {.conn = conn};
    const char *id;
    json_t *entry;
    int err = conn_list(conn, "servers", &c.servers, detail);
    if (err == 0)
        err = conn_list(conn, "rooms", &c.rooms, detail);
    c.alive = json_object();
    c.running = json_object();
    c.found = findings_new();
    if (err == 0 && (!c.alive || !c.running || !c.found))
        err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    if (err == 0) {
        check_schema(&c, "server", c.servers, server_from_json);
        check_schema(&c, "room", c.rooms, room_from_json);
        json_object_foreach(c.servers, id, entry)
            check_server(&c, id, entry);
        json_object_foreach(c.rooms, id, entry)
            check_room(&c, id, entry);
        *servers = json_object_size(c.servers);
        *rooms = json_object_size(c.rooms);
        *found = json_incref(c.found);
    }
    json_decref(c.servers);
    json_decref(c.rooms);
    json_decref(c.alive);
    json_decref(c.running);
    json_decref(c.found);
    return err;
}

/* Looks until nothing is found that lasts, or the settling time is over. */
static int look_often(struct conn *conn, const struct options *o, json_t **lasting, size_t *servers, size_t *rooms,
                      struct err_detail *detail)
{
    struct mono end = mono_add_ms(time_mono_now(), o->settle_ms);
    json_t *found = NULL;
    int err = look(conn, &found, servers, rooms, detail);
    while (err == 0 && json_array_size(found) > 0 && !mono_reached(time_mono_now(), end)) {
        json_t *again = NULL, *both;
        poll(NULL, 0, LOOK_AGAIN_MS);
        err = look(conn, &again, servers, rooms, detail);
        both = err ? NULL : findings_lasting(found, again);
        json_decref(again);
        if (both) {
            json_decref(found);
            found = both;
        }
    }
    if (err)
        json_decref(found);
    else
        *lasting = found;
    return err;
}

enum ctl_exit ctl_check(struct conn *conn, const struct options *o)
{
    json_t *found = NULL;
    struct err_detail detail = {""};
    size_t servers = 0, rooms = 0;
    int err = look_often(conn, o, &found, &servers, &rooms, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    size_t breaches = json_array_size(found);
    if (o->json) {
        json_t *all = json_pack("{s:b,s:I,s:I,s:O}", "ok", breaches == 0, "servers", (json_int_t)servers, "rooms",
                                (json_int_t)rooms, "breaches", found);
        table_json(stdout, all);
        json_decref(all);
    } else {
        findings_print(found);
        printf("%s: %zu servers, %zu rooms, %zu breaches\n", breaches ? "failed" : "all holds", servers, rooms, breaches);
    }
    json_decref(found);
    return breaches ? CTL_FAILED : CTL_DONE;
}
