/*
 * `drain` and `undrain`: the order to a node, and how far it is.
 *
 * Decides: when a node counts as empty, and what is shown meanwhile. Must not move anything itself: the node does. Invariant:
 * exit code 0 only after the node itself said that no room and no player is left. Weak spot: a node tells the reason of the
 * last failure only, not one for each room.
 */
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"

enum { LOOK_MS = 250, HEARD_MS = 2000 /* in which the order takes effect */, LINE_MS = 1000, NAMED_MAX = 20 };

struct progress {
    json_int_t rooms, players, moved, moving, failed;
    bool draining;
    char reason[80];
};

static void take(json_t *info, struct progress *p)
{
    const char *reason = json_string_value(json_object_get(info, "drain_reason"));
    *p = (struct progress){
        .rooms = json_integer_value(json_object_get(info, "rooms")),
        .players = json_integer_value(json_object_get(info, "connections")),
        .moved = json_integer_value(json_object_get(info, "drain_moved")),
        .moving = json_integer_value(json_object_get(info, "drain_moving")),
        .failed = json_integer_value(json_object_get(info, "drain_failed")),
        .draining = json_is_true(json_object_get(info, "draining")),
    };
    snprintf(p->reason, sizeof p->reason, "%s", reason ? reason : "");
    for (unsigned char *c = (unsigned char *)p->reason; *c; c++)
        if (*c < ' ' || *c >= 0x7f)
            *c = '?';
}

static const char *advice(const char *reason)
{
    if (strcmp(reason, "no_target") == 0)
        return "no other node takes them: start one, or raise --capacity";
    if (strcmp(reason, "not_movable") == 0)
        return "their type cannot be saved: roomctl close ROOM, or wait until their players leave";
    return "it is tried again until it works";
}

static void show(const char *id, const struct progress *p)
{
    char line[300], failed[120] = "";
    int width = table_width(stdout); /* 0: no terminal */
    if (p->failed)
        snprintf(failed, sizeof failed, "%lld cannot move (%s), ", (long long)p->failed, p->reason);
    int len = snprintf(line, sizeof line, "%s: %lld room(s) left, %lld moving, %lld moved, %s%lld player(s) left", id,
                       (long long)p->rooms, (long long)p->moving, (long long)p->moved, failed, (long long)p->players);
    if (width)
        printf("\r\033[K%.*s", len < width ? len : width - 1, line); /* a line that wraps cannot be written over */
    else
        printf("%s\n", line);
    fflush(stdout);
}

/* The rooms that are left, an array of ids. */
static json_t *rooms_left(struct conn *conn, const char *id)
{
    json_t *list = NULL, *ids = json_array(), *room;
    struct err_detail detail = {""};
    size_t i;
    if (conn_ctl_pages(conn, id, "rooms", "rooms", &list, &detail) != 0)
        ctl_say("%s: its rooms are not named", detail.text);
    json_array_foreach(list, i, room)
        json_array_append(ids, json_object_get(room, "id"));
    json_decref(list);
    return ids;
}

static void report_json(const char *id, const struct progress *p, bool drained, json_t *left)
{
    json_t *all = json_pack("{s:s,s:b,s:b,s:I,s:I,s:I,s:I,s:s,s:O}", "id", id, "drained", drained, "draining", p->draining,
                            "rooms", p->rooms, "connections", p->players, "moved", p->moved, "failed", p->failed, "reason",
                            p->reason, "left", left);
    table_json(stdout, all);
    json_decref(all);
}

