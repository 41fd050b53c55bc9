/* The forms that a configuration value may take: sizes, durations, addresses. Any thread. */
#ifndef LH_BASE_CONFIG_VALUE_H
#define LH_BASE_CONFIG_VALUE_H

#include "base/buf.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The readers return NULL, or what is wrong, to stand after the quoted value. */

/* "64", and with `has_unit` also "64KiB", "64MiB", "64GiB", "64TiB". */
const char *lh_config_read_integer(struct lh_str text, bool has_unit, uint64_t *value);

/* "500ms", "30s", "2m", "1h", "1m30s", or a whole number of milliseconds. */
const char *lh_config_read_duration_ms(struct lh_str text, uint64_t *value);

struct lh_config_address {
    struct lh_str host; /* without brackets; "0.0.0.0" when it was left out */
    uint16_t port;      /* 0: any free one */
};

/* "127.0.0.1:3110", "localhost:3110", ":3110", "[::1]:3110". The host points into `text`. */
const char *lh_config_read_bind(struct lh_str text, struct lh_config_address *bind);

/* "http://host", "https://host:port/folder": no user, query or fragment. */
const char *lh_config_read_url(struct lh_str text);

/* The parts of such a URL; they point into it. */
struct lh_config_url {
    bool is_tls;
    struct lh_str authority;          /* "host:port" as it stands there */
    struct lh_config_address address; /* the scheme's port when it was left out */
    struct lh_str path;               /* "" or "/folder" */
};
struct lh_config_url lh_config_split_url(struct lh_str text);

/* The shortest form that reads back as the same value. */
void lh_config_write_bytes(struct lh_buf *out, uint64_t value);
void lh_config_write_duration_ms(struct lh_buf *out, uint64_t value);

#ifdef __cplusplus
}
#endif

#endif
