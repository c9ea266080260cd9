/*
 * `snapshot import` and `snapshot restore`: rooms that nobody runs are listed for somebody to take.
 *
 * Decides: when that may be done, and in which order. An import first lists the room as parked, so that no node takes it
 * and no other import meets it; then the snapshot is written, what the journal had is given up, and the room becomes pending.
 * Must not touch a room that runs. Invariant: whatever fails, the room is as it was or parked, never half imported and taken.
 *
 * The epoch comes from the registry's last revision, as a new room's does (src/core/owner.c): above every epoch the name ever
 * had, so that no copy on a disk and no late word of a former owner counts for more. Weak spot: an image from a cluster with a
 * longer history bears a higher epoch, and must keep it; a later room of that name may then begin below it.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/listing.h"
#include "roomctl/snapfile.h"
#include "roomctl/stream.h"
#include "roomctl/table.h"
#include "wire/subject.h"

enum { ENDING_MS = 3000, LOOK_MS = 200 };

struct import {
    struct wire_snapshot_entry snapshot; /* as the file has it; points into scratch[0] */
    struct wire_room_entry room;         /* scratch[1] */
    struct buf scratch[2];
    const uint8_t *bytes;
    size_t len;
    struct snap old; /* what is stored now */
    bool has_old;
    uint64_t old_revision; /* also if it is not readable */
    uint64_t journal;      /* last sequence of the room's subject */
};

static void *read_whole(const char *path, size_t *len, struct err_detail *detail)
{
    FILE *f = fopen(path, "rb");
    char *data = f ? malloc(SNAPFILE_MAX + 1) : NULL;
    if (!f)
        err_set(detail, ROOM_E_NOT_FOUND, "cannot open '%.200s': %m", path);
    else if (!data)
        err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    *len = data ? fread(data, 1, SNAPFILE_MAX + 1, f) : 0;
    bool bad = data && (ferror(f) || *len > SNAPFILE_MAX);
    if (bad)
        err_set(detail, ROOM_E_TOO_BIG, "cannot read '%.200s': it is no file, or longer than a snapshot can be", path);
    if (f)
        fclose(f);
    if (bad)
        free(data);
    return bad ? NULL : data;
}

static int read_part(json_t *header, const char *name, struct import *in, struct err_detail *detail)
{
    struct err_detail why = {""};
    char *text = json_dumps(json_object_get(header, name), JSON_COMPACT);
    int err = !text ? ROOM_E_BAD_FRAME
              : strcmp(name, "room") == 0
                  ? wire_room_entry_from_json(&in->room, text, strlen(text), &in->scratch[1], &why)
                  : wire_snapshot_entry_from_json(&in->snapshot, text, strlen(text), &in->scratch[0], &why);
    free(text);
    return err ? err_set(detail, ROOM_E_BAD_FRAME, "its header has no readable '%s': %.200s", name, why.text) : 0;
}

/* The header against the bytes, and against what an image can be. */
static int consistent(const struct import *in, struct err_detail *detail)
{
    char sum[17];
    snap_sum(in->bytes, in->len, sum);
    if ((size_t)in->snapshot.bytes != in->len || !wire_str_is(in->snapshot.checksum, sum))
        return err_set(detail, ROOM_E_BAD_FRAME, "its bytes are not those its header speaks of (%zu of %lld)", in->len,
                       (long long)in->snapshot.bytes);
    if (in->snapshot.codec != SNAP_CODEC || in->len == 0 || in->len > SNAP_MAX)
        return err_set(detail, ROOM_E_UNSUPPORTED, "it holds codec %lld, this roomctl knows codec %d: use the one that wrote it",
                       (long long)in->snapshot.codec, SNAP_CODEC);
    if (strcmp(in->snapshot.type.s, in->room.type.s) != 0)
        return err_set(detail, ROOM_E_BAD_FRAME, "its header speaks of two types, '%s' and '%s'", in->snapshot.type.s, in->room.type.s);
    if (in->room.durability == WIRE_DURABILITY_NONE)
        return err_set(detail, ROOM_E_UNSUPPORTED, "its room keeps nothing (durability none): no node would take it");
    return 0;
}

static int understand(const void *data, size_t len, struct import *in, struct err_detail *detail)
{
    struct snapfile file;
    int err = snapfile_read(data, len, &file, detail);
    json_t *header = err ? NULL : json_loadb(file.header, file.header_len, JSON_REJECT_DUPLICATES, NULL);
    if (err == 0 && !header)
        err = err_set(detail, ROOM_E_BAD_FRAME, "its header is not JSON");
    in->bytes = err ? NULL : file.bytes;
    in->len = err ? 0 : file.len;
    if (err == 0)
        err = read_part(header, "snapshot", in, detail);
    if (err == 0)
        err = read_part(header, "room", in, detail);
    json_decref(header);
    return err ? err : consistent(in, detail);
}