static enum ctl_exit report(struct conn *conn, const struct options *o, const char *id, const struct progress *p)
{
    bool drained = p->rooms == 0 && p->players == 0;
    json_t *left = p->rooms ? rooms_left(conn, id) : json_array();
    if (o->json)
        report_json(id, p, drained, left);
    else if (drained)
        printf("%s is empty: %lld room(s) moved; it may be stopped\n", id, (long long)p->moved);
    if (!drained && !p->draining) {
        ctl_say("'%s' does not drain any more: somebody has undone it, or it has started anew", id);
    } else if (!drained) {
        ctl_say("'%s' is not empty: %lld room(s) and %lld player(s) are left; it goes on draining", id, (long long)p->rooms,
                (long long)p->players);
        for (size_t i = 0; i < json_array_size(left) && i < NAMED_MAX; i++)
            ctl_say("left: room %s", json_string_value(json_array_get(left, i)));
        if (json_array_size(left) > NAMED_MAX)
            ctl_say("left: %zu more", json_array_size(left) - NAMED_MAX);
        if (p->failed)
            ctl_say("%lld cannot move: %s: %s", (long long)p->failed, p->reason, advice(p->reason));
    }
    json_decref(left);
    return drained ? CTL_DONE : CTL_FAILED;
}

/* Looks until the node is empty, drains no more, or the time is over. */
static int follow(struct conn *conn, const struct options *o, const char *id, struct progress *p, struct err_detail *detail)
{
    struct mono now = time_mono_now(), end = mono_add_ms(now, o->deadline_ms), next_line = now;
    struct mono heard = mono_add_ms(now, HEARD_MS);
    bool shown = false, began = false;
    int err;
    for (;;) {
        json_t *info = NULL;
        err = conn_ctl(conn, id, json_pack("{s:s}", "op", "info"), &info, detail);
        if (err)
            break;
        take(info, p);
        json_decref(info);
        now = time_mono_now();
        began = began || p->draining || mono_reached(now, heard);
        bool over = (p->rooms == 0 && p->players == 0) || (began && !p->draining) || mono_reached(now, end);
        if (!o->json && (over || isatty(STDOUT_FILENO) || mono_reached(now, next_line))) {
            show(id, p);
            shown = true;
            next_line = mono_add_ms(now, LINE_MS);
        }
        if (over)
            break;
        for (struct mono next = mono_add_ms(now, LOOK_MS); !mono_reached(time_mono_now(), next);)
            conn_turn(conn, LOOK_MS);
    }
    if (shown && isatty(STDOUT_FILENO))
        putchar('\n');
    return err;
}

/* Also that the node is listed: an order to one that is not would only time out. */
static int give_order(struct conn *conn, const char *op, const char *id, struct err_detail *detail)
{
    json_t *entry = NULL, *result = NULL;
    int err = conn_entry(conn, "servers", id, &entry, detail);
    json_decref(entry);
    if (err == ROOM_E_NOT_FOUND)
        return err_set(detail, err, "no server '%s': see roomctl servers", id);
    if (err == 0)
        err = conn_ctl(conn, id, json_pack("{s:s}", "op", op), &result, detail);
    json_decref(result);
    return err;
}

static void say_done(const struct options *o, const char *id, const char *op, const char *text)
{
    if (o->json) {
        json_t *shown = json_pack("{s:s,s:s}", "id", id, "done", op);
        table_json(stdout, shown);
        json_decref(shown);
    } else {
        printf("%s %s\n", id, text);
    }
}

enum ctl_exit ctl_drain(struct conn *conn, const struct options *o)
{
    struct progress p = {0};
    struct err_detail detail = {""};
    const char *id = o->args[0];
    if (!ctl_id_ok("server", id))
        return CTL_USAGE;
    int err = give_order(conn, "drain", id, &detail);
    if (err == ROOM_E_DRAINING && conn->refused)
        err = 0; /* it is about to stop, and drains for that */
    if (err == 0 && o->no_wait) {
        say_done(o, id, "drain", "drains");
        return CTL_DONE;
    }
    if (err == 0)
        err = follow(conn, o, id, &p, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_asked(conn, err);
    }
    return report(conn, o, id, &p);
}

enum ctl_exit ctl_undrain(struct conn *conn, const struct options *o)
{
    struct err_detail detail = {""};
    const char *id = o->args[0];
    if (!ctl_id_ok("server", id))
        return CTL_USAGE;
    int err = give_order(conn, "undrain", id, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_asked(conn, err);
    }
    say_done(o, id, "undrain", "takes rooms and players again");
    return CTL_DONE;
}
