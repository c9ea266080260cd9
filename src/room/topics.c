/*
 * What a room has subscribed to.
 *
 * Decides: what a topic and a pattern may look like. The patterns are part of the room, as its seats are: in its image, and
 * in the journal of a type with apply(); any other type asks for them again when its journal is read. Must not know who
 * publishes. Invariant: ROOM_TOPICS_MAX patterns at most, each one once.
 */
#include <string.h>

#include "room/room.h"
#include "wire/mp_write.h"

struct topic {
    struct topic *next;
    char pattern[];
};

static bool word_valid(const char *word, size_t len, bool last, bool wildcards)
{
    if (wildcards && len == 1 && (*word == '*' || (*word == '>' && last)))
        return true;
    for (size_t i = 0; i < len; i++)
        if (!((word[i] >= 'a' && word[i] <= 'z') || (word[i] >= 'A' && word[i] <= 'Z') || (word[i] >= '0' && word[i] <= '9') ||
              word[i] == '_' || word[i] == '-'))
            return false;
    return len > 0;
}

bool topics_valid(const char *topic, bool wildcards)
{
    if (!topic || strnlen(topic, ROOM_TOPIC_MAX + 1) > ROOM_TOPIC_MAX)
        return false;
    for (;;) {
        size_t len = strcspn(topic, ".");
        if (!word_valid(topic, len, !topic[len], wildcards))
            return false;
        if (!topic[len])
            return true;
        topic += len + 1;
    }
}

bool host_topic_valid(const char *topic)
{
    return topics_valid(topic, false);
}

uint32_t topics_count(const struct room *r)
{
    uint32_t count = 0;
    for (const struct topic *t = r->topics; t; t = t->next)
        count++;
    return count;
}

const char *host_room_topic(const struct room *r, const char *pattern)
{
    const struct topic *t = r->topics;
    while (t && pattern && t->pattern != pattern)
        t = t->next;
    t = t && pattern ? t->next : t;
    return t ? t->pattern : NULL;
}

static struct topic **find(struct room *r, const char *pattern)
{
    struct topic **at = &r->topics;
    while (*at && strcmp((*at)->pattern, pattern) != 0)
        at = &(*at)->next;
    return at;
}

static void drop(struct room *r, struct topic **at)
{
    struct topic *t = *at;
    *at = t->next;
    room_free(r, t, sizeof(*t) + strlen(t->pattern) + 1);
    r->topics_version++;
}

static int add(struct room *r, const char *pattern)
{
    struct topic **at = find(r, pattern);
    if (*at)
        return 0;
    if (topics_count(r) >= ROOM_TOPICS_MAX)
        return ROOM_E_FULL;
    struct topic *t = room_alloc(r, sizeof(*t) + strlen(pattern) + 1);
    if (!t)
        return ROOM_E_NO_MEMORY;
    strcpy(t->pattern, pattern);
    *at = t;
    r->topics_version++;
    return 0;
}

int room_subscribe(struct room *room, const char *pattern)
{
    bool allowed = room->recording || room->creating;
    return allowed && topics_valid(pattern, true) ? add(room, pattern) : ROOM_E_INVALID;
}

int room_unsubscribe(struct room *room, const char *pattern)
{
    if (!(room->recording || room->creating) || !topics_valid(pattern, true))
        return ROOM_E_INVALID;
    struct topic **at = find(room, pattern);
    if (!*at)
        return ROOM_E_NOT_FOUND;
    drop(room, at);
    return 0;
}

void topics_write(const struct room *r, struct buf *out)
{
    mp_write_array(out, topics_count(r));
    for (const struct topic *t = r->topics; t; t = t->next)
        mp_write_text(out, t->pattern);
}

int topics_read(struct room *r, struct mp_read *in)
{
    struct mp_token t;
    if (mp_next(in, &t, NULL) != 0 || t.type != MP_ARRAY || t.count > ROOM_TOPICS_MAX)
        return ROOM_E_BAD_FRAME;
    topics_clear(r);
    for (uint32_t left = t.count; left; left--) {
        char pattern[ROOM_TOPIC_MAX + 1];
        if (mp_next(in, &t, NULL) != 0 || t.type != MP_STR || t.len > ROOM_TOPIC_MAX)
            return ROOM_E_BAD_FRAME;
        memcpy(pattern, t.data, t.len);
        pattern[t.len] = '\0';
        if (strlen(pattern) != t.len || !topics_valid(pattern, true))
            return ROOM_E_BAD_FRAME;
        int rc = add(r, pattern);
        if (rc)
            return rc;
    }
    return 0;
}

void topics_clear(struct room *r)
{
    while (r->topics)
        drop(r, &r->topics);
}
