/*
 * `push`: says something to a player, to all in a room, or to everybody.
 *
 * Decides: that a push always has an id, so that one without an answer is asked again and done once. Must not read the inbox.
 * Exit code 0: delivered, kept or sent; 3: nobody owns the room; 1: refused; 4: nobody answers, or nobody knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/rng.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"
#include "wire/subject.h"

enum { TRIES = 4 };

/* {"data", "id"}, to be freed. NULL: DATA is no JSON. */
static char *body_of(const struct options *o, const char *data)
{
    char id[ULID_SIZE];
    struct rng rng;
    uint64_t seed;
    rng_secret(&seed, sizeof seed);
    rng_init(&rng, seed);
    id_ulid(id, time_wall_now(), &rng);
    json_t *value = json_loads(data, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    json_t *body = value ? json_pack("{s:o,s:s}", "data", value, "id", o->push_id ? o->push_id : id) : NULL;
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(body);
    return text;
}

/* The answer; asked again while there is none. */
static int ask(struct conn *conn, const char *subject, const char *body, const char *what, json_t **out,
               struct err_detail *detail)
{
    for (int i = 0; i < TRIES; i++) {
        struct conn_answer a;
        int err = conn_request(conn, subject, body, &a, detail);
        if (err)
            return err;
        json_t *answer = a.result == BUS_OK ? json_loadb(a.data, a.len, 0, NULL) : NULL;
        enum bus_result result = a.result;
        conn_answer_free(&a);
        const char *status = json_string_value(json_object_get(answer, "status"));
        if (status && (strcmp(status, "unknown") != 0 || i + 1 == TRIES)) {
            *out = answer;
            return 0;
        }
        json_decref(answer);
        if (result == BUS_NO_RESPONDERS)
            return err_set(detail, ROOM_E_NO_RESPONDERS, "nobody listens for %s", what);
    }
    return err_set(detail, ROOM_E_UNAVAILABLE, "no answer for %s: it may be done or not; repeat it with --id", what);
}

static enum ctl_exit show(const struct options *o, json_t *answer, const char *what)
{
    const char *status = json_string_value(json_object_get(answer, "status"));
    const char *message = json_string_value(json_object_get(answer, "message"));
    bool refused = strcmp(status, "refused") == 0, unknown = strcmp(status, "unknown") == 0;
    json_t *players = json_object_get(answer, "players");
    if (o->json)
        table_json(stdout, answer);
    if (refused || unknown) {
        ctl_say("%s: %s: %s", what, status, message ? message : "no reason given");
        return refused ? CTL_FAILED : CTL_UNREACHABLE;
    }
    if (!o->json && players)
        printf("%s: %s to %lld player(s)\n", what, status, (long long)json_integer_value(players));
    else if (!o->json)
        printf("%s: %s\n", what, status);
    return CTL_DONE;
}

/* Each node by itself: only so it is known how many have done it. */
static int ask_all(struct conn *conn, const char *body, json_t **out, struct err_detail *detail)
{
    json_t *servers = NULL, *server, *silent = json_array();
    long long players = 0;
    size_t i;
    int err = view_load(conn, "servers", &servers, detail);
    json_array_foreach(servers, i, server)
    {
        const char *id = json_string_value(json_object_get(server, "id"));
        const char *status = json_string_value(json_object_get(server, "status"));
        char subject[SUBJECT_SIZE];
        json_t *answer = NULL;
        if (!id || !id_valid(id) || (status && strcmp(status, "down") == 0))
            continue;
        if (ask(conn, subject_server(subject, id, "broadcast"), body, id, &answer, detail)) {
            ctl_say("%s: %s", id, detail->text);
            json_array_append_new(silent, json_string(id));
        }
        players += json_integer_value(json_object_get(answer, "players"));
        json_decref(answer);
    }
    json_decref(servers);
    bool all = json_array_size(silent) == 0;
    if (!err)
        *out = json_pack("{s:s,s:I,s:O,s:s*}", "status", all ? "sent" : "unknown", "players", (json_int_t)players,
                         "silent", silent,
                         "message", all ? NULL : "not every node has answered; repeat it with --id");
    json_decref(silent);
    return err || *out ? err : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
}

enum ctl_exit ctl_push(struct conn *conn, const struct options *o)
{
    struct err_detail detail = {""};
    char subject[SUBJECT_SIZE], what[ID_SIZE + 16];
    bool player = !o->room && !o->all;
    json_t *answer = NULL;
    if ((o->room && o->all) || o->arg_count != (player ? 2 : 1)) {
        ctl_say("wanted PLAYER DATA, or --room ROOM DATA, or --all DATA: see roomctl push --help");
        return CTL_USAGE;
    }
    if ((player && !ctl_id_ok("player", o->args[0])) || (o->room && !ctl_id_ok("room", o->room)))
        return CTL_USAGE;
    if (o->push_id && strlen(o->push_id) > 64) {
        ctl_say("--id is longer than 64 characters");
        return CTL_USAGE;
    }
    char *body = body_of(o, o->args[player ? 1 : 0]);
    if (!body) {
        ctl_say("DATA is no JSON: a text is given as '\"text\"'");
        return CTL_USAGE;
    }
    snprintf(what, sizeof what, "%s%s%s", player ? "player " : o->room ? "room " : "all", player ? o->args[0] : "",
             o->room ? o->room : "");
    int err = o->all ? ask_all(conn, body, &answer, &detail)
                     : ask(conn, player ? subject_player(subject, o->args[0], "push") : subject_room(subject, o->room, "push"),
                           body, what, &answer, &detail);
    free(body);
    if (err && o->room && err == ROOM_E_NO_RESPONDERS)
        err = err_set(&detail, ROOM_E_NOT_FOUND, "nobody owns room '%s' now: see roomctl room %s", o->room, o->room);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    enum ctl_exit code = show(o, answer, what);
    json_decref(answer);
    return code;
}
