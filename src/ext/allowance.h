/* How much memory a library may take on a thread, for one that has no bound of its own.
 *
 * A C++ library takes memory through operator new, which a program may replace (C++17, 17.6.3:
 * [new.delete]); new.cc does, and asks here. So the library's own out-of-memory path, an exception,
 * ends one call rather than the process. A thread without an allowance takes what it likes.
 *
 * What is counted is what the thread takes less what it gives back, whoever took that: exact for
 * work that begins and ends on one thread, which is why a count lasts for one piece of work. Apart
 * from it, pages that the thread maps and never unmaps are counted for good. */
#ifndef LH_EXT_ALLOWANCE_H
#define LH_EXT_ALLOWANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lh_counter;

struct lh_allowance {
    int64_t max;   /* 0: it takes what it likes */
    int64_t taken; /* in blocks, since it began */
    int64_t made;  /* of those, by malloc() for it */
    uint64_t mapped;
    const struct lh_counter *is_over;
};

/* The calling thread's. */
struct lh_allowance *lh_allowance_mine(void);

/* The calling thread may take `bytes_max` from now on, and nothing large any more once `is_over` is
 * not 0: what it does then is of no use. It outlives the allowance. 0 and NULL: what it likes. */
void lh_allowance_begin(uint64_t bytes_max, const struct lh_counter *is_over);

/* False: it would be more pages than `bytes_max`, and nothing is counted. */
bool lh_allowance_map(size_t bytes);
uint64_t lh_allowance_mapped(void);
/* What malloc() has made for the calling thread since it began, whatever of it was given back. */
uint64_t lh_allowance_made(void);

/* Memory that malloc() has made, a block of so many bytes. False: too much, and nothing is counted.
 * A little is given even then: an error has to be told. */
bool lh_allowance_take(struct lh_allowance *allowance, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
