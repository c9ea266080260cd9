/* See backend.h. Invariant: a push bears an id of its own; one that is repeated with the same id would not be done. */
#include "tools/roombench/backend.h"

#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/roombench/stats.h"
#include "wire/subject.h"

enum { ANSWER_MS = 5000, AWAIT_US = 30000000, STEP_MS = 20, TEXT = 512 };

static const char message[] = "012345678901234567890123456789012345678901234567890123456789";

struct backend {
    natsConnection *nc;
    natsSubscription *sub;
    natsInbox *inbox;
    unsigned pushes;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t came;
    int64_t answered_us; /* 0: not yet */
    char answer[TEXT];
};

static void on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    struct backend *b = arg;
    pthread_mutex_lock(&b->lock);
    b->answered_us = stats_now_us();
    snprintf(b->answer, sizeof b->answer, "%.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
    pthread_cond_signal(&b->came);
    pthread_mutex_unlock(&b->lock);
    natsMsg_Destroy(msg);
}

static natsStatus connect_nats(struct backend *b, const char *url)
{
    natsOptions *o = NULL;
    natsStatus s = natsOptions_Create(&o);
    if (s == NATS_OK)
        s = natsOptions_SetURL(o, url);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(o, true);
    if (s == NATS_OK)
        s = natsConnection_Connect(&b->nc, o);
    natsOptions_Destroy(o);
    if (s == NATS_OK)
        s = natsInbox_Create(&b->inbox);
    if (s == NATS_OK)
        s = natsConnection_Subscribe(&b->sub, b->nc, b->inbox, on_answer, b);
    return s == NATS_OK ? natsConnection_Flush(b->nc) : s;
}

struct backend *backend_create(const char *nats_url)
{
    struct backend *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->came, NULL);
    natsStatus s = connect_nats(b, nats_url);
    if (s == NATS_OK)
        return b;
    fprintf(stderr, "roombench: NATS at '%s': %s\n", nats_url, natsStatus_GetText(s));
    backend_destroy(b);
    return NULL;
}

void backend_destroy(struct backend *b)
{
    if (!b)
        return;
    natsSubscription_Destroy(b->sub);
    natsConnection_Destroy(b->nc); /* ends the thread that answers come on */
    natsInbox_Destroy(b->inbox);
    pthread_cond_destroy(&b->came);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

int backend_push(struct backend *b, const char *player)
{
    char subject[SUBJECT_SIZE], body[128];
    int len = snprintf(body, sizeof body, "{\"data\":\"%s\",\"id\":\"%u\"}", message, ++b->pushes);
    pthread_mutex_lock(&b->lock);
    b->answered_us = 0;
    pthread_mutex_unlock(&b->lock);
    natsStatus s = natsConnection_PublishRequest(b->nc, subject_player(subject, player, "push"), b->inbox, body, len);
    if (s != NATS_OK)
        fprintf(stderr, "roombench: '%s': %s\n", subject, natsStatus_GetText(s));
    return s == NATS_OK ? 0 : -1;
}

int64_t backend_answered(struct backend *b, const char *server)
{
    struct timespec until;
    char by[SUBJECT_SIZE];
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_MS / 1000;
    snprintf(by, sizeof by, "\"server\":\"%s\"", server);
    pthread_mutex_lock(&b->lock);
    while (!b->answered_us && rc == 0)
        rc = pthread_cond_timedwait(&b->came, &b->lock, &until);
    int64_t us = b->answered_us;
    bool good = us && strstr(b->answer, "\"delivered\"") && strstr(b->answer, by);
    if (!good)
        fprintf(stderr, "roombench: a push was not delivered by '%s': %s\n", server, us ? b->answer : "no answer");
    pthread_mutex_unlock(&b->lock);
    return good ? us : -1;
}

/* -1: no answer, or without that field. */
static long long ask(struct backend *b, const char *server, const char *field)
{
    static const char body[] = "{\"op\":\"info\"}";
    char subject[SUBJECT_SIZE], word[64];
    natsMsg *reply = NULL;
    long long value = -1;
    snprintf(word, sizeof word, "\"%s\":", field);
    subject_server(subject, server, "ctl");
    if (natsConnection_Request(&reply, b->nc, subject, body, sizeof body - 1, ANSWER_MS) == NATS_OK) {
        const char *at = strstr(natsMsg_GetData(reply), word);
        value = at ? strtoll(at + strlen(word), NULL, 10) : -1;
    }
    natsMsg_Destroy(reply);
    return value;
}

int backend_await(struct backend *b, const char *server, const char *field, unsigned value)
{
    int64_t end = stats_now_us() + AWAIT_US;
    long long now;
    while ((now = ask(b, server, field)) != (long long)value) {
        if (stats_now_us() > end) {
            fprintf(stderr, "roombench: '%s' of node '%s' is %lld after 30 s, not %u\n", field, server, now, value);
            return -1;
        }
        nats_Sleep(STEP_MS);
    }
    return 0;
}
