/* The configuration: one table of keys, each with its type, default, range and comment.
 *
 * Values come from a TOML file, then LAKEHOUSE_SECTION_KEY variables, then --set section.key=value;
 * each is checked where it is set, and an error names the key and where it came from. */
#ifndef LH_BASE_CONFIG_H
#define LH_BASE_CONFIG_H

#include "base/buf.h"
#include "base/config_value.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum lh_config_type {
    LH_CONFIG_STRING,
    LH_CONFIG_INTEGER,  /* also "64MiB", "1GiB", "512KiB" where the unit is bytes */
    LH_CONFIG_DURATION, /* milliseconds; "30s", "500ms", "2m", or an integer of milliseconds */
    LH_CONFIG_BOOL,
    LH_CONFIG_TEXT, /* only as `given`: a variable or --set, read as the key's own type */
};

struct lh_config;

LH_MUST_USE enum lh_status lh_config_create(struct lh_config **config);
void lh_config_destroy(struct lh_config *config);

/* Sets "section.key" from its text. `given` is the type that the text has in the file: a string for
 * an integer is a mistake there. `origin` is where it came from ("lakehouse.toml:12",
 * "LAKEHOUSE_VECTORD_SHARDS", "--set"); an unknown key, a wrong type or a value out of range gives
 * LH_CONFIG with the origin, the key and the reason, and leaves the key as it was. */
LH_MUST_USE enum lh_status lh_config_set(struct lh_config *config, const char *key,
                                         struct lh_str value, enum lh_config_type given,
                                         const char *origin, struct lh_error *error);

/* Applies every LAKEHOUSE_... variable of `environment` (as environ); an unknown one is an error.
 */
LH_MUST_USE enum lh_status lh_config_set_environment(struct lh_config *config, char **environment,
                                                     struct lh_error *error);

/* Sets from the argument of --set: "section.key=value". */
LH_MUST_USE enum lh_status lh_config_set_argument(struct lh_config *config, struct lh_str argument,
                                                  struct lh_error *error);

/* Checks what spans keys: two services on one bind, a body that exceeds all bodies. */
LH_MUST_USE enum lh_status lh_config_check(const struct lh_config *config, struct lh_error *error);

/* Reads; asking for a key that the table does not have is a bug and asserts. */
struct lh_str lh_config_string(const struct lh_config *config, const char *key);
uint64_t lh_config_integer(const struct lh_config *config, const char *key);
bool lh_config_bool(const struct lh_config *config, const char *key);
/* A bind of "none" has no host. */
struct lh_config_address lh_config_bind(const struct lh_config *config, const char *key);
/* Where it was set, "lakehouse.toml:12"; NULL: nowhere, it is the default. */
const char *lh_config_origin(const struct lh_config *config, const char *key);
/* Puts where the key was set, and the key, before an error that came of its value. */
void lh_config_blame(const struct lh_config *config, const char *key, struct lh_error *error);
/* The same for an error that begins with its key, as "server.tls_key: ...", if that was set. */
void lh_config_locate(const struct lh_config *config, struct lh_error *error);
bool lh_config_is_set(const struct lh_config *config, const char *key); /* differs from default */

/* The effective configuration as commented TOML, secrets masked. With the defaults, this is the
 * text of conf/lakehouse.toml. */
void lh_config_print(const struct lh_config *config, struct lh_buf *out);

/* Calls `each` for every key that has another value in `after`; `is_live`: a running server can
 * take it over. */
void lh_config_each_difference(const struct lh_config *before, const struct lh_config *after,
                               void (*each)(const char *key, bool is_live, void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
