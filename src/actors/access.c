/* Authentication by bearer tokens (RFC 6750), authorization by scopes and limits, rates. Loop
 * thread.
 *
 * What a route needs stands in its row (enum lh_http_scope, enum lh_http_reach). A row that says
 * nothing needs the most. A call carries the ticket of its caller's entry as its data. */
#include "actors/access.h"

#include "actors/catalog.h"

#include "base/clock.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#define SECOND_NS 1000000000ull
#define CHALLENGE "Bearer realm=\"lakehoused\""

/* ---- configuration ---- */

static bool is_loopback_host(struct lh_str host)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr address;
    struct in6_addr address6;
    if (lh_str_eq(host, LH_STR("localhost")))
        return true;
    if (host.len >= sizeof text)
        return false;
    memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (inet_pton(AF_INET, text, &address) == 1)
        return ntohl(address.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, text, &address6) == 1 && IN6_IS_ADDR_LOOPBACK(&address6);
}

/* Without tokens everything is open to whoever can reach it. */
static enum lh_status check_binds(const struct lh_config *config, const struct lh_secrets *secrets,
                                  struct lh_error *error)
{
    static const char *const keys[] = {"gateway.bind",  "vectord.bind", "storaged.bind",
                                       "catalogd.bind", "ingestd.bind", "queryd.bind"};
    if (secrets != NULL && secrets->token_count > 0)
        return LH_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct lh_str host = lh_config_bind(config, keys[i]).host;
        if (host.len == 0 || is_loopback_host(host))
            continue;
        lh_error_set(error, LH_CONFIG,
                     "other hosts reach %.*s, and no token is configured: "
                     "gateway.secrets_path names the file of tokens",
                     (int)(host.len < 40 ? host.len : 40), host.ptr);
        lh_config_blame(config, keys[i], error);
        return LH_CONFIG;
    }
    return LH_OK;
}

enum lh_status lh_access_reload(struct lh_access *access, const struct lh_config *config,
                                struct lh_secrets **replaced, struct lh_error *error)
{
    struct lh_secrets *secrets = NULL;
    struct lh_str open = lh_config_string(config, "gateway.open_status");
    enum lh_status status = lh_secrets_read_configured(config, &secrets, error);
    if (status == LH_OK)
        status = check_binds(config, secrets, error);
    if (status != LH_OK) {
        lh_secrets_destroy(secrets);
        return status;
    }
    *replaced = access->secrets;
    access->secrets = secrets;
    access->open_status = lh_str_eq(open, LH_STR("anyone"))     ? LH_OPEN_TO_ANYONE
                          : lh_str_eq(open, LH_STR("loopback")) ? LH_OPEN_TO_LOOPBACK
                                                                : LH_OPEN_TO_NOBODY;
    access->requests_per_second = lh_config_integer(config, "gateway.requests_per_second");
    access->bytes_per_second = lh_config_integer(config, "gateway.bytes_per_second");
    return LH_OK;
}

