/*
 * Ordered, repeated delivery between two nodes on server.<id>.relay, which core NATS alone does not promise.
 *
 * Decides: what goes into one batch (all frames of one turn of the loop), what is sent again (everything unacknowledged,
 * after RESEND_MS: go-back-N), and when a link is given up: the other side is a new boot, or does not acknowledge within
 * GIVE_UP_MS or the window. Giving up is told to the players on both sides, never passed over in silence.
 * Sequence numbers never restart between two boots; `link` in a batch names the first one of the present link.
 * Weak point: go-back-N repeats more than it must after a loss; losses happen only when a NATS connection breaks.
 */
#include "node/state.h"

/* A frame that is bigger is never made: what rooms and players send is refused before (ROOM_DATA_MAX). */
enum { RESEND_MS = 150, GIVE_UP_MS = 10000, PROBE_MS = 2000, BATCH_MAX = 400 * 1024, LINK_FRAME_MAX = 900 * 1024, RESEND_BATCHES = 64,
       STRANGERS_MAX = 256 /* links when one from a server the registry does not list (yet) is refused */ };
_Static_assert(ROOM_DATA_MAX + 1024 < LINK_FRAME_MAX, "a value and the ids around it fit");

static void drop_batches(struct node *n, struct link *l)
{
    for (struct batch *b = l->first, *next; b; b = next) {
        next = b->next;
        alloc_put(n->alloc, b, sizeof(*b) + b->frames_len);
    }
    l->first = NULL;
    l->last = &l->first;
    l->window = 0;
}

static void destroy(struct node *n, struct link *l)
{
    drop_batches(n, l);
    buf_deinit(&l->out);
    alloc_put(n->alloc, l, sizeof(*l));
}

void link_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->links); it.value; map_next(&it))
        destroy(n, it.value);
    map_deinit(&n->links);
}

static struct link *open_link(struct node *n, const char *server, const char *boot)
{
    struct link *l = alloc_get(n->alloc, sizeof(*l));
    if (!l)
        return NULL;
    id_set(&l->server, server);
    id_set(&l->boot, boot);
    l->last = &l->first;
    l->progress = n->now;
    l->next_seq = l->number = 1;
    buf_init(&l->out, n->alloc, BATCH_MAX + LINK_FRAME_MAX + 16);
    if (!map_put(&n->links, server, l)) {
        destroy(n, l);
        return NULL;
    }
    return l;
}

