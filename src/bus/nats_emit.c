/*
 * Events on their way to the loop: copied into one record each, names without the prefix.
 *
 * Must not know why an event is sent. Invariant: any thread may emit; the loop is woken when its queue was empty.
 */
#include "bus/nats_engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nats_wake_loop(struct bus_nats *b)
{
    if (b->config.wake)
        b->config.wake(b->config.wake_arg);
}

static size_t text_size(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static const char *text_put(char **at, const char *s)
{
    if (!s)
        return NULL;
    char *start = *at;
    size_t n = strlen(s) + 1;
    memcpy(start, s, n);
    *at += n;
    return start;
}

static bool push_event(struct bus_nats *b, const struct bus_event *ev, bool always, int log)
{
    size_t size = sizeof(struct event_item) + text_size(ev->subject) + text_size(ev->reply) + text_size(ev->bucket) +
                  text_size(ev->key) + (ev->data ? ev->len + 1 : 0);
    struct event_item *item = malloc(size);
    if (!item)
        return false;
    char *at = (char *)(item + 1);
    item->item.size = size;
    item->log = log;
    item->ev = *ev;
    item->ev.subject = text_put(&at, ev->subject);
    item->ev.reply = text_put(&at, ev->reply);
    item->ev.bucket = text_put(&at, ev->bucket);
    item->ev.key = text_put(&at, ev->key);
    if (ev->data) {
        item->ev.data = memcpy(at, ev->len ? (const void *)ev->data : "", ev->len);
        at[ev->len] = 0;
    }
    enum queue_pushed pushed = queue_push(&b->events, &item->item, always);
    if (pushed == QUEUE_FULL)
        free(item);
    else if (pushed == QUEUE_PUSHED_FIRST)
        nats_wake_loop(b);
    return pushed != QUEUE_FULL;
}

bool nats_emit(struct bus_nats *b, const struct bus_event *ev, bool always)
{
    return push_event(b, ev, always, -1);
}

void nats_log(struct bus_nats *b, enum bus_log_level level, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    push_event(b, &(struct bus_event){.subject = text}, false, (int)level);
}

const char *nats_strip(const struct bus_nats *b, const char *name)
{
    return strncmp(name, b->config.prefix, b->prefix_len) == 0 ? name + b->prefix_len : name;
}

const char *nats_short_name(const struct bus_nats *b, const char *name, char out[NATS_SUBJECT_SIZE + 1])
{
    if (!name || b->prefix_len == 0 || strncmp(name, "_INBOX.", 7) == 0)
        return name;
    if (strncmp(name, b->config.prefix, b->prefix_len - 1) == 0 && name[b->prefix_len - 1] == '.')
        return name + b->prefix_len;
    snprintf(out, NATS_SUBJECT_SIZE + 1, "\t%s", name);
    return out;
}
