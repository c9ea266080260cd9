/* See address.h. */
#include "roomd/address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

int address_split(const char *option, const char *text, char *host, size_t host_size, int *port,
                  struct err_detail *detail)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long value = colon ? strtol(colon + 1, &end, 10) : -1;
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (!colon || end == colon + 1 || *end || value < 0 || value > 65535 || len == 0 || len >= host_size)
        return err_set(detail, ROOM_E_INVALID, "--%s is '%s', wanted HOST:PORT like 0.0.0.0:7400", option, text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    memcpy(host, text, len);
    host[len] = 0;
    *port = (int)value;
    return 0;
}

bool address_from_elsewhere(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 != 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && !IN6_IS_ADDR_LOOPBACK(&v6);
}
