/* The shape of this process, from its configuration. Main thread, at start. */
#include "actors/services.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <unistd.h>

static const struct lh_service_place table[LH_SERVICES] = {
    {LH_HTTP_GATEWAY, "gateway", "gateway.bind", NULL, .listens = false},
    {LH_HTTP_VECTORD, "vectord", "vectord.bind", "gateway.vectord_url", .listens = false},
    {LH_HTTP_STORAGED, "storaged", "storaged.bind", "gateway.storaged_url", .listens = false},
    {LH_HTTP_CATALOGD, "catalogd", "catalogd.bind", "gateway.catalogd_url", .listens = false},
    {LH_HTTP_INGESTD, "ingestd", "ingestd.bind", "gateway.ingestd_url", .listens = false},
    {LH_HTTP_QUERYD, "queryd", "queryd.bind", "gateway.queryd_url", .listens = false},
};

/* ---- is this address ours? ---- */

static bool is_wildcard(struct lh_str host)
{
    return lh_str_eq(host, LH_STR("0.0.0.0")) || lh_str_eq(host, LH_STR("::"));
}

/* "localhost" is bound as 127.0.0.1, and asked for under both of its addresses. */
static bool is_loopback_name(struct lh_str host)
{
    return lh_str_eq_nocase(host, LH_STR("localhost"));
}

static bool is_loopback(struct lh_str host)
{
    return is_loopback_name(host) || lh_str_has_prefix(host, LH_STR("127.")) ||
           lh_str_eq(host, LH_STR("::1"));
}

static bool is_of_interface(const struct ifaddrs *interface, struct lh_str host)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (interface->ifa_addr == NULL)
        return false;
    if (interface->ifa_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)interface->ifa_addr)->sin_addr, text,
                  sizeof text);
    else if (interface->ifa_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)(void *)interface->ifa_addr)->sin6_addr, text,
                  sizeof text);
    return text[0] != '\0' && lh_str_eq_nocase(lh_str_of(text), host);
}

/* An address of this host, or its name. */
static bool is_of_this_host(struct lh_str host)
{
    struct ifaddrs *interfaces = NULL;
    char name[256] = "";
    bool is_ours = is_loopback(host);
    if (!is_ours && gethostname(name, sizeof name - 1) == 0)
        is_ours = lh_str_eq_nocase(lh_str_of(name), host);
    if (is_ours || getifaddrs(&interfaces) != 0)
        return is_ours;
    for (const struct ifaddrs *at = interfaces; at != NULL && !is_ours; at = at->ifa_next)
        is_ours = is_of_interface(at, host);
    freeifaddrs(interfaces);
    return is_ours;
}

static bool is_reached_by(struct lh_config_address bind, struct lh_config_address asked)
{
    if (bind.host.len == 0 || bind.port != asked.port)
        return false;
    if (is_wildcard(bind.host))
        return is_of_this_host(asked.host);
    return lh_str_eq_nocase(bind.host, asked.host) ||
           (is_loopback_name(asked.host) && is_loopback(bind.host)) ||
           (is_loopback_name(bind.host) && lh_str_eq(asked.host, LH_STR("127.0.0.1")));
}

bool lh_services_is_own_url(const struct lh_config *config, const char *bind_key, struct lh_str url)
{
    struct lh_config_url parts = lh_config_split_url(url);
    return parts.path.len == 0 &&
           (is_reached_by(lh_config_bind(config, bind_key), parts.address) ||
            is_reached_by(lh_config_bind(config, "gateway.bind"), parts.address));
}

/* ---- the shape ---- */

static void place(const struct lh_config *config, bool has_gateway, struct lh_service_place *at)
{
    struct lh_str url = lh_config_string(config, at->url_key);
    if (has_gateway && url.len > 0 && !lh_services_is_own_url(config, at->bind_key, url))
        at->url = url;
    at->listens = lh_config_bind(config, at->bind_key).host.len > 0 &&
                  (at->url.len == 0 || lh_config_origin(config, at->bind_key) != NULL);
    at->is_here = at->listens || (has_gateway && at->url.len == 0);
}

enum lh_status lh_services_read(const struct lh_config *config, struct lh_services *services,
                                struct lh_error *error)
{
    bool has_gateway = lh_config_bind(config, "gateway.bind").host.len > 0;
    bool listens = has_gateway;
    for (unsigned i = 0; i < LH_SERVICES; i++) {
        struct lh_service_place *at = &services->places[i];
        *at = table[i];
        if (at->service == LH_HTTP_GATEWAY)
            at->listens = at->is_here = has_gateway;
        else
            place(config, has_gateway, at);
        listens = listens || at->listens;
    }
    if (listens)
        return LH_OK;
    return lh_error_set(error, LH_CONFIG, "every bind is \"none\": nothing would listen");
}

const struct lh_service_place *lh_services_find(const struct lh_services *services,
                                                enum lh_http_service service)
{
    unsigned i = 0;
    while (services->places[i].service != service) {
        i++;
        assert(i < LH_SERVICES);
    }
    return &services->places[i];
}

unsigned lh_services_elsewhere(const struct lh_services *services)
{
    unsigned elsewhere = 0;
    for (unsigned i = 0; i < LH_SERVICES; i++) {
        if (services->places[i].url.len > 0)
            elsewhere |= services->places[i].service;
    }
    return elsewhere;
}
