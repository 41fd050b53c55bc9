/* The secrets file: who may come in, and what the server shows to others.
 *
 *     [[token]]                        # one a caller
 *     name = "ingest"                  # for logs and metrics
 *     token = "..."                    # or sha256 = "64 hex digits", of the token
 *     scopes = ["read", "write"]       # and "admin", which is all three
 *     indexes = ["words", "a*"]        # optional; see lh_token_allows_index
 *     prefixes = ["images/"]           # optional; of object keys
 *     requests_per_second = 100        # optional: instead of the server's; 0: no limit
 *     bytes_per_second = "1MiB"
 *
 *     [s3]                             # of the store behind storaged
 *     access_key_id = "..."
 *     secret_access_key = "..."
 *     session_token = "..."
 *
 *     [peer]                           # what calls to other servers carry
 *     token = "..."
 *
 * What has been read never changes: a reload makes a new one. No error, log line or printed
 * configuration has any of it but the names of tokens. */
#ifndef LH_ACTORS_SECRETS_H
#define LH_ACTORS_SECRETS_H

#include "base/buf.h"
#include "base/config.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum lh_scope { LH_SCOPE_READ = 1, LH_SCOPE_WRITE = 2, LH_SCOPE_ADMIN = 4 };

#define LH_TOKEN_HASH_BYTES 32u
#define LH_LIMIT_UNSET      UINT64_MAX /* of a token: the server's own limit holds */

struct lh_token {
    char name[LH_TOKEN_NAME_BYTES_MAX + 1];
    uint8_t hash[LH_TOKEN_HASH_BYTES]; /* SHA-256; the token itself is not kept */
    bool has_hash;
    unsigned scopes; /* enum lh_scope; with ADMIN all of them */
    char **indexes;  /* names, or beginnings of names with a * behind them */
    uint32_t index_count;
    char **prefixes;
    uint32_t prefix_count;
    uint64_t requests_per_second;
    uint64_t bytes_per_second;
};

struct lh_secrets {
    struct lh_token *tokens;
    uint32_t token_count;
    char *s3_access_key_id; /* these are NULL when they are not given */
    char *s3_secret_access_key;
    char *s3_session_token;
    char *peer_token;
};

/* Reads the file at `path`. Whatever is wrong with it, and a mode that lets anyone but its owner
 * read or write it, gives LH_CONFIG with the path, the line and the reason. */
LH_MUST_USE enum lh_status lh_secrets_read(const char *path, struct lh_secrets **secrets,
                                           struct lh_error *error);
/* The same with the file that the configuration names; *secrets is NULL when it names none. */
LH_MUST_USE enum lh_status lh_secrets_read_configured(const struct lh_config *config,
                                                      struct lh_secrets **secrets,
                                                      struct lh_error *error);
void lh_secrets_destroy(struct lh_secrets *secrets);

/* The token whose text this is, or NULL. Takes the same time whichever it is, and if it is none. */
const struct lh_token *lh_secrets_find(const struct lh_secrets *secrets, struct lh_str token);

/* A token with `indexes` or `prefixes` reaches only what they name; one with neither, everything.
 */
bool lh_token_is_limited(const struct lh_token *token);
bool lh_token_allows_index(const struct lh_token *token, struct lh_str name);
/* Whether every key that begins with `prefix` is allowed; a whole key is its own prefix. */
bool lh_token_allows_prefix(const struct lh_token *token, struct lh_str prefix);

/* What a token is limited to, for a thread that meets names when the token may be gone. Zero: all.
 */
struct lh_reach {
    bool is_limited;
    struct lh_buf indexes;  /* as a token has them, each with a newline behind it */
    struct lh_buf prefixes; /* of keys */
};

/* `token` NULL: all. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_reach_init(struct lh_reach *reach, const struct lh_token *token);
void lh_reach_deinit(struct lh_reach *reach);
bool lh_reach_allows_index(const struct lh_reach *reach, struct lh_str name);
/* As lh_token_allows_prefix. */
bool lh_reach_allows_prefix(const struct lh_reach *reach, struct lh_str prefix);

#endif
