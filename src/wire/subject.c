/* See subject.h. */
#include "wire/subject.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {"", "server", "room", "player"};

static bool verb_ok(const char *verb)
{
    size_t len = strnlen(verb, SUBJECT_VERB_MAX + 1);
    return len <= SUBJECT_VERB_MAX && (strcmp(verb, "*") == 0 || id_valid_n(verb, len));
}

static const char *build(char out[SUBJECT_SIZE], enum subject_kind kind, const char *id, const char *verb)
{
    bool ok = (id_valid(id) || strcmp(id, "all") == 0 || strcmp(id, "*") == 0) && verb_ok(verb);
    out[0] = 0;
    if (ok)
        snprintf(out, SUBJECT_SIZE, "%s.%s.%s", kinds[kind], id, verb);
    return out;
}

const char *subject_server(char out[SUBJECT_SIZE], const char *id, const char *verb)
{
    return build(out, SUBJECT_SERVER, id, verb);
}

const char *subject_room(char out[SUBJECT_SIZE], const char *id, const char *verb)
{
    return build(out, SUBJECT_ROOM, id, verb);
}

const char *subject_player(char out[SUBJECT_SIZE], const char *id, const char *verb)
{
    return build(out, SUBJECT_PLAYER, id, verb);
}

const char *subject_service(char out[SUBJECT_SERVICE_SIZE], const char *service, const char *instance)
{
    out[0] = 0;
    if (id_valid(service) && (!instance || id_valid(instance) || strcmp(instance, "all") == 0))
        snprintf(out, SUBJECT_SERVICE_SIZE, "svc.%s%s%s", service, instance ? "." : "", instance ? instance : "");
    return out;
}

bool subject_parse(const char *subject, struct subject *out)
{
    struct subject s = {0};
    const char *dot = strchr(subject, '.');
    for (int k = SUBJECT_SERVER; dot && k <= SUBJECT_PLAYER; k++)
        if (strlen(kinds[k]) == (size_t)(dot - subject) && memcmp(kinds[k], subject, (size_t)(dot - subject)) == 0)
            s.kind = (enum subject_kind)k;
    const char *id = dot ? dot + 1 : subject, *end = dot ? strchr(id, '.') : NULL;
    if (!s.kind || !end)
        return false;
    s.all = end - id == 3 && memcmp(id, "all", 3) == 0;
    if (!s.all && !id_set_n(&s.id, id, (size_t)(end - id)))
        return false;
    if (!verb_ok(end + 1) || strcmp(end + 1, "*") == 0)
        return false;
    memcpy(s.verb, end + 1, strlen(end + 1));
    *out = s;
    return true;
}

const char *subject_inbox(char out[SUBJECT_SIZE], const char *player)
{
    snprintf(out, SUBJECT_SIZE, "inbox.%.64s", id_valid(player) ? player : "");
    return out;
}

unsigned subject_journal_stream(const char *room)
{
    return (unsigned)(id_hash(room, 0) % JOURNAL_STREAMS);
}

const char *subject_journal(char out[SUBJECT_SIZE], const char *room)
{
    snprintf(out, SUBJECT_SIZE, "journal.%u.%.64s", subject_journal_stream(room), id_valid(room) ? room : "");
    return out;
}

const char *subject_journal_name(char out[JOURNAL_NAME_SIZE], unsigned k)
{
    snprintf(out, JOURNAL_NAME_SIZE, "ROOM_JOURNAL_%u", k);
    return out;
}
