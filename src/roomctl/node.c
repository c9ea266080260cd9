/*
 * Questions to one node: control requests and pings.
 *
 * Must not know what a verb makes of the answers. Invariant: a reply comes from outside: it is an object of the expected
 * form or an error, and pages end.
 */
#include <stdlib.h>
#include <string.h>

#include "roomctl/connect.h"
#include "wire/subject.h"

enum { PAGES_MAX = 2000 };

static int no_answer(const struct conn_answer *a, const char *server, struct err_detail *detail)
{
    return err_set(detail, ROOM_E_UNAVAILABLE, "node '%s' does not answer: %s", server,
                   a->result == BUS_NO_RESPONDERS ? "it is not running, or another --prefix"
                                                  : "it hangs or cannot reach NATS");
}

/* The parsed answer of a node; takes nothing. */
static int ask_node(struct conn *c, const char *server, const char *verb, const char *text, json_t **out,
                    struct err_detail *detail)
{
    char subject[SUBJECT_SIZE];
    struct conn_answer a;
    int err = conn_request(c, subject_server(subject, server, verb), text, &a, detail);
    if (err == 0 && a.result != BUS_OK)
        err = no_answer(&a, server, detail);
    json_t *root = err ? NULL : json_loadb(a.data, a.len, 0, NULL);
    conn_answer_free(&a);
    if (err)
        return err;
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(detail, ROOM_E_IO, "node '%s' sent an answer that is no JSON object", server);
    }
    *out = root;
    return 0;
}

int conn_ctl(struct conn *c, const char *server, json_t *request, json_t **result, struct err_detail *detail)
{
    json_t *reply = NULL;
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    c->refused = false;
    int err = text ? ask_node(c, server, "ctl", text, &reply, detail)
                   : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    free(text);
    if (err)
        return err;
    if (json_is_true(json_object_get(reply, "ok"))) {
        json_t *value = json_object_get(reply, "result");
        *result = json_is_object(value) ? json_incref(value) : json_object();
    } else {
        const char *word = json_string_value(json_object_get(reply, "error"));
        const char *message = json_string_value(json_object_get(reply, "message"));
        err = word ? room_error_from_name(word) : ROOM_E_INTERNAL;
        err_set(detail, err ? err : ROOM_E_INTERNAL, "node '%s' refused: %s%s%s", server, word ? word : "no reason given",
                message && *message ? ": " : "", message ? message : "");
        err = err ? err : ROOM_E_INTERNAL;
        c->refused = true;
    }
    json_decref(reply);
    return err;
}

int conn_ctl_pages(struct conn *c, const char *server, const char *op, const char *member, json_t **out,
                   struct err_detail *detail)
{
    json_t *all = json_array();
    int err = all ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    for (int page = 0; err == 0 && page < PAGES_MAX; page++) {
        json_t *result = NULL;
        err = conn_ctl(c, server,
                       json_pack("{s:s,s:i,s:i}", "op", op, "limit", CONN_PAGE, "offset", (int)json_array_size(all)),
                       &result, detail);
        json_t *list = json_object_get(result, member);
        json_int_t total = json_integer_value(json_object_get(result, "total"));
        if (err == 0 && !json_is_array(list))
            err = err_set(detail, ROOM_E_IO, "node '%s' answered '%s' without '%s'", server, op, member);
        size_t got = json_array_size(list);
        if (err == 0 && json_array_extend(all, list) != 0)
            err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
        json_decref(result);
        if (got == 0 || (json_int_t)json_array_size(all) >= total)
            break;
    }
    if (err)
        json_decref(all);
    else
        *out = all;
    return err;
}

int conn_ping(struct conn *c, const char *server, json_t **out, struct err_detail *detail)
{
    json_t *reply = NULL;
    int err = ask_node(c, server, "ping", "roomctl", &reply, detail);
    if (err)
        return err;
    if (!json_is_string(json_object_get(reply, "boot"))) {
        json_decref(reply);
        return err_set(detail, ROOM_E_IO, "node '%s' answered a ping without its boot", server);
    }
    *out = reply;
    return 0;
}
