/*
 * See owner.h.
 *
 * Weak spot: between the look at the registry and the question the room may move; that is what the second look is for.
 */
#include "roomctl/owner.h"

#include <string.h>

#include "base/id.h"

int owner_find(struct conn *conn, const char *room, json_t **entry, const char **owner, struct err_detail *detail)
{
    detail->text[0] = 0;
    int err = conn_entry(conn, "rooms", room, entry, detail);
    if (err == ROOM_E_NOT_FOUND)
        return err_set(detail, err, "no room '%s': see roomctl rooms", room);
    if (err)
        return err;
    *owner = json_string_value(json_object_get(*entry, "owner"));
    if (*owner && id_valid(*owner))
        return 0;
    json_decref(*entry);
    return err_set(detail, ROOM_E_INVALID, "the entry of room '%s' names no owner: see roomctl check", room);
}

static int put_question(struct conn *conn, const char *owner, json_t *request, bool takes_long, json_t **result,
                        struct err_detail *detail)
{
    int usual = conn->timeout_ms, err = 0;
    json_t *pong = NULL;
    if (takes_long)
        err = conn_ping(conn, owner, &pong, detail);
    json_decref(pong);
    if (takes_long && conn->timeout_ms < OWNER_LONG_MS)
        conn->timeout_ms = OWNER_LONG_MS;
    if (err == 0)
        err = conn_ctl(conn, owner, json_incref(request), result, detail);
    conn->timeout_ms = usual;
    return err;
}

static int ask(struct conn *conn, const char *room, json_t *request, bool takes_long, json_t **entry, json_t **result,
               struct err_detail *detail)
{
    int err = ROOM_E_INTERNAL;
    char last[ID_SIZE] = "";
    for (int round = 0; round < 2; round++) {
        const char *owner = NULL;
        conn->refused = false;
        err = owner_find(conn, room, entry, &owner, detail);
        if (err)
            return err;
        if (round > 0 && strcmp(owner, last) == 0) {
            err_set(detail, ROOM_E_UNAVAILABLE, "node '%s' is listed as owner of room '%s' but does not run it or "
                    "does not answer: see roomctl check", owner, room);
            json_decref(*entry); /* the owner's id was in it */
            return ROOM_E_UNAVAILABLE;
        }
        err = put_question(conn, owner, request, takes_long, result, detail);
        if (err == 0)
            return 0;
        snprintf(last, sizeof last, "%s", owner);
        json_decref(*entry);
        bool not_there = err == ROOM_E_NOT_FOUND || err == ROOM_E_FENCED || (err == ROOM_E_UNAVAILABLE && !conn->refused);
        if (!not_there)
            return err;
    }
    return err;
}

int owner_ask(struct conn *conn, const char *room, json_t *request, json_t **entry, json_t **result,
              struct err_detail *detail)
{
    int err = ask(conn, room, request, false, entry, result, detail);
    json_decref(request);
    return err;
}

int owner_ask_long(struct conn *conn, const char *room, json_t *request, json_t **entry, json_t **result,
                   struct err_detail *detail)
{
    int err = ask(conn, room, request, true, entry, result, detail);
    json_decref(request);
    return err;
}
