/* The log: one JSON object a line, one write a line. Any thread; no state beyond the caller's
 * struct lh_log, which does not change once threads run.
 *
 * A line is built on the stack, so that logging neither allocates nor locks. Invariant: room for
 * the closing `,"cut":true}` and newline is kept at every step, so that a line that is cut is
 * still valid JSON. */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LH_LOG_LINE_BYTES_MAX 4096u /* PIPE_BUF: a write to a pipe up to this is atomic */
#define LH_LOG_TAIL           "\"cut\":true}\n"
#define LH_LOG_TAIL_BYTES     sizeof(",\"\"" LH_LOG_TAIL) /* a closed string and a comma as well */

struct lh_log_text {
    char bytes[LH_LOG_LINE_BYTES_MAX];
    size_t len;
    bool cut;
};

static const char *const lh_log_level_names[] = {"debug", "info", "warn", "error"};

bool lh_log_level_parse(struct lh_str text, enum lh_log_level *level)
{
    for (unsigned i = 0; i < sizeof lh_log_level_names / sizeof lh_log_level_names[0]; i++) {
        if (lh_str_eq(text, lh_str_of(lh_log_level_names[i]))) {
            *level = (enum lh_log_level)i;
            return true;
        }
    }
    return false;
}

/* All of `bytes` or, when they do not fit, none and the line is cut. */
static bool lh_log_put(struct lh_log_text *text, const char *bytes, size_t len)
{
    if (text->cut || text->len + len > sizeof text->bytes - LH_LOG_TAIL_BYTES) {
        text->cut = true;
        return false;
    }
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    return true;
}

static void lh_log_put_string(struct lh_log_text *text, struct lh_str s)
{
    if (!lh_log_put(text, "\"", 1))
        return;
    while (s.len > 0) {
        char out[LH_JSON_ESCAPE_MAX];
        size_t in_len, out_len;
        lh_json_escape(s, out, &in_len, &out_len);
        if (!lh_log_put(text, out, out_len))
            break;
        s.ptr += in_len;
        s.len -= in_len;
    }
    text->bytes[text->len++] = '"'; /* within the tail's room, also when cut */
}

/* `,"name":value`, or nothing at all when not even the name and an empty value fit. */
static void lh_log_put_field(struct lh_log_text *text, const struct lh_log_field *field)
{
    char number[24];
    size_t start = text->len;
    int len = snprintf(number, sizeof number, "%llu", (unsigned long long)field->number);
    assert(len > 0 && (size_t)len < sizeof number);
    lh_log_put(text, ",\"", 2);
    lh_log_put(text, field->name, strlen(field->name));
    lh_log_put(text, "\":", 2);
    if (field->is_number)
        lh_log_put(text, number, (size_t)len);
    if (text->cut) {
        text->len = start;
        return;
    }
    if (!field->is_number) {
        size_t value = text->len;
        lh_log_put_string(text, field->text);
        if (text->len == value)
            text->len = start;
    }
}

static void lh_log_put_head(struct lh_log_text *text, enum lh_log_level level, const char *event)
{
    char head[96];
    struct tm utc;
    uint64_t now_ms = lh_clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    size_t len;
    gmtime_r(&seconds, &utc);
    len = strftime(head, sizeof head, "{\"ts\":\"%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(head + len, sizeof head - len,
                            ".%03uZ\",\"level\":\"%s\",\"event\":", (unsigned)(now_ms % 1000),
                            lh_log_level_names[level]);
    lh_log_put(text, head, len);
    lh_log_put_string(text, lh_str_of(event));
}

void lh_log_event(const struct lh_log *log, enum lh_log_level level, const char *event,
                  const struct lh_log_field *fields, size_t count)
{
    struct lh_log_text text;
    ssize_t written;
    if (!lh_log_enabled(log, level))
        return;
    text.len = 0;
    text.cut = false;
    lh_log_put_head(&text, level, event);
    for (size_t i = 0; i < count && !text.cut; i++)
        lh_log_put_field(&text, &fields[i]);
    if (text.cut)
        text.bytes[text.len++] = ',';
    memcpy(text.bytes + text.len, text.cut ? LH_LOG_TAIL : "}\n",
           text.cut ? strlen(LH_LOG_TAIL) : 2);
    text.len += text.cut ? strlen(LH_LOG_TAIL) : 2;
    assert(text.len <= sizeof text.bytes);
    do {
        written = write(log->fd, text.bytes, text.len);
    } while (written < 0 && errno == EINTR);
    /* A log that cannot be written has nowhere to say so; the server goes on. */
}
