/* TOML in: a file of sections and plain values, each handed over with its line (toml11). */
#ifndef LH_EXT_TOML_H
#define LH_EXT_TOML_H

#include "base/config.h"
#include "base/status.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads the file at `path` and calls `each` in the order of the lines: `key` is "section.key",
 * `value` its text (a string without quotes), `type` one of string, integer and bool. What `each`
 * returns other than LH_OK ends the reading and is returned, with the error that it has filled.
 *
 * A file that cannot be read, broken syntax, a value outside any section, and a table, array, date
 * or float where a plain value belongs give LH_CONFIG with file, line and reason. */
LH_MUST_USE enum lh_status
lh_toml_read(const char *path,
             enum lh_status (*each)(const char *key, struct lh_str value, enum lh_config_type type,
                                    unsigned line, void *arg, struct lh_error *error),
             void *arg, struct lh_error *error);

/* The same from text, whose name in errors is `path`, and with lists: the third value "name" of
 * [[section]] is "section[2].name", the first of an array "section.name[0]". Of values an error
 * says only where they stand. An empty array is refused: it would not be handed over. */
LH_MUST_USE enum lh_status lh_toml_read_lists(
    struct lh_str text, const char *path,
    enum lh_status (*each)(const char *key, struct lh_str value, enum lh_config_type type,
                           unsigned line, void *arg, struct lh_error *error),
    void *arg, struct lh_error *error);

#ifdef __cplusplus
}
#endif

#endif
