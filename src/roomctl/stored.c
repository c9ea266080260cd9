/*
 * See stored.h.
 *
 * Weak spot: of a journal only the first message after the snapshot is read, not the whole chain: it is the one that a purge
 * or a lost stream would take away.
 */
#include "roomctl/stored.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "roomctl/findings.h"
#include "roomctl/listing.h"
#include "roomctl/snap.h"
#include "roomctl/stream.h"
#include "wire/mp_read.h"
#include "wire/subject.h"

/* What is known of one room. */
struct kept {
    const char *id;
    json_t *entry; /* in the listing; NULL: not listed */
    bool snapshot, whole, journal;
    bool told; /* what is wrong with its snapshot */
    int64_t position; /* of the snapshot, in this incarnation's journal; 0: none */
};

struct stored {
    struct conn *c;
    json_t *found;
    json_t *named;
    char cluster[ID_SIZE];
    struct kept *kept; /* in the order of their ids' first mention */
    size_t count;
    json_t *index; /* id -> number in `kept` */
    struct kept **walk;
};

static void breach(struct stored *s, const struct kept *k, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void breach(struct stored *s, const struct kept *k, const char *format, ...)
{
    char about[ID_SIZE + 10], text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(about, sizeof about, "room %.64s", k->id);
    findings_add(s->found, FINDING_FAIL, about, "%s", text);
}

static const char *durability(const struct kept *k)
{
    const char *word = json_string_value(json_object_get(k->entry, "durability"));
    return word ? word : "none";
}

static bool journalled(const struct kept *k)
{
    return strcmp(durability(k), "journal") == 0;
}

static struct kept *kept_of(struct stored *s, const char *id)
{
    json_t *at = json_object_get(s->index, id);
    return at ? &s->kept[json_integer_value(at)] : NULL;
}

/* The record of a room that is in one of the three places; NULL: no memory. */
static struct kept *mention(struct stored *s, const char *id, json_t *entry)
{
    struct kept *k = kept_of(s, id);
    if (k)
        return k;
    if (json_object_set_new(s->index, id, json_integer((json_int_t)s->count)) != 0)
        return NULL;
    s->kept[s->count] = (struct kept){.id = id, .entry = entry};
    return &s->kept[s->count++];
}

static int start_snapshot(struct conn *c, uint64_t token, void *arg, size_t i)
{
    const struct stored *s = arg;
    return bus_kv_get(c->bus, token, "snapshots", s->walk[i]->id, c->timeout_ms);
}

static void judge_snapshot(struct stored *s, struct kept *k, const struct wire_snapshot_entry *e)
{
    const char *type = json_string_value(json_object_get(k->entry, "type"));
    json_int_t epoch = json_integer_value(json_object_get(k->entry, "epoch"));
    if (strcmp(e->room.s, k->id) != 0)
        breach(s, k, "snapshot of another room: it says '%s'; roomctl snapshot save %s writes a right one", e->room.s, k->id);
    else if (e->epoch > epoch)
        breach(s, k, "snapshot of a later owner than listed: epoch %lld, the room is listed with %lld; nats kv del "
               "%ssnapshots %s, then roomctl snapshot save %s", (long long)e->epoch, (long long)epoch, s->c->prefix, k->id, k->id);
    else if (type && strcmp(e->type.s, type) != 0)
        breach(s, k, "snapshot of another type: it says '%s', the room is listed as '%s'; roomctl snapshot save %s writes a "
               "right one", e->type.s, type, k->id);
    else
        k->whole = true;
    k->told = !k->whole;
    if (wire_str_is(e->cluster, s->cluster))
        k->position = e->position;
}

static int take_snapshot(void *arg, size_t i, int err, const struct conn_answer *answer, struct err_detail *detail)
{
    struct stored *s = arg;
    struct kept *k = s->walk[i];
    struct snap snap;
    struct err_detail why = {""};
    if (err == ROOM_E_NOT_FOUND)
        return 0; /* a delete marker */
    k->snapshot = true;
    if (!k->entry) {
        if (!json_object_get(s->named, k->id))
            breach(s, k, "orphan snapshot: the room is not listed; roomctl snapshot restore %s brings it back, nats kv del "
                   "%ssnapshots %s removes it", k->id, s->c->prefix, k->id);
        return 0;
    }
    int code = snap_parse(&snap, answer, &why);
    if (code == 0) {
        code = snap_fetch(s->c, &snap, &why);
        if (code == 0)
            judge_snapshot(s, k, &snap.e);
        snap_free(&snap);
    }
    if (code && code != ROOM_E_BAD_FRAME)
        return err_set(detail, code, "%s", why.text);
    k->told = k->told || code;
    if (code)
        breach(s, k, "snapshot is damaged: %s; roomctl snapshot save %s writes a whole one", why.text, k->id);
    return 0;
}

static int start_journal(struct conn *c, uint64_t token, void *arg, size_t i)
{
    const struct stored *s = arg;
    const struct kept *k = s->walk[i];
    char log[JOURNAL_NAME_SIZE], subject[SUBJECT_SIZE];
    subject_journal_name(log, subject_journal_stream(k->id));
    return bus_log_next(c->bus, token, log, subject_journal(subject, k->id), (uint64_t)k->position + 1, c->timeout_ms);
}

/* Each message bears the sequence of the one before it on its subject. False: it is no batch. */
static bool before_of(const struct conn_answer *a, int64_t *before)
{
    struct mp_read r;
    struct mp_token t;
    mp_read_init(&r, (const uint8_t *)a->data, a->len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY || t.count != 2 || mp_next(&r, &t, NULL) || t.type != MP_INT || t.i < 0)
        return false;
    *before = t.i;
    return true;
}

static int take_journal(void *arg, size_t i, int err, const struct conn_answer *answer, struct err_detail *detail)
{
    struct stored *s = arg;
    struct kept *k = s->walk[i];
    int64_t before = 0;
    if (err == ROOM_E_NOT_FOUND)
        return 0; /* the snapshot has all of it, or there is none */
    if (!before_of(answer, &before))
        breach(s, k, "journal is damaged: message %llu is no batch; roomctl snapshot save %s makes it needless",
               (unsigned long long)answer->revision, k->id);
    else if (!k->whole && before == 0)
        k->whole = true; /* all of it, from the first message on */
    else if (k->whole && before != k->position)
        breach(s, k, "journal has a gap after the snapshot: the snapshot goes up to %lld, the next message follows %lld; roomctl "
               "snapshot save %s writes a newer one", (long long)k->position, (long long)before, k->id);
    return 0;
}

static int walk(struct stored *s, bool (*wanted)(const struct kept *k), const struct stream_walk *how, struct err_detail *detail)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        if (wanted(&s->kept[i]))
            s->walk[n++] = &s->kept[i];
    return stream_walk(s->c, how, n, detail);
}

