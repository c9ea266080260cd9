/*
 * `snapshot ls`, `save` and `export`: what all nodes can restore from.
 *
 * Must not write the bucket: saving is the owner's work. Invariant: an exported file was whole when it got its name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/listing.h"
#include "roomctl/owner.h"
#include "roomctl/snapfile.h"
#include "roomctl/stream.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"ROOM", "room", 0}, {"TYPE", "type", 2}, {"SERVER", "server", 3}, {"EPOCH", "epoch", 4}, {"VERSION", "version", 5},
    {"POSITION", "position", 6}, {"SAVED", "saved", 1}, {"BYTES", "bytes", 2}, {"CHUNKS", "chunks", 7},
};

struct listed {
    const char **rooms; /* borrowed from an object's keys */
    json_t *rows;
};

static int start_row(struct conn *c, uint64_t token, void *arg, size_t i)
{
    const struct listed *l = arg;
    return bus_kv_get(c->bus, token, "snapshots", l->rooms[i], c->timeout_ms);
}

static int take_row(void *arg, size_t i, int err, const struct conn_answer *answer, struct err_detail *detail)
{
    const struct listed *l = arg;
    json_t *entry = err ? NULL : json_loadb(answer->data, answer->len, JSON_REJECT_DUPLICATES, NULL);
    if (err == ROOM_E_NOT_FOUND)
        return 0; /* a delete marker */
    if (!json_is_object(entry))
        ctl_say("snapshot '%s' is not a JSON object: left out; see roomctl check", l->rooms[i]);
    else
        json_array_append(l->rows, entry);
    json_object_del(entry, "data");
    json_decref(entry);
    return l->rows ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
}

static int load(struct conn *conn, const char *only, json_t **rows, struct err_detail *detail)
{
    json_t *keys = NULL, *unused, *info = NULL;
    const char *key;
    size_t count = 0;
    int err = conn_bucket_info(conn, "snapshots", &info, detail);
    json_decref(info);
    if (err == 0)
        err = stream_subjects(conn, "snapshots", NULL, only ? only : "*", &keys, detail);
    if (err)
        return err;
    struct listed l = {.rooms = calloc(json_object_size(keys) + 1, sizeof *l.rooms), .rows = json_array()};
    json_object_foreach(keys, key, unused)
        if (l.rooms && id_valid(key))
            l.rooms[count++] = key;
    err = l.rooms && l.rows ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    struct stream_walk walk = {start_row, take_row, &l};
    if (err == 0)
        err = stream_walk(conn, &walk, count, detail);
    free(l.rooms);
    json_decref(keys);
    if (err)
        json_decref(l.rows);
    else
        *rows = l.rows;
    return err;
}

enum ctl_exit ctl_snapshot_ls(struct conn *conn, const struct options *o)
{
    json_t *rows = NULL;
    struct err_detail detail = {""};
    if (o->room && !ctl_id_ok("room", o->room))
        return CTL_USAGE;
    int err = load(conn, o->room, &rows, &detail);
    if (err == 0 && o->room && json_array_size(rows) == 0) {
        err = err_set(&detail, ROOM_E_NOT_FOUND, "no snapshot of room '%s': see roomctl snapshot ls", o->room);
        json_decref(rows);
    }
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    rows = view_sorted(rows, "room");
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], rows, "no snapshots");
    json_decref(rows);
    return code;
}

enum ctl_exit ctl_snapshot_save(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *result = NULL;
    struct err_detail detail = {""};
    const char *room = o->args[0];
    if (!ctl_id_ok("room", room))
        return CTL_USAGE;
    int err = owner_ask_long(conn, room, json_pack("{s:s,s:s}", "op", "save", "room", room), &entry, &result, &detail);
    if (err) {
        ctl_say("%s%s", detail.text,
                !conn->refused ? ""
                : err == ROOM_E_UNSUPPORTED ? "; nobody keeps this room: its durability is none"
                : err == ROOM_E_ALREADY     ? "; it is being saved already"
                                            : "");
        return ctl_exit_asked(conn, err);
    }
    if (o->json)
        table_json(stdout, result);
    else
        printf("room '%s' is saved, in bucket '%ssnapshots'\n", room, conn->prefix);
    json_decref(entry);
    json_decref(result);
    return CTL_DONE;
}