enum lh_status lh_access_init(struct lh_access *access, const struct lh_config *config,
                              struct lh_error *error)
{
    struct lh_secrets *none;
    *access = (struct lh_access){0};
    if (lh_callers_init(&access->callers) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to start");
    return lh_access_reload(access, config, &none, error);
}

void lh_access_deinit(struct lh_access *access)
{
    lh_secrets_destroy(access->secrets);
    lh_callers_deinit(&access->callers);
    *access = (struct lh_access){0};
}

/* ---- authentication ---- */

static void refuse(struct lh_http_call *call, struct lh_counter *counter, const char *challenge,
                   const struct lh_error *error)
{
    lh_counter_add(counter, 1);
    if (challenge != NULL)
        lh_http_call_add_header(call, "WWW-Authenticate", challenge);
    lh_http_answer_error(call, error);
}

/* The token of "Authorization: Bearer ..."; empty when there is none of that scheme. */
static struct lh_str bearer(const struct lh_http_call *call)
{
    static const struct lh_str scheme = LH_STR("Bearer ");
    struct lh_str value = lh_http_call_header(call, "authorization");
    if (value.len < scheme.len || !lh_str_eq_nocase((struct lh_str){value.ptr, scheme.len}, scheme))
        return (struct lh_str){"", 0};
    return lh_str_trim((struct lh_str){value.ptr + scheme.len, value.len - scheme.len});
}

static bool asks_for_tokens(const struct lh_access *access)
{
    return access->secrets != NULL && access->secrets->token_count > 0;
}

static const struct lh_token *find_token(const struct lh_access *access,
                                         const struct lh_http_call *call)
{
    struct lh_str text = bearer(call);
    return text.len > 0 ? lh_secrets_find(access->secrets, text) : NULL;
}

/* RFC 6750 section 3.1: no error code for a request that brings no token at all. */
static void refuse_unknown(struct lh_access *access, struct lh_http_call *call)
{
    struct lh_error error;
    bool has_token = bearer(call).len > 0;
    lh_error_set(&error, LH_UNAUTHORIZED, "%s",
                 has_token ? "no such token is known here"
                           : "a token is needed, as in \"Authorization: Bearer TOKEN\"");
    refuse(call, &access->unauthorized,
           has_token ? CHALLENGE ", error=\"invalid_token\"" : CHALLENGE, &error);
}

/* ---- authorization ---- */

static const struct scope {
    unsigned scope; /* enum lh_scope */
    const char *name;
    const char *challenge;
} scopes[] = {
#define NEEDS(bit, name)                                                          \
    {                                                                             \
        bit, name, CHALLENGE ", error=\"insufficient_scope\", scope=\"" name "\"" \
    }
    [LH_HTTP_SCOPE_UNSET] = NEEDS(LH_SCOPE_ADMIN, "admin"),
    [LH_HTTP_SCOPE_ADMIN] = NEEDS(LH_SCOPE_ADMIN, "admin"),
    [LH_HTTP_SCOPE_WRITE] = NEEDS(LH_SCOPE_WRITE, "write"),
    [LH_HTTP_SCOPE_READ] = NEEDS(LH_SCOPE_READ, "read"),
    [LH_HTTP_SCOPE_STATUS] = NEEDS(LH_SCOPE_READ, "read"),
#undef NEEDS
};

static bool check_scope(struct lh_access *access, struct lh_http_call *call,
                        const struct lh_token *token)
{
    const struct scope *needed = &scopes[lh_http_call_route(call)->scope];
    struct lh_error error;
    if ((token->scopes & needed->scope) != 0)
        return true;
    lh_error_set(&error, LH_FORBIDDEN, "token \"%s\" has no scope %s", token->name, needed->name);
    refuse(call, &access->forbidden, needed->challenge, &error);
    return false;
}

/* A dataset is where its objects are. */
static bool allows_dataset(const struct lh_token *token, struct lh_str name)
{
    char folder[sizeof LH_DATASET_FOLDER + LH_NAME_BYTES_MAX + 1];
    int len =
        snprintf(folder, sizeof folder, LH_DATASET_FOLDER "%.*s/",
                 (int)(name.len < LH_NAME_BYTES_MAX ? name.len : LH_NAME_BYTES_MAX), name.ptr);
    return lh_token_allows_prefix(token, (struct lh_str){folder, (size_t)len});
}

/* What of the server the call is for, against what the token is limited to. */
static bool check_reach(struct lh_access *access, struct lh_http_call *call,
                        const struct lh_token *token)
{
    const char *what = "what this route is for";
    struct lh_str name = {"", 0};
    struct lh_error error;
    bool allows = false;
    switch (lh_http_call_route(call)->reach) {
    case LH_HTTP_REACH_ALL:
        break;
    case LH_HTTP_REACH_HANDLER:
        allows = true;
        break;
    case LH_HTTP_REACH_INDEX:
        what = "index";
        name = lh_http_call_param(call, 0);
        allows = lh_token_allows_index(token, name);
        break;
    case LH_HTTP_REACH_KEY:
        what = "key";
        name = lh_http_call_param(call, 0);
        allows = lh_token_allows_prefix(token, name);
        break;
    case LH_HTTP_REACH_DATASET:
        what = "dataset";
        name = lh_http_call_param(call, 0);
        allows = allows_dataset(token, name);
        break;
    case LH_HTTP_REACH_PREFIX:
        what = "prefix";
        lh_http_call_query(call, "prefix", &name);
        allows = lh_token_allows_prefix(token, name);
        break;
    }
    if (allows || !lh_token_is_limited(token))
        return true;
    lh_error_set(&error, LH_FORBIDDEN, "token \"%.64s\" is limited, and not to %s%s%.*s%s",
                 token->name, what, name.len > 0 ? " \"" : "", (int)(name.len < 40 ? name.len : 40),
                 name.ptr, name.len > 0 ? "\"" : "");
    refuse(call, &access->forbidden, NULL, &error);
    return false;
}

static bool is_loopback(struct lh_http_address address)
{
    static const uint8_t mapped[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    struct in6_addr ipv6;
    memcpy(&ipv6, address.bytes, sizeof ipv6);
    return memcmp(address.bytes, mapped, sizeof mapped) == 0 || IN6_IS_ADDR_LOOPBACK(&ipv6);
}

static bool is_open(const struct lh_access *access, const struct lh_http_call *call)
{
    if (lh_http_call_route(call)->scope != LH_HTTP_SCOPE_STATUS)
        return false;
    return access->open_status == LH_OPEN_TO_ANYONE ||
           (access->open_status == LH_OPEN_TO_LOOPBACK && is_loopback(lh_http_call_address(call)));
}

/* ---- rates ---- */

static struct lh_caller *caller_of(struct lh_access *access, const struct lh_http_call *call,
                                   const struct lh_token *token)
{
    return token != NULL ? lh_callers_of_token(&access->callers, token)
                         : lh_callers_of_address(&access->callers, lh_http_call_address(call));
}

static bool check_rate(struct lh_access *access, struct lh_http_call *call,
                       const struct lh_token *token, struct lh_caller *caller)
{
    uint64_t requests = access->requests_per_second;
    uint64_t length = lh_http_call_body_length(call);
    struct lh_error error;
    char seconds[24];
    caller->bytes_per_second = access->bytes_per_second;
    if (token != NULL && token->requests_per_second != LH_LIMIT_UNSET)
        requests = token->requests_per_second;
    if (token != NULL && token->bytes_per_second != LH_LIMIT_UNSET)
        caller->bytes_per_second = token->bytes_per_second;
    if (requests == 0 && caller->bytes_per_second == 0)
        return true;
    uint64_t now_ns = lh_clock_ns();
    uint64_t limit = requests;
    const char *what = "requests";
    uint64_t wait_ns = lh_bucket_take(&caller->requests, requests, 1, false, now_ns);
    if (wait_ns == 0) {
        limit = caller->bytes_per_second;
        what = "bytes of bodies";
        wait_ns = lh_bucket_take(&caller->bytes, limit,
                                 length != LH_HTTP_LENGTH_UNKNOWN ? length : 0, true, now_ns);
    }
    if (wait_ns == 0)
        return true;
    snprintf(seconds, sizeof seconds, "%llu",
             (unsigned long long)((wait_ns + SECOND_NS - 1) / SECOND_NS));
    lh_http_call_add_header(call, "Retry-After", seconds);
    lh_error_set(&error, LH_TOO_MANY_REQUESTS, "%llu %s a second are allowed: try again in %s s",
                 (unsigned long long)limit, what, seconds);
    refuse(call, &access->limited, NULL, &error);
    return false;
}

void lh_access_count_bytes(struct lh_access *access, struct lh_http_call *call, uint64_t bytes)
{
    struct lh_caller *caller = lh_access_caller(access, call);
    lh_bucket_charge(&caller->bytes, caller->bytes_per_second, bytes, lh_clock_ns());
}

/* ---- all of it ---- */

bool lh_access_check(struct lh_access *access, struct lh_http_call *call)
{
    const struct lh_token *token = NULL;
    if (lh_http_call_route(call)->scope == LH_HTTP_SCOPE_OPEN)
        return true;
    bool is_asked = asks_for_tokens(access) && !is_open(access, call);
    if (is_asked)
        token = find_token(access, call);
    struct lh_caller *caller = caller_of(access, call, token);
    if (!check_rate(access, call, token, caller))
        return false;
    if (is_asked && token == NULL)
        refuse_unknown(access, call);
    else if (token == NULL ||
             (check_scope(access, call, token) && check_reach(access, call, token)))
        lh_http_call_set_data(call, (void *)(uintptr_t)lh_caller_ticket(&access->callers, caller));
    return !lh_http_call_is_answered(call);
}

struct lh_caller *lh_access_caller(struct lh_access *access, struct lh_http_call *call)
{
    uint64_t ticket = (uintptr_t)lh_http_call_data(call);
    struct lh_caller *caller = lh_callers_find(&access->callers, ticket);
    if (caller == NULL) /* others have pushed it out since */
        caller = caller_of(access, call, asks_for_tokens(access) ? find_token(access, call) : NULL);
    return caller;
}

bool lh_access_token(struct lh_access *access, struct lh_http_call *call,
                     const struct lh_token **token)
{
    *token = asks_for_tokens(access) ? find_token(access, call) : NULL;
    if (asks_for_tokens(access) && *token == NULL)
        refuse_unknown(access, call);
    return *token != NULL || !asks_for_tokens(access);
}

void lh_access_metrics(const struct lh_access *access, struct lh_buf *out)
{
    static const char name[] = "lakehouse_access_refused_total";
    lh_metrics_family(out, name, "counter", "Requests refused for who sent them, or how many");
    lh_metrics_sample(out, name, "reason=\"unauthorized\"",
                      (double)lh_counter_get(&access->unauthorized));
    lh_metrics_sample(out, name, "reason=\"forbidden\"",
                      (double)lh_counter_get(&access->forbidden));
    lh_metrics_sample(out, name, "reason=\"rate\"", (double)lh_counter_get(&access->limited));
}
