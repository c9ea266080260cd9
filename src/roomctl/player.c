/*
 * `player` and `kick`: one player, as the registry has it and as its gateway says.
 *
 * Decides: what a kick is worth when the gateway does not answer. Then the player's entry is made to say that the session is over,
 * by compare-and-set: nobody takes it up again, the next login is not held up, and the gateway ends it as soon as it looks.
 * Invariant: a session is only called ended by its gateway's word, or when its gateway is listed as gone.
 */
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/stream.h"
#include "roomctl/table.h"
#include "roomctl/view.h"
#include "wire/wire_gen.h"

enum { ROUNDS = 4, SCRATCH_BYTES = 4096 };

static const char *word(json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

static int find(struct conn *conn, const char *player, json_t **entry, struct err_detail *detail)
{
    int err = conn_entry(conn, "players", player, entry, detail);
    if (err == ROOM_E_NOT_FOUND)
        return err_set(detail, err, "no player '%s' is connected or expected back: see roomctl players", player);
    if (!err && !id_valid(word(*entry, "gateway"))) {
        json_decref(*entry);
        return err_set(detail, ROOM_E_INVALID, "the entry of player '%s' names no gateway: see roomctl check", player);
    }
    return err;
}

/* The entry, and what its gateway answers. UNAVAILABLE: it does not, *entry is there all the same. Any other error: nothing is.
 * A player who has gone on to another gateway meanwhile is looked up again. */
static int ask(struct conn *conn, const struct options *o, const char *op, json_t **entry, json_t **live, struct err_detail *detail)
{
    const char *player = o->args[0];
    char session[ID_SIZE] = "";
    for (int round = 0; round < ROUNDS; round++) {
        int err = find(conn, player, entry, detail);
        if (err)
            return err;
        bool same = round && strcmp(session, word(*entry, "session")) == 0;
        snprintf(session, sizeof session, "%s", word(*entry, "session"));
        if (same || !id_valid(session) || strcmp(word(*entry, "status"), "kicked") == 0)
            break;
        err = conn_ctl(conn, word(*entry, "gateway"),
                       json_pack("{s:s,s:s,s:s,s:s*}", "op", op, "player", player, "session", session, "reason", o->reason), live, detail);
        if (err == 0 || (err == ROOM_E_UNAVAILABLE && !conn->refused))
            return err;
        json_decref(*entry);
        *entry = NULL;
        if (err != ROOM_E_NOT_FOUND)
            return err;
    }
    json_decref(*entry);
    *entry = NULL;
    return err_set(detail, ROOM_E_NOT_FOUND, "player '%s' is not connected any more: its session has ended", player);
}

enum ctl_exit ctl_player(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *live = NULL;
    struct err_detail detail = {""};
    if (!ctl_id_ok("player", o->args[0]))
        return CTL_USAGE;
    int err = ask(conn, o, "player", &entry, &live, &detail);
    if (entry)
        view_details(o, entry, live, live ? "-- as its gateway says now --" : "-- its gateway does not answer --");
    if (err)
        ctl_say("%s", detail.text);
    json_decref(entry);
    json_decref(live);
    return ctl_exit_asked(conn, err);
}

static bool listed_as_gone(struct conn *conn, const char *gateway)
{
    json_t *server = NULL;
    struct err_detail detail = {""};
    int err = conn_entry(conn, "servers", gateway, &server, &detail);
    bool gone = err == ROOM_E_NOT_FOUND || (!err && strcmp(word(server, "status"), "down") == 0);
    json_decref(server);
    return gone;
}

/* CONFLICT: the player's entry is another by now. */
static int bury(struct conn *conn, const char *player, json_t *entry, struct err_detail *detail)
{
    struct conn_answer a;
    char since[TIME_RFC3339_SIZE], over[ID_SIZE];
    struct buf json;
    int err = stream_value(conn, "players", player, &a, detail);
    if (err)
        return err == ROOM_E_NOT_FOUND ? ROOM_E_CONFLICT : err;
    json_t *now = json_loadb(a.data, a.len, 0, NULL);
    bool same = strcmp(word(now, "session"), word(entry, "session")) == 0;
    uint64_t revision = a.revision;
    json_decref(now);
    conn_answer_free(&a);
    if (!same)
        return ROOM_E_CONFLICT;
    time_rfc3339(time_wall_now(), since);
    snprintf(over, sizeof over, "kicked-%llu", (unsigned long long)revision);
    struct wire_player_entry e = {.status = WIRE_PLAYER_STATUS_KICKED, .since = wire_str(since)};
    id_set(&e.gateway, word(entry, "gateway"));
    id_set(&e.session, over);
    id_set(&e.replaced, word(entry, "session"));
    buf_init(&json, &alloc_libc, SCRATCH_BYTES);
    err = wire_player_entry_to_json(&e, &json);
    if (err)
        err_set(detail, err, "out of memory");
    else
        err = stream_put(conn, "players", player, revision, json.data, json.len, NULL, detail);
    buf_deinit(&json);
    return err;
}

static void say_kicked(const struct options *o, const char *session, const char *gateway, bool done)
{
    if (o->json) {
        json_t *row = json_pack("{s:s,s:s,s:s,s:b}", "id", o->args[0], "session", session, "gateway", gateway, "ended", done);
        table_json(stdout, row);
        json_decref(row);
    } else if (done) {
        printf("kicked %s: session %s on %s has ended\n", o->args[0], session, gateway);
    }
}

/* Its gateway is dead, or hangs. */
static int without_gateway(struct conn *conn, const struct options *o, json_t *entry, enum ctl_exit *code, struct err_detail *detail)
{
    const char *gateway = word(entry, "gateway");
    bool gone = listed_as_gone(conn, gateway);
    int err = bury(conn, o->args[0], entry, detail);
    if (err)
        return err;
    say_kicked(o, word(entry, "session"), gateway, gone);
    *code = gone ? CTL_DONE : CTL_UNREACHABLE;
    if (gone)
        ctl_say("its gateway '%s' is down: nobody was told, and nobody can take the session up again", gateway);
    else
        ctl_say("its gateway '%s' does not answer: the session there ends once it does, nobody can take it up again elsewhere, "
                "and a new login is not held up", gateway);
    return 0;
}

enum ctl_exit ctl_kick(struct conn *conn, const struct options *o)
{
    struct err_detail detail = {""};
    if (!ctl_id_ok("player", o->args[0]))
        return CTL_USAGE;
    if (o->reason && strlen(o->reason) > 128) {
        ctl_say("--reason is longer than 128 characters");
        return CTL_USAGE;
    }
    int err = ROOM_E_CONFLICT;
    for (int round = 0; err == ROOM_E_CONFLICT && round < ROUNDS; round++) {
        json_t *entry = NULL, *live = NULL;
        enum ctl_exit code = CTL_DONE;
        err = ask(conn, o, "kick", &entry, &live, &detail);
        if (err == 0)
            say_kicked(o, word(live, "session"), word(entry, "gateway"), true);
        else if (entry)
            err = without_gateway(conn, o, entry, &code, &detail);
        json_decref(entry);
        json_decref(live);
        if (err == 0)
            return code;
    }
    ctl_say("%s", detail.text);
    return ctl_exit_asked(conn, err);
}
