/* Ids of queries that their clients have not named: random UUIDs (RFC 9562, version 4). Whoever
 * knows one can cancel its query, so all 122 bits are the kernel's; they are asked for by the page,
 * since the call for one takes longer than all else that the loop does for a query. */
#ifndef LH_ACTORS_QUERY_IDS_H
#define LH_ACTORS_QUERY_IDS_H

#include <stddef.h>

struct lh_query_ids { /* zero: to be filled */
    unsigned char random[4096];
    size_t left; /* bytes at its end that no id has had */
};

/* The next one, in lower case. One thread. */
void lh_query_ids_next(struct lh_query_ids *ids, char id[37]);

#endif
