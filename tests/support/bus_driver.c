/*
 * The miniature loop of bus_driver.h on an eventfd.
 *
 * Must not judge what it records. Invariant: like a node's loop it never waits while events are left.
 */
#include "support/bus_driver.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/time.h"

static void wake(void *arg)
{
    struct driver *d = arg;
    eventfd_write(d->wake_fd, 1);
}

static void keep_log(void *arg, enum bus_log_level level, const char *text)
{
    struct driver *d = arg;
    d->logs++;
    snprintf(d->last_log, sizeof d->last_log, "%s", text);
}

static size_t key_number(const char *key)
{
    size_t len = strlen(key);
    while (len > 0 && key[len - 1] >= '0' && key[len - 1] <= '9')
        len--;
    size_t n = strtoul(key + len, NULL, 10);
    return n < DRIVER_KEYS ? n : 0;
}

static void on_done(struct driver *d, const struct bus_event *ev)
{
    if (ev->token >= DRIVER_TOKENS)
        return;
    struct driver_done *done = &d->done[ev->token];
    done->count++;
    done->result = ev->result;
    done->revision = ev->revision;
    done->len = ev->len;
    done->at_us = time_mono_now().us;
    done->sum = XXH3_64bits(ev->data, ev->data ? ev->len : 0);
    snprintf(done->data, sizeof done->data, "%.*s", (int)ev->len, ev->data ? (const char *)ev->data : "");
}

static void on_event(void *arg, const struct bus_event *ev)
{
    struct driver *d = arg;
    switch (ev->kind) {
    case BUS_EV_UP:
        d->up++;
        break;
    case BUS_EV_DOWN:
        d->down++;
        break;
    case BUS_EV_MESSAGE:
        d->messages++;
        snprintf(d->last_subject, sizeof d->last_subject, "%s", ev->subject);
        snprintf(d->last_reply, sizeof d->last_reply, "%s", ev->reply ? ev->reply : "");
        snprintf(d->last_data, sizeof d->last_data, "%.*s", (int)ev->len, (const char *)ev->data);
        if (d->echo && ev->reply && bus_publish(d->bus, ev->reply, NULL, ev->data, ev->len) != 0)
            d->lost++;
        break;
    case BUS_EV_DONE:
        on_done(d, ev);
        break;
    case BUS_EV_SYNC:
        d->syncs++;
        d->in_sync = 0;
        break;
    case BUS_EV_ENTRY:
        d->entries++;
        d->in_sync++;
        d->revision[key_number(ev->key)] = ev->data ? ev->revision : 0;
        break;
    case BUS_EV_KEPT:
        d->kept++;
        d->wrongly_kept += d->revision[key_number(ev->key)] != ev->revision;
        d->in_sync++;
        break;
    case BUS_EV_SYNCED:
        d->synced++;
        d->synced_entries = d->in_sync;
        break;
    case BUS_EV_LOST:
        d->lost += ev->revision;
        break;
    }
}

int driver_open(struct driver *d, struct bus_nats_config *config, struct err_detail *detail)
{
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    config->wake = wake;
    config->wake_arg = d;
    config->log = keep_log;
    config->log_arg = d;
    return bus_nats_create(config, &d->bus, detail);
}

void driver_wrap(struct driver *d, struct bus *bus)
{
    d->wake_fd = -1;
    d->bus = bus;
}

void driver_close(struct driver *d)
{
    bus_nats_destroy(d->bus);
    d->bus = NULL;
    close(d->wake_fd);
}

void driver_turn(struct driver *d, int wait_ms)
{
    eventfd_t value;
    struct pollfd p = {.fd = d->wake_fd, .events = POLLIN};
    if (d->wake_fd >= 0 && poll(&p, 1, wait_ms) == 1)
        eventfd_read(d->wake_fd, &value);
    while (bus_drain(d->bus, on_event, d, 256) == 256)
        ;
    bus_flush(d->bus);
}

bool driver_wait(struct driver *d, uint64_t token, int timeout_ms)
{
    struct mono deadline = mono_add_ms(time_mono_now(), timeout_ms);
    bus_flush(d->bus);
    while (d->done[token].count == 0 && !mono_reached(time_mono_now(), deadline))
        driver_turn(d, 10);
    return d->done[token].count == 1;
}

bool driver_until(struct driver *d, const size_t *counter, size_t want, int timeout_ms)
{
    struct mono deadline = mono_add_ms(time_mono_now(), timeout_ms);
    bus_flush(d->bus);
    while (*counter < want && !mono_reached(time_mono_now(), deadline))
        driver_turn(d, 10);
    return *counter >= want;
}
