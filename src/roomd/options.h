/*
 * The options of roomd: one table gives flags, ROOMD_ environment variables, config keys, --help and --print-config.
 *
 * Decides: what each option is called, its unit, limits and default, and which source wins: flag, then environment, then
 * config file. Unknown keys are refused by name. Knows nothing of what the options are used for.
 */
#ifndef ROOMD_OPTIONS_H
#define ROOMD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { OPTIONS_TEXT = 512, OPTIONS_LIST = 32, OPTIONS_ROUTES = 256 };

struct options {
    char server_id[OPTIONS_TEXT], listen[OPTIONS_TEXT], advertise[OPTIONS_TEXT], nats[OPTIONS_TEXT];
    char creds[OPTIONS_TEXT], tls_ca[OPTIONS_TEXT], tls_cert[OPTIONS_TEXT], tls_key[OPTIONS_TEXT];
    char admin[OPTIONS_TEXT], admin_token_file[OPTIONS_TEXT];
    char token_keys[OPTIONS_TEXT], token_audience[OPTIONS_TEXT];
    char prefix[OPTIONS_TEXT], data_dir[OPTIONS_TEXT], failover[OPTIONS_TEXT], region[OPTIONS_TEXT], strategy[OPTIONS_TEXT], routing[OPTIONS_TEXT];
    char login_policy[OPTIONS_TEXT];
    char log_level[OPTIONS_TEXT], log_format[OPTIONS_TEXT], replicas[OPTIONS_TEXT];
    char room_types[OPTIONS_LIST][OPTIONS_TEXT], types[OPTIONS_LIST][OPTIONS_TEXT];
    char queues[OPTIONS_LIST][OPTIONS_TEXT];
    char routes[OPTIONS_ROUTES][OPTIONS_TEXT], service_hook[OPTIONS_TEXT];
    size_t room_type_count, type_count, route_count, queue_count;
    bool standalone, prefer_local, insecure_no_login;
    int64_t capacity, max_connections, max_per_address, max_frame, send_queue, room_memory, session_rooms, rate_requests;
    int64_t inbox_messages, inbox_bytes, inbox_ttl_ms;
    int64_t snapshot_ms, snapshot_ttl_ms, grace_ms, drain_ms, token_leeway_ms;
    int64_t heartbeat_ms, server_ttl_ms, room_ttl_ms, seat_ttl_ms, hello_timeout_ms, idle_timeout_ms;
};

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_PRINT };

/* Fills `out` from defaults, the config file, the environment and the flags. INVALID, NOT_FOUND or TOO_BIG with the text
 * that says which option and what to do. */
MUST_USE int options_read(struct options *out, int argc, char **argv, enum options_action *action,
                          struct err_detail *detail);
void options_help(void);
void options_print(const struct options *o);

#endif