static void publish(struct node *n, struct link *l, uint64_t seq, uint32_t count, const uint8_t *frames, size_t len)
{
    uint8_t head[5] = {0xdd, (uint8_t)(count >> 24), (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count};
    struct wire_link_batch m = {.to_boot = l->boot, .seq = (int64_t)seq,
                                .ack = l->expected ? (int64_t)l->expected - 1 : 0, .link = (int64_t)l->number};
    id_set(&m.boot, core_self(n->core)->boot);
    m.server = core_self(n->core)->id;
    buf_reset(&n->scratch);
    buf_reset(&n->frame_out);
    if (!buf_write(&n->frame_out, head, sizeof(head)) || (len && !buf_write(&n->frame_out, frames, len)))
        return;
    m.frames = (struct wire_raw){n->frame_out.data, (uint32_t)n->frame_out.len};
    char subject[SUBJECT_SIZE];
    subject_server(subject, l->server.s, "relay");
    if (wire_link_batch_pack(&m, &n->scratch))
        return;
    (void)bus_publish(n->bus, subject, NULL, n->scratch.data, n->scratch.len);
    l->ack_due = false;
}

static void cut_batch(struct node *n, struct link *l)
{
    struct batch *b = alloc_get(n->alloc, sizeof(*b) + l->out.len);
    if (!b || l->window + l->out.len > n->config.relay_window_bytes) {
        alloc_put(n->alloc, b, sizeof(*b) + l->out.len);
        l->broken = true;
        buf_reset(&l->out);
        l->out_count = 0;
        return;
    }
    b->seq = l->next_seq++;
    b->count = l->out_count;
    b->frames_len = l->out.len;
    if (l->out.len)
        memcpy(b->frames, l->out.data, l->out.len);
    if (!l->first) {
        l->progress = n->now;
        l->resend_at = mono_add_ms(n->now, RESEND_MS);
    }
    *l->last = b;
    l->last = &b->next;
    l->window += b->frames_len;
    buf_reset(&l->out);
    l->out_count = 0;
    publish(n, l, b->seq, b->count, b->frames, b->frames_len);
}

/* The other side may have nothing to say and nothing to hear: an empty batch, repeated like any other, tells it. */
static void give_up(struct node *n, struct link *l, const char *reason)
{
    const struct view_server *v = view_server(core_view(n->core), l->server.s);
    struct id server = l->server;
    n->stats.link_resets++;
    drop_batches(n, l);
    buf_reset(&l->out);
    l->out_count = 0;
    l->broken = false;
    l->number = l->next_seq;
    if (v && v->info.status != SERVER_DOWN)
        cut_batch(n, l);
    relay_server_gone(n, server.s, reason);
}

void link_send(struct node *n, const char *server, int op, const void *message)
{
    struct link *l = map_get(&n->links, server);
    const struct view_server *v = view_server(core_view(n->core), server);
    if (!l && v && v->info.status != SERVER_DOWN)
        l = open_link(n, server, v->info.boot);
    if (!l)
        return;
    if (l->broken)
        return; /* given up at the end of this turn: a room may be in the middle of its work now */
    size_t before = l->out.len;
    int rc = codec_pack(codec_by_op(op), message, &l->out);
    if (rc || l->out.len - before > LINK_FRAME_MAX) {
        l->out.len = before;
        l->out.failed = false;
        if (n->config.log)
            LOG_ERR("frame does not fit a link", "peer=%s op=%s err=%s", server, wire_op_name(op),
                    room_error_name(rc ? rc : ROOM_E_TOO_BIG));
        return;
    }
    l->out_count++;
    if (l->out.len > BATCH_MAX)
        cut_batch(n, l);
}

void link_flush(struct node *n)
{
    for (struct map_iter it = map_first(&n->links); it.value; map_next(&it)) {
        struct link *l = it.value;
        if (l->out_count)
            cut_batch(n, l);
        if (l->broken)
            give_up(n, l, "relay_overflow");
    }
}

/* A server that left in good order has said so on its links, if that was not lost; an entry may also be missing for a
 * while. An empty batch asks: its acknowledgement says that the server is there. */
static bool unlisted(const struct node *n, const struct link *l)
{
    return !view_server(core_view(n->core), l->server.s);
}

void link_tick(struct node *n)
{
    for (struct map_iter it = map_first(&n->links); it.value; map_next(&it)) {
        struct link *l = it.value;
        if (l->first && mono_reached(n->now, l->resend_at)) {
            int left = RESEND_BATCHES;
            for (struct batch *b = l->first; b && left-- > 0; b = b->next) {
                publish(n, l, b->seq, b->count, b->frames, b->frames_len);
                n->stats.link_resent++;
            }
            l->resend_at = mono_add_ms(n->now, RESEND_MS);
        }
        bool late = l->first && mono_diff_ms(l->progress, n->now) > GIVE_UP_MS;
        if (!l->first && unlisted(n, l) && mono_diff_ms(l->progress, n->now) > PROBE_MS)
            cut_batch(n, l);
        else if (late && unlisted(n, l))
            link_lost(n, it.key);
        else if (late)
            give_up(n, l, "server_unreachable");
        else if (l->ack_due)
            publish(n, l, 0, 0, NULL, 0);
    }
}

void link_lost(struct node *n, const char *server)
{
    struct link *l = map_del(&n->links, server);
    if (!l)
        return;
    struct id id = l->server;
    destroy(n, l);
    relay_server_gone(n, id.s, "server_lost");
}

void link_entry(struct node *n, const struct server_info *info)
{
    const struct view_server *v = view_server(core_view(n->core), info->id.s);
    const struct link *l = map_get(&n->links, info->id.s);
    bool down = info->status == SERVER_DOWN;
    if (strcmp(info->id.s, core_self(n->core)->id.s) == 0)
        return;
    /* Judged by the link's own boot: the view may have forgotten a server that left in good order and is back. */
    int newer = l ? strcmp(info->boot, l->boot.s) : v ? strcmp(info->boot, v->info.boot) : -1;
    if (newer < 0 || (newer == 0 && !down))
        return;
    if (l)
        link_lost(n, info->id.s);
    else
        relay_server_gone(n, info->id.s, "server_lost");
}

static void acknowledged(struct node *n, struct link *l, uint64_t ack)
{
    bool any = false;
    while (l->first && l->first->seq <= ack) {
        struct batch *b = l->first;
        l->first = b->next;
        if (!l->first)
            l->last = &l->first;
        l->window -= b->frames_len;
        alloc_put(n->alloc, b, sizeof(*b) + b->frames_len);
        any = true;
    }
    if (any) {
        l->progress = n->now;
        l->resend_at = mono_add_ms(n->now, RESEND_MS);
    }
}

static void deliver(struct node *n, const char *server, struct wire_raw frames)
{
    struct mp_read r;
    struct mp_token t;
    mp_read_init(&r, frames.data, frames.len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY)
        return;
    for (uint32_t i = 0; i < t.count; i++) {
        struct wire_raw frame;
        if (mp_skip(&r, WIRE_DEPTH_MAX, &frame, NULL))
            return;
        relay_frame(n, server, frame.data, frame.len);
    }
}

/* The link this batch belongs to, or NULL if it is of an older boot than the one known. */
static struct link *incoming(struct node *n, const char *server, const struct wire_link_batch *m)
{
    struct link *l = map_get(&n->links, server);
    if (l && strcmp(l->boot.s, m->boot.s) > 0)
        return NULL;
    if (l && strcmp(l->boot.s, m->boot.s) < 0) {
        link_lost(n, server);
        l = NULL;
    }
    if (!l && (view_server(core_view(n->core), server) || n->links.count < STRANGERS_MAX))
        l = open_link(n, server, m->boot.s);
    if (l && (uint64_t)m->link > l->number_in) {
        if (l->number_in)
            relay_server_gone(n, server, "relay_overflow");
        l->number_in = (uint64_t)m->link;
        l->expected = l->number_in;
    }
    return l && (uint64_t)m->link == l->number_in ? l : NULL;
}

void link_in(struct node *n, const uint8_t *data, size_t len)
{
    struct wire_link_batch m;
    if (wire_link_batch_unpack(&m, data, len, NULL) || strcmp(m.to_boot.s, core_self(n->core)->boot) != 0)
        return;
    struct link *l = incoming(n, m.server.s, &m);
    if (!l)
        return;
    acknowledged(n, l, (uint64_t)m.ack);
    if (m.seq == 0)
        return;
    l->ack_due = true;
    if ((uint64_t)m.seq != l->expected)
        return; /* a repetition, or one before it is missing: the acknowledgement says which is next */
    l->expected++;
    deliver(n, m.server.s, m.frames);
}
