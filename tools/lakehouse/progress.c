/* The progress of an import. Main thread. */
#include "progress.h"

#include "base/clock.h"

#include <unistd.h>

#define BAR_CELLS    30
#define BAR_EVERY_MS 100
#define SAY_EVERY_MS 3000

void lh_progress_start(struct lh_progress *progress, uint64_t total, uint64_t bytes_total)
{
    *progress = (struct lh_progress){.total = total, .bytes_total = bytes_total};
    progress->started_ns = progress->said_ns = lh_clock_ns();
    progress->is_tty = isatty(2) == 1;
}

uint32_t lh_progress_interval_ms(const struct lh_progress *progress)
{
    return progress->is_tty ? BAR_EVERY_MS : SAY_EVERY_MS;
}

const char *lh_grouped(uint64_t number, char text[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%ju", (uintmax_t)number), at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

static void append_left(struct lh_buf *out, double seconds)
{
    uint64_t s = (uint64_t)(seconds + 0.5);
    if (s >= 3600)
        lh_buf_printf(out, ", %ju h %02ju min left", (uintmax_t)(s / 3600),
                      (uintmax_t)(s / 60 % 60));
    else if (s >= 60)
        lh_buf_printf(out, ", %ju min %02ju s left", (uintmax_t)(s / 60), (uintmax_t)(s % 60));
    else
        lh_buf_printf(out, ", %ju s left", (uintmax_t)s);
}

static void append_bar(struct lh_buf *out, double part)
{
    int filled = (int)(part * BAR_CELLS);
    lh_buf_append_str(out, LH_STR("\r["));
    for (int i = 0; i < BAR_CELLS; i++)
        lh_buf_append_char(out, i < filled ? '#' : '.');
    lh_buf_append_str(out, LH_STR("] "));
}

void lh_progress_show(struct lh_progress *progress)
{
    char number[32], rate_text[32];
    struct lh_buf out = LH_BUF_EMPTY;
    uint64_t now = lh_clock_ns();
    double seconds = (double)(now - progress->started_ns) / 1e9;
    double part = progress->bytes_total > 0
                      ? (double)progress->bytes_done / (double)progress->bytes_total
                      : -1;
    double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    if (progress->is_tty)
        lh_buf_append_str(&out, LH_STR("\r"));
    if (progress->is_tty && part >= 0)
        append_bar(&out, part);
    if (part >= 0)
        lh_buf_printf(&out, "%3d%%  ", (int)(part * 100)); /* 100% is the end alone */
    lh_buf_append_str(&out, lh_str_of(lh_grouped(progress->done, number)));
    if (progress->total > 0)
        lh_buf_printf(&out, " of %s", lh_grouped(progress->total, number));
    lh_buf_printf(&out, " vectors, %s vectors/s", lh_grouped((uint64_t)rate, rate_text));
    if (part > 0)
        append_left(&out, seconds / part * (1 - part));
    /* "\033[K" clears what a longer line has left. */
    lh_buf_append_str(&out, progress->is_tty ? LH_STR("\033[K") : LH_STR("\n"));
    if (!lh_buf_failed(&out))
        fwrite(out.ptr, 1, out.len, stderr);
    fflush(stderr);
    lh_buf_deinit(&out);
    progress->said_ns = now;
}

void lh_progress_end(struct lh_progress *progress)
{
    if (progress->is_tty)
        fputs("\r\033[K", stderr);
}