/* {"exported", "snapshot", "room"} as text; freed by the caller. */
static char *header_of(struct conn *conn, struct snap *s, struct err_detail *detail)
{
    struct listing l = {0};
    struct buf json;
    struct wire_room_entry e;
    char now[TIME_RFC3339_SIZE];
    buf_init(&json, &alloc_libc, SNAPFILE_HEADER_MAX);
    int err = listing_read(conn, s->e.room.s, &l, detail);
    if (err == 0 && !l.revision)
        err = listing_guess(conn, &s->e, &e, detail);
    else if (err == 0)
        e = l.e;
    if (err == 0 && (err = wire_room_entry_to_json(&e, &json)) != 0)
        err_set(detail, err, "the entry of room '%s' cannot be written: %s", s->e.room.s, room_error_text(err));
    json_t *room = err ? NULL : json_loadb((char *)json.data, json.len, 0, NULL), *snapshot = NULL;
    buf_reset(&json);
    struct wire_snapshot_entry bare = s->e;
    bare.data = (struct wire_raw){0};
    if (err == 0 && wire_snapshot_entry_to_json(&bare, &json) == 0)
        snapshot = json_loadb((char *)json.data, json.len, 0, NULL);
    time_rfc3339(time_wall_now(), now);
    json_t *header = room && snapshot ? json_pack("{s:s,s:o,s:o}", "exported", now, "snapshot", snapshot, "room", room) : NULL;
    char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    if (!text && !detail->text[0])
        err_set(detail, ROOM_E_NO_MEMORY, "the header cannot be made");
    json_decref(header);
    buf_deinit(&json);
    listing_free(&l);
    return text;
}

/* Under another name first: a file of the right name is whole. */
static int write_file(const char *path, const struct buf *data, bool over, struct err_detail *detail)
{
    char part[1024];
    snprintf(part, sizeof part, "%.1000s.%ld", path, (long)getpid());
    if (!over && access(path, F_OK) == 0)
        return err_set(detail, ROOM_E_EXISTS, "'%.200s' exists: give another name, or --force", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t done = 0;
    while (fd >= 0 && done < data->len) {
        ssize_t n = write(fd, data->data + done, data->len - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    bool ok = fd >= 0 && done == data->len && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        ok = false;
    ok = ok && (over ? rename(part, path) : link(part, path)) == 0;
    int why = errno;
    if (fd >= 0 && !(ok && over))
        (void)unlink(part);
    return ok ? 0 : err_set(detail, ROOM_E_IO, "cannot write '%.200s': %s", path, strerror(why));
}

static int export(struct conn *conn, const struct options *o, struct snap *s, struct err_detail *detail)
{
    struct buf file;
    char *header = header_of(conn, s, detail);
    if (!header)
        return ROOM_E_IO;
    buf_init(&file, &alloc_libc, SNAPFILE_MAX);
    int err = snapfile_write(&file, header, strlen(header), s->bytes, (size_t)s->e.bytes);
    if (err)
        err_set(detail, err, "snapshot of room '%s': %s", s->e.room.s, room_error_text(err));
    else
        err = write_file(o->args[1], &file, o->force, detail);
    buf_deinit(&file);
    free(header);
    return err;
}

static void say_exported(const struct options *o, const struct wire_snapshot_entry *e)
{
    if (!o->json) {
        printf("room '%s' as of %.*s is in '%s' (%lld bytes of state)\n", e->room.s, (int)e->saved.len, e->saved.data, o->args[1],
               (long long)e->bytes);
        return;
    }
    json_t *shown = json_pack("{s:s,s:s,s:I}", "room", e->room.s, "file", o->args[1], "bytes", (json_int_t)e->bytes);
    table_json(stdout, shown);
    json_decref(shown);
}

enum ctl_exit ctl_snapshot_export(struct conn *conn, const struct options *o)
{
    struct snap s = {0};
    struct err_detail detail = {""};
    json_t *info = NULL;
    const char *room = o->args[0];
    if (!ctl_id_ok("room", room))
        return CTL_USAGE;
    int err = conn_bucket_info(conn, "snapshots", &info, &detail);
    json_decref(info);
    if (err == 0)
        err = snap_read(conn, room, &s, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    err = export(conn, o, &s, &detail);
    if (err)
        ctl_say("%s", detail.text);
    else
        say_exported(o, &s.e);
    snap_free(&s);
    return err ? CTL_FAILED : CTL_DONE;
}
