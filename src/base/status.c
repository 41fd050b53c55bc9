/* The status table and error filling. Any thread; no state. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *code;
    const char *text;
    int http;
} lh_status_table[] = {
#define XX(name, code, http, text) [LH_##name] = {#code, text, http},
    LH_STATUS_MAP(XX)
#undef XX
};

const char *lh_status_code(enum lh_status status)
{
    return lh_status_table[status].code;
}

bool lh_status_of_code(struct lh_str code, enum lh_status *status)
{
    for (size_t i = 0; i < sizeof lh_status_table / sizeof *lh_status_table; i++) {
        if (!lh_str_eq(code, lh_str_of(lh_status_table[i].code)))
            continue;
        *status = (enum lh_status)i;
        return true;
    }
    return false;
}

const char *lh_status_text(enum lh_status status)
{
    return lh_status_table[status].text;
}

int lh_status_http(enum lh_status status)
{
    return lh_status_table[status].http;
}

enum lh_status lh_error_set(struct lh_error *error, enum lh_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        error->status = status;
        error->sys_errno = 0;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return status;
}

enum lh_status lh_error_sys(struct lh_error *error, enum lh_status status, int sys_errno,
                            const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        char reason[64];
        size_t used;
        error->status = status;
        error->sys_errno = sys_errno;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        used = strlen(error->text);
        snprintf(error->text + used, sizeof error->text - used, ": %s",
                 strerror_r(sys_errno, reason, sizeof reason));
    }
    return status;
}
