/* Where DuckDB's memory comes from on a session's thread, and what ends it. */
#ifndef LH_SQL_ARENA_H
#define LH_SQL_ARENA_H

#include <stdint.h>

struct lh_counter;

/* The calling thread's DuckDB calls take no more than `bytes_max` together from now on: past it, or
 * with `is_over` not 0, they end with an error. Gives back what calls before have freed, when it
 * was much. */
void lh__sql_arena_begin(uint64_t bytes_max, const struct lh_counter *is_over);

/* Before what `is_over` belongs to goes. */
void lh__sql_arena_end(void);

#endif
