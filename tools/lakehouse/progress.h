/* How far an import is: a bar on a terminal, else a line every few seconds; both on stderr. */
#ifndef LH_CLI_PROGRESS_H
#define LH_CLI_PROGRESS_H

#include "lakehouse.h"

struct lh_progress {
    uint64_t started_ns;
    uint64_t said_ns;
    uint64_t total;       /* vectors; 0: unknown */
    uint64_t bytes_total; /* of the file; 0: unknown */
    uint64_t done;        /* vectors that the server has answered for */
    uint64_t bytes_done;
    bool is_tty;
};

void lh_progress_start(struct lh_progress *progress, uint64_t total, uint64_t bytes_total);

/* How long to wait before the next lh_progress_show. */
uint32_t lh_progress_interval_ms(const struct lh_progress *progress);
void lh_progress_show(struct lh_progress *progress);

/* Takes the bar away. */
void lh_progress_end(struct lh_progress *progress);

/* "341,479" */
const char *lh_grouped(uint64_t number, char text[32]);

#endif