/* What is stored of the room now. */
static int look(struct conn *c, struct import *in, struct err_detail *detail)
{
    char subject[SUBJECT_SIZE], log[JOURNAL_NAME_SIZE];
    struct conn_answer a;
    struct err_detail ignored = {""};
    const char *room = in->snapshot.room.s;
    if (in->has_old)
        snap_free(&in->old);
    in->has_old = false;
    in->old_revision = in->journal = 0;
    int err = stream_value(c, "snapshots", room, &a, detail);
    if (err == 0) {
        in->old_revision = a.revision;
        in->has_old = snap_parse(&in->old, &a, &ignored) == 0;
        conn_answer_free(&a);
    } else if (err != ROOM_E_NOT_FOUND) {
        return err;
    }
    subject_journal_name(log, subject_journal_stream(room));
    err = stream_last(c, log, subject_journal(subject, room), &a, detail);
    if (err == 0) {
        in->journal = a.revision;
        conn_answer_free(&a);
    }
    return err == ROOM_E_NOT_FOUND ? 0 : err;
}

/* A room that has just ended leaves its snapshot and journal to its node to remove; ours must not be removed with them. */
static int look_when_ended(struct conn *c, struct import *in, struct err_detail *detail)
{
    struct mono end = mono_add_ms(time_mono_now(), ENDING_MS);
    int err = look(c, in, detail);
    while (err == 0 && (in->old_revision || in->journal) && !mono_reached(time_mono_now(), end)) {
        poll(NULL, 0, LOOK_MS);
        err = look(c, in, detail);
    }
    return err;
}

static bool newer(const struct wire_snapshot_entry *a, const struct wire_snapshot_entry *b)
{
    if (a->epoch != b->epoch)
        return a->epoch > b->epoch;
    return a->position != b->position ? a->position > b->position : a->version > b->version;
}

static int allowed(const struct options *o, const struct import *in, const struct listing *l, struct err_detail *detail)
{
    const char *room = in->snapshot.room.s;
    if (listing_runs(l))
        return err_set(detail, ROOM_E_EXISTS, "room '%s' is listed and runs on '%s': roomctl close %s first", room, l->e.owner.s,
                       room);
    if (l->revision && !o->force)
        return err_set(detail, ROOM_E_EXISTS, "room '%s' is listed as %s: roomctl snapshot restore %s brings it back as it was, "
                       "--force replaces it by the file", room, l->e.state == WIRE_ROOM_STATE_PARKED ? "parked" : "pending", room);
    if (in->has_old && newer(&in->old.e, &in->snapshot) && !o->force)
        return err_set(detail, ROOM_E_EXISTS, "a newer snapshot of room '%s' is stored: roomctl snapshot restore %s brings that "
                       "back, --force replaces it by the file", room, room);
    return 0;
}

static int store(struct conn *c, struct import *in, int64_t epoch, struct err_detail *detail)
{
    char cluster[ID_SIZE], subject[SUBJECT_SIZE], log[JOURNAL_NAME_SIZE];
    struct wire_snapshot_entry e = in->snapshot;
    int err = look(c, in, detail); /* again: now that nobody may take the room it stays so */
    if (err == 0)
        err = listing_cluster(c, cluster, detail);
    if (err)
        return err;
    int64_t version = in->has_old && in->old.e.version > e.version ? in->old.e.version : e.version;
    e.epoch = epoch;
    e.version = version + 1;
    e.position = (int64_t)in->journal;
    e.cluster = wire_str(cluster);
    err = snap_write(c, &e, in->bytes, in->len, in->old_revision, in->has_old ? &in->old.e : NULL, detail);
    if (err || !in->journal)
        return err;
    subject_journal_name(log, subject_journal_stream(e.room.s));
    return stream_purge(c, log, subject_journal(subject, e.room.s), detail);
}

