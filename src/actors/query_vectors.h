/* The vector functions of SQL, answered by the vector service. */
#ifndef LH_ACTORS_QUERY_VECTORS_H
#define LH_ACTORS_QUERY_VECTORS_H

#include "actors/vector_client.h"
#include "sql/vectors.h"

struct lh_query_vectors {
    struct lh_vector_client *client; /* NULL: there is no vector service */
    const struct lh_reach *reach;    /* of the statement that runs */
    enum lh_status status;           /* of a call that has failed, for the worker to clear */
};

/* What a session is given; `vectors` outlives it. */
struct lh_sql_vectors lh_query_vectors_provider(struct lh_query_vectors *vectors);

#endif
