/*
 * The table of verbs, help, and the way from argv to one verb.
 *
 * Decides: usage errors and their exit code. Must not know how a verb works. Invariant: NATS is only reached once the
 * command line is known to be right.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "roomctl/ctl.h"

static const struct ctl_verb VERBS[] = {
    {"servers", "", 0, 0, 0, "list the nodes", "", "roomctl servers", ctl_servers},
    {"server", "ID", 0, 1, 1, "one node: its entry, and what it says itself", "", "roomctl server node-1", ctl_server},
    {"rooms", "", OPT_TYPE | OPT_FILTER | OPT_SERVER | OPT_LIMIT | OPT_SORT, 0, 0, "list the rooms", "",
     "roomctl rooms --type chess --has-space --sort -players --limit 20", ctl_rooms},
    {"room", "ID", 0, 1, 1, "one room: its entry, and what its owner says, with its players", "",
     "roomctl room lobby-1 --json", ctl_room},
    {"players", "", OPT_ROOM | OPT_SERVER, 0, 0, "list the players connected, or those in a room", "",
     "roomctl players --room lobby-1", ctl_players},
    {"lock", "ROOM", 0, 1, 1, "let nobody new into a room", "", "roomctl lock lobby-1", ctl_lock},
    {"unlock", "ROOM", 0, 1, 1, "let players into a room again", "", "roomctl unlock lobby-1", ctl_unlock},
    {"close", "ROOM", 0, 1, 1, "end a room; its players are told", "", "roomctl close lobby-1", ctl_close},
    {"watch", "[SUBJECT]", OPT_COUNT, 0, 1, "print events as they happen",
     "Without a subject: all events of rooms, servers and players. --json prints each event as it came, one a line.\n",
     "roomctl watch 'room.*.created'", ctl_watch},
    {"doctor", "", 0, 0, 0, "look at NATS and the nodes: what is wrong, what to do", "", "roomctl doctor", ctl_doctor},
    {"check", "", OPT_SETTLE, 0, 0, "compare the listing with the nodes; 0 only if all holds",
     "Each room has one owner that is up, in its current boot; each node's own rooms equal the listing; no room is\n"
     "overfull. What differs is looked at again until --settle has passed, because counts are listed with a delay.\n",
     "roomctl check && echo all is well", ctl_check},
};
enum { VERB_COUNT = sizeof VERBS / sizeof VERBS[0] };

void ctl_say(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < ' ' || *p == 0x7f)
            *p = '?';
    fprintf(stderr, "roomctl: %s\n", text);
}

enum ctl_exit ctl_exit_of(int err)
{
    switch (err) {
    case 0:
        return CTL_DONE;
    case ROOM_E_NOT_FOUND:
        return CTL_NOT_FOUND;
    case ROOM_E_UNAVAILABLE:
    case ROOM_E_TIMEOUT:
    case ROOM_E_NO_RESPONDERS:
    case ROOM_E_DISCONNECTED:
        return CTL_UNREACHABLE;
    default:
        return CTL_FAILED;
    }
}

bool ctl_id_ok(const char *what, const char *id)
{
    if (id_valid(id))
        return true;
    ctl_say("invalid %s id '%.70s': use 1 to 64 of A-Z a-z 0-9 _ - (and not 'all')", what, id);
    return false;
}

static const struct ctl_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(VERBS[i].name, name) == 0)
            return &VERBS[i];
    return NULL;
}

static unsigned verb_options(const char *name)
{
    const struct ctl_verb *verb = find_verb(name);
    return verb ? verb->options | OPT_COMMON : strcmp(name, "help") == 0 ? OPT_COMMON : 0;
}

static void help(void)
{
    printf("usage: roomctl [options] VERB [arguments]\n\nAsks and tends a cluster of roomd nodes over NATS.\n\nverbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        printf("  %-8s %-10s %s\n", VERBS[i].name, VERBS[i].args, VERBS[i].summary);
    printf("\noptions of all verbs:\n");
    options_help(stdout, OPT_COMMON);
    printf("\nexit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 cannot reach NATS or a node\n"
           "more: roomctl VERB --help\n");
}

static void verb_help(const struct ctl_verb *verb)
{
    printf("usage: roomctl %s%s%s [options]\n\n%s\n", verb->name, *verb->args ? " " : "", verb->args, verb->summary);
    if (*verb->text)
        printf("\n%s", verb->text);
    if (verb->options) {
        printf("\noptions of this verb:\n");
        options_help(stdout, verb->options);
    }
    printf("\noptions of all verbs:\n");
    options_help(stdout, OPT_COMMON | (verb->options & OPT_SERVER ? OPT_SERVER : 0u));
    printf("\nexample: %s\n", verb->example);
}

static enum ctl_exit show_help(const struct options *o)
{
    const char *name = o->verb && strcmp(o->verb, "help") == 0 ? (o->arg_count ? o->args[0] : NULL) : o->verb;
    const struct ctl_verb *verb = name ? find_verb(name) : NULL;
    if (name && !verb) {
        ctl_say("unknown verb '%.40s': see roomctl --help", name);
        return CTL_USAGE;
    }
    if (verb)
        verb_help(verb);
    else
        help();
    return CTL_DONE;
}

static enum ctl_exit run(const struct ctl_verb *verb, const struct options *o)
{
    struct conn conn;
    struct err_detail detail = {""};
    if (o->arg_count < verb->args_min || o->arg_count > verb->args_max) {
        ctl_say("'%s' takes %s: see roomctl %s --help", verb->name, *verb->args ? verb->args : "no arguments", verb->name);
        return CTL_USAGE;
    }
    int err = conn_open(&conn, o, &detail);
    if (err)
        ctl_say("%s", detail.text);
    enum ctl_exit code = err == ROOM_E_INVALID ? CTL_USAGE : err ? ctl_exit_of(err) : verb->run(&conn, o);
    conn_close(&conn);
    if (fflush(stdout) != 0 && code == CTL_DONE)
        code = CTL_FAILED;
    return code;
}

int main(int argc, char *argv[])
{
    struct options o = {0};
    struct err_detail detail = {""};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of fflush, not our death in the middle of an order */
    if (options_parse(argc, argv, verb_options, &o, &detail) != 0) {
        ctl_say("%s", detail.text);
        return CTL_USAGE;
    }
    if (o.version) {
        printf("roomctl %s\n", ROOMD_VERSION);
        return CTL_DONE;
    }
    if (o.help || (o.verb && strcmp(o.verb, "help") == 0))
        return (int)show_help(&o);
    if (!o.verb) {
        ctl_say("no verb: see roomctl --help");
        return CTL_USAGE;
    }
    return (int)run(find_verb(o.verb), &o);
}
