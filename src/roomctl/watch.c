/*
 * `watch`: events as they happen, one line each.
 *
 * Decides: which subjects bear events (never the nodes' own traffic) and how a line looks. Must not interpret events.
 * Invariant: what was missed is said; nothing is printed that could drive a terminal.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "roomctl/ctl.h"
#include "roomctl/table.h"

static const char *const SUBJECTS[] = {
    "server.*.online", "server.*.offline", "server.*.draining",
    "room.*.created", "room.*.updated", "room.*.disposed", "room.*.migrated", "room.*.message",
    "player.*.joined", "player.*.left", "player.*.online", "player.*.offline", "player.*.kicked", "player.*.matched",
};

static const char *const SHOWN[] = {"id", "time", "type"}; /* not repeated in the details */

struct watch {
    const struct options *o;
    struct conn *conn;
    int printed;
    bool failed;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = 1;
}

static bool shown_already(const char *key, const char *about)
{
    for (size_t i = 0; i < sizeof SHOWN / sizeof SHOWN[0]; i++)
        if (strcmp(SHOWN[i], key) == 0)
            return true;
    return about && strcmp(key, about) == 0;
}

static void print_text(json_t *value)
{
    char *text = table_text(value);
    fputs(text ? text : "?", stdout);
    free(text);
}

/* The member an event is about is named by the first token of its subject. */
static const char *about_of(const char *subject, json_t *event)
{
    static const char *const kinds[] = {"server", "room", "player"};
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(kinds[i]);
        if (strncmp(subject, kinds[i], len) == 0 && subject[len] == '.' &&
            json_is_string(json_object_get(event, kinds[i])))
            return kinds[i];
    }
    return NULL;
}

static void print_event(const char *subject, json_t *event)
{
    const char *key, *about = about_of(subject, event);
    json_t *value;
    print_text(json_object_get(event, "time"));
    fputc(' ', stdout);
    print_text(json_object_get(event, "type"));
    fputc(' ', stdout);
    if (about)
        print_text(json_object_get(event, about));
    else
        fputs(subject, stdout);
    json_object_foreach(event, key, value)
    {
        json_t *name = shown_already(key, about) ? NULL : json_string(key);
        if (!name)
            continue;
        fputc(' ', stdout);
        print_text(name);
        fputc('=', stdout);
        print_text(value);
        json_decref(name);
    }
    fputc('\n', stdout);
}

static void print_message(struct watch *w, const struct bus_event *ev)
{
    const char *subject = ev->subject[0] == '\t' ? ev->subject + 1 : ev->subject;
    json_t *event = json_loadb((const char *)ev->data, ev->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (w->o->count > 0 && w->printed >= w->o->count) {
        json_decref(event);
        return;
    }
    if (w->o->json && event) {
        json_dumpf(event, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        fputc('\n', stdout);
    } else if (json_is_string(json_object_get(event, "type"))) {
        print_event(subject, event);
    } else if (event && !w->o->json) {
        printf("%s ", subject);
        print_text(event);
        fputc('\n', stdout);
    } else if (!w->o->json) {
        printf("%s (%zu bytes, not JSON)\n", subject, ev->len);
    } else {
        ctl_say("left out a message on %s: %zu bytes, not JSON", subject, ev->len);
    }
    w->printed++;
    w->failed = w->failed || fflush(stdout) != 0;
    json_decref(event);
}

static void on_event(void *arg, const struct bus_event *ev)
{
    struct watch *w = arg;
    if (ev->kind == BUS_EV_MESSAGE)
        print_message(w, ev);
    else if (ev->kind == BUS_EV_LOST)
        ctl_say("%llu events were lost: this terminal is too slow", (unsigned long long)ev->revision);
    else if (ev->kind == BUS_EV_DOWN)
        ctl_say("the connection to NATS is lost; trying again");
    else if (ev->kind == BUS_EV_UP)
        ctl_say("connected to NATS again; what happened in between was missed");
}

static int subscribe(struct conn *conn, const struct options *o)
{
    int err = o->arg_count ? bus_subscribe(conn->bus, 1, o->args[0]) : 0;
    for (size_t i = 0; !o->arg_count && err == 0 && i < sizeof SUBJECTS / sizeof SUBJECTS[0]; i++)
        err = bus_subscribe(conn->bus, (uint32_t)i + 1, SUBJECTS[i]);
    if (err == ROOM_E_INVALID)
        ctl_say("invalid subject '%.80s': give one such as 'room.>' or 'player.*.joined'", o->args[0]);
    else if (err)
        ctl_say("cannot subscribe: %s", room_error_text(err));
    return err;
}

enum ctl_exit ctl_watch(struct conn *conn, const struct options *o)
{
    struct watch w = {.o = o, .conn = conn};
    int logs = 0, err = subscribe(conn, o);
    if (err)
        return err == ROOM_E_INVALID ? CTL_USAGE : ctl_exit_of(err);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    conn->on_other = on_event;
    conn->other_arg = &w;
    if (!o->json)
        fprintf(stderr, "watching %s; end with Ctrl-C\n", o->arg_count ? o->args[0] : "all events");
    while (!stopped && !w.failed && (o->count == 0 || w.printed < o->count)) {
        conn_turn(conn, 500);
        for (; logs < conn->log_count; logs++)
            ctl_say("%s", conn->logs[logs]);
        conn->log_count = logs = 0;
    }
    conn->on_other = NULL;
    conn->other_arg = NULL;
    return w.failed ? CTL_FAILED : CTL_DONE;
}