static int bring_back(struct conn *c, const struct options *o, struct import *in, int64_t *epoch, struct err_detail *detail)
{
    struct listing l;
    const char *room = in->snapshot.room.s;
    json_t *info = NULL;
    int err = conn_bucket_info(c, "snapshots", &info, detail); /* before anything is written: no node would find it */
    json_decref(info);
    if (err == 0)
        err = listing_read(c, room, &l, detail);
    if (err)
        return err;
    err = l.revision ? look(c, in, detail) : look_when_ended(c, in, detail);
    if (err == 0)
        err = allowed(o, in, &l, detail);
    struct wire_room_entry e = in->room;
    e.epoch = in->snapshot.epoch > l.e.epoch ? in->snapshot.epoch : l.e.epoch;
    if (in->has_old && in->old.e.epoch > e.epoch)
        e.epoch = in->old.e.epoch;
    if (err == 0)
        err = listing_above(c, &e.epoch, detail);
    *epoch = ++e.epoch;
    e.players = e.seats = e.seats_version = e.restores = 0;
    e.state = WIRE_ROOM_STATE_PARKED;
    e.create_id.s[0] = 0;
    id_set(&e.boot, LISTING_NO_BOOT);
    if (err == 0)
        err = listing_write(c, room, &e, &l.revision, detail);
    if (err == 0) {
        struct err_detail why = {""};
        err = store(c, in, e.epoch, &why);
        e.state = WIRE_ROOM_STATE_PENDING;
        if (err == 0)
            err = listing_write(c, room, &e, &l.revision, &why);
        if (err)
            err_set(detail, err, "room '%s' is left parked: %.200s; import it again with --force", room, why.text);
    }
    listing_free(&l);
    return err;
}

static void say_pending(const struct options *o, const char *room, int64_t epoch, const char *how)
{
    if (o->json) {
        json_t *shown = json_pack("{s:s,s:s,s:I}", "id", room, "state", "pending", "epoch", (json_int_t)epoch);
        table_json(stdout, shown);
        json_decref(shown);
    } else {
        printf("room '%s' is %s: listed as pending, a node that has room for it takes it\n", room, how);
    }
}

enum ctl_exit ctl_snapshot_import(struct conn *conn, const struct options *o)
{
    struct import in = {0};
    struct err_detail detail = {""}, why = {""};
    size_t len = 0;
    int64_t epoch = 0;
    void *data = read_whole(o->args[0], &len, &detail);
    if (!data) {
        ctl_say("%s", detail.text);
        return CTL_FAILED;
    }
    for (int i = 0; i < 2; i++)
        buf_init(&in.scratch[i], &alloc_libc, SNAPFILE_HEADER_MAX * 4);
    int err = understand(data, len, &in, &why);
    if (err)
        err_set(&detail, err, "'%.80s' is refused: %.200s", o->args[0], why.text);
    else
        err = bring_back(conn, o, &in, &epoch, &detail);
    if (err)
        ctl_say("%s", detail.text);
    else
        say_pending(o, in.snapshot.room.s, epoch, "imported");
    if (in.has_old)
        snap_free(&in.old);
    buf_deinit(&in.scratch[0]);
    buf_deinit(&in.scratch[1]);
    free(data);
    return ctl_exit_of(err);
}

/* A room without an entry, from its snapshot alone. */
static int relist(struct conn *c, const char *room, struct wire_room_entry *e, struct snap *s, struct err_detail *detail)
{
    int err = snap_read(c, room, s, detail);
    if (err == ROOM_E_NOT_FOUND)
        return err_set(detail, err, "room '%s' is not listed, and there is no snapshot of it", room);
    if (err == 0)
        err = listing_guess(c, &s->e, e, detail);
    /* later owners than the snapshot's may have written to its journal */
    return err ? err : listing_above(c, &e->epoch, detail);
}

enum ctl_exit ctl_snapshot_restore(struct conn *conn, const struct options *o)
{
    struct listing l;
    struct snap s = {0};
    struct err_detail detail = {""};
    const char *room = o->args[0];
    if (!ctl_id_ok("room", room))
        return CTL_USAGE;
    int err = listing_read(conn, room, &l, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    struct wire_room_entry e = l.e;
    if (listing_runs(&l))
        err = err_set(&detail, ROOM_E_EXISTS, "room '%s' is neither parked nor pending: it runs on '%s'", room, l.e.owner.s);
    else if (!l.revision)
        err = relist(conn, room, &e, &s, &detail);
    e.state = WIRE_ROOM_STATE_PENDING;
    e.restores = 0;
    id_set(&e.boot, LISTING_NO_BOOT);
    if (err == 0)
        err = listing_write(conn, room, &e, &l.revision, &detail);
    if (err)
        ctl_say("%s", detail.text);
    else
        say_pending(o, room, e.epoch, "to be restored");
    if (s.bytes)
        snap_free(&s);
    listing_free(&l);
    return ctl_exit_of(err);
}