static bool has_snapshot(const struct kept *k)
{
    return k->snapshot;
}

static bool has_journal(const struct kept *k)
{
    return k->journal && k->entry && journalled(k);
}

static void judge(struct stored *s, const struct kept *k)
{
    const char *p = s->c->prefix;
    unsigned n = subject_journal_stream(k->id);
    if (!k->entry && k->journal && !json_object_get(s->named, k->id))
        breach(s, k, "orphan journal: the room is not listed; nats stream purge %sROOM_JOURNAL_%u --subject %.*s%sjournal.%u.%s "
               "removes it", p, n, p[0] ? (int)strlen(p) - 1 : 0, p, p[0] ? "." : "", n, k->id);
    if (k->entry && strcmp(durability(k), "none") != 0 && !k->whole && !k->told)
        breach(s, k, "cannot be restored: its durability is %s, but there is no whole snapshot%s; roomctl snapshot save %s",
               durability(k), journalled(k) ? " and no journal from its beginning" : "", k->id);
}

struct places {
    json_t *snapshots, *journals[JOURNAL_STREAMS];
};

static int read_places(struct stored *s, struct places *p, struct err_detail *detail)
{
    int err = stream_subjects(s->c, "snapshots", NULL, "*", &p->snapshots, detail);
    for (unsigned n = 0; err == 0 && n < JOURNAL_STREAMS; n++) {
        char log[JOURNAL_NAME_SIZE], pattern[40];
        subject_journal_name(log, n);
        snprintf(pattern, sizeof pattern, "journal.%u.*", n);
        err = stream_subjects(s->c, NULL, log, pattern, &p->journals[n], detail);
    }
    return err;
}

static size_t places_size(const struct places *p)
{
    size_t n = json_object_size(p->snapshots);
    for (unsigned i = 0; i < JOURNAL_STREAMS; i++)
        n += json_object_size(p->journals[i]);
    return n;
}

/* False: no memory. */
static bool gather(struct stored *s, const struct places *p, json_t *rooms, struct stored_counts *counts)
{
    const char *key;
    json_t *entry;
    size_t front = strlen("journal.0.");
    struct kept *k = NULL;
    s->kept = calloc(json_object_size(rooms) + places_size(p) + 1, sizeof *s->kept);
    s->walk = calloc(json_object_size(rooms) + places_size(p) + 1, sizeof *s->walk);
    s->index = json_object();
    if (!s->kept || !s->walk || !s->index)
        return false;
    json_object_foreach(rooms, key, entry)
        if (!mention(s, key, entry))
            return false;
    json_object_foreach(p->snapshots, key, entry)
    {
        if (id_valid(key) && !(k = mention(s, key, NULL)))
            return false;
        if (id_valid(key))
            k->snapshot = true; /* or a delete marker: seen when it is read */
    }
    for (unsigned n = 0; n < JOURNAL_STREAMS; n++)
        json_object_foreach(p->journals[n], key, entry)
        {
            const char *id = strlen(key) > front ? key + front : "";
            if (!id_valid(id))
                continue;
            if (!(k = mention(s, id, NULL)))
                return false;
            k->journal = true;
            counts->journals++;
        }
    return true;
}

int stored_check(struct conn *c, json_t *rooms, json_t *named, json_t *found, struct stored_counts *counts,
                 struct err_detail *detail)
{
    struct stored s = {.c = c, .found = found, .named = named};
    struct places p = {0};
    *counts = (struct stored_counts){0};
    int err = listing_cluster(c, s.cluster, detail);
    if (err == 0)
        err = read_places(&s, &p, detail);
    if (err == 0 && !gather(&s, &p, rooms, counts))
        err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    struct stream_walk snapshots = {start_snapshot, take_snapshot, &s}, journals = {start_journal, take_journal, &s};
    if (err == 0)
        err = walk(&s, has_snapshot, &snapshots, detail);
    if (err == 0)
        err = walk(&s, has_journal, &journals, detail);
    for (size_t i = 0; err == 0 && i < s.count; i++) {
        counts->snapshots += s.kept[i].whole && s.kept[i].snapshot;
        judge(&s, &s.kept[i]);
    }
    free(s.kept);
    free(s.walk);
    json_decref(s.index);
    json_decref(p.snapshots);
    for (unsigned n = 0; n < JOURNAL_STREAMS; n++)
        json_decref(p.journals[n]);
    return err;
}
