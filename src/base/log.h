/* One JSON line an event, to a file descriptor. Any thread; a line is one write, so lines of
 * different threads never mix:
 *
 *     lh_log_line(log, LH_LOG_INFO, "index created",
 *                 LH_LOG_STR("index", name), LH_LOG_U64("shards", 4));
 */
#ifndef LH_BASE_LOG_H
#define LH_BASE_LOG_H

#include "base/metrics.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum lh_log_level { LH_LOG_DEBUG, LH_LOG_INFO, LH_LOG_WARN, LH_LOG_ERROR };

struct lh_log {
    int fd;
    struct lh_counter level; /* enum lh_log_level; may be changed while others log */
};

struct lh_log_field {
    const char *name;
    bool is_number;
    uint64_t number;
    struct lh_str text;
};

#define LH_LOG_STR(n, s)  ((struct lh_log_field){.name = (n), .text = (s)})
#define LH_LOG_TEXT(n, z) ((struct lh_log_field){.name = (n), .text = lh_str_of(z)})
#define LH_LOG_U64(n, v)  ((struct lh_log_field){.name = (n), .is_number = true, .number = (v)})

/* "debug", "info", "warn", "error". */
bool lh_log_level_parse(struct lh_str text, enum lh_log_level *level);

/* `fields` may be NULL. A line is cut at 4 KiB, still valid JSON. */
void lh_log_event(const struct lh_log *log, enum lh_log_level level, const char *event,
                  const struct lh_log_field *fields, size_t count);

#define lh_log_line(log, level, event, ...)                                     \
    lh_log_event(log, level, event, (const struct lh_log_field[]){__VA_ARGS__}, \
                 sizeof((const struct lh_log_field[]){__VA_ARGS__}) / sizeof(struct lh_log_field))

static inline bool lh_log_enabled(const struct lh_log *log, enum lh_log_level level)
{
    return log != NULL && level >= (enum lh_log_level)lh_counter_get(&log->level);
}

#endif
