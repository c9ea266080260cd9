/*
 * Saying what the bots saw. See bots_state.h.
 *
 * Decides: how the figures look to a person and as JSON, and which of them is a failure. Must not change a figure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/roombench/bots_state.h"

#define LLU(x) ((unsigned long long)(x))

struct adds {
    uint64_t acknowledged, found, in_doubt;
};

static struct adds adds_of(const struct bots *b)
{
    struct adds a = {0};
    for (unsigned i = 0; i < b->account_count; i++) {
        a.acknowledged += b->accounts[i].acknowledged;
        a.in_doubt += b->accounts[i].in_doubt;
        a.found += b->accounts[i].found > 0 ? (uint64_t)b->accounts[i].found : 0;
    }
    return a;
}

static void print_json(const struct bots *b, bool ok)
{
    struct adds a = adds_of(b);
    printf("{\"ok\":%s,\"bots\":%u,\"seconds\":%u,\"rooms\":%u,\"rooms_shared\":%u,\"servers\":{", ok ? "true" : "false",
           b->o.bots, b->o.seconds, b->rooms, b->shared);
    for (unsigned i = 0; i < b->seen_servers; i++)
        printf("%s\"%s\":%u", i ? "," : "", b->servers[i], b->homes[i]);
    printf("},\"joins\":{\"local\":%llu,\"redirect\":%llu,\"relay\":%llu},", LLU(b->join_local), LLU(b->join_redirect),
           LLU(b->join_relay));
    printf("\"sent\":%llu,\"acknowledged\":%llu,\"received\":%llu,\"refused\":%llu,\"errors\":%llu,", LLU(b->sent),
           LLU(b->acked), LLU(b->received), LLU(b->refused), LLU(b->errors));
    printf("\"lost\":%llu,\"out_of_order\":%llu,\"duplicated\":%llu,", LLU(b->lost), LLU(b->out_of_order),
           LLU(b->duplicated));
    printf("\"lost_homes\":%llu,\"sessions_resumed\":%llu,\"lost_seats\":%llu,\"unacknowledged_at_loss\":%llu,",
           LLU(b->lost_homes), LLU(b->resumed), LLU(b->lost_seats), LLU(b->sent_at_loss));
    printf("\"adds_acknowledged\":%llu,\"adds_found\":%llu,\"adds_in_doubt\":%llu,", LLU(a.acknowledged), LLU(a.found),
           LLU(a.in_doubt));
    printf("\"rooms_recovered\":%u,\"recovery_ms\":{\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f},", b->recovered,
           stats_at(&b->recovery, 0.5) / 1000, stats_at(&b->recovery, 0.99) / 1000, (double)b->recovery_max_us / 1000);
    printf("\"latency_us\":{\"p50\":%.0f,\"p99\":%.0f},\"ack_us\":{\"p50\":%.0f,\"p99\":%.0f}}\n", stats_at(&b->latency, 0.5),
           stats_at(&b->latency, 0.99), stats_at(&b->ack, 0.5), stats_at(&b->ack, 0.99));
}

static void print_text(const struct bots *b, bool ok)
{
    struct adds a = adds_of(b);
    printf("bots per server   ");
    for (unsigned i = 0; i < b->seen_servers; i++)
        printf(" %s=%u", b->servers[i], b->homes[i]);
    printf("\nrooms              %u, shared across servers %u\n", b->rooms, b->shared);
    printf("joins              local %llu, redirect %llu, relay %llu\n", LLU(b->join_local), LLU(b->join_redirect),
           LLU(b->join_relay));
    printf("messages           sent %llu, acknowledged %llu, received %llu, refused %llu, other errors %llu\n", LLU(b->sent),
           LLU(b->acked), LLU(b->received), LLU(b->refused), LLU(b->errors));
    if (b->last_error[0])
        printf("last error         %s\n", b->last_error);
    printf("connections lost   %llu; sessions taken up again %llu, redirects too; seats lost %llu, sends in doubt then %llu\n",
           LLU(b->lost_homes), LLU(b->resumed), LLU(b->lost_seats), LLU(b->sent_at_loss));
    printf("message            p50 %.0f us, p99 %.0f us\n", stats_at(&b->latency, 0.5), stats_at(&b->latency, 0.99));
    printf("acknowledgement    p50 %.0f us, p99 %.0f us\n", stats_at(&b->ack, 0.5), stats_at(&b->ack, 0.99));
    printf("counters           adds acknowledged %llu, found %llu, in doubt %llu\n", LLU(a.acknowledged), LLU(a.found),
           LLU(a.in_doubt));
    printf("owners changed     %u, served again after p50 %.0f ms, p99 %.0f ms, at most %.0f ms\n", b->recovered,
           stats_at(&b->recovery, 0.5) / 1000, stats_at(&b->recovery, 0.99) / 1000, (double)b->recovery_max_us / 1000);
    printf("lost %llu, out of order %llu, duplicated %llu: %s\n", LLU(b->lost), LLU(b->out_of_order), LLU(b->duplicated),
           ok ? "ok" : "FAILED");
}

int bots_report(struct bots *b)
{
    const char *why = NULL;
    if (b->lost + b->out_of_order + b->duplicated > 0)
        why = "messages were lost, turned around or repeated";
    else if (b->breach[0])
        why = b->breach;
    else if (b->seen_servers < b->server_count)
        why = "a server had no bots";
    else if (b->received == 0)
        why = "no message was received";
    else if (b->server_count > 1 && b->shared == 0)
        why = "no room was shared across servers";
    if (b->o.json)
        print_json(b, !why);
    else
        print_text(b, !why);
    if (why)
        fprintf(stderr, "roombench: %s\n", why);
    return why ? 1 : 0;
}
