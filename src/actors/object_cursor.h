/* Cursors of lists of objects: the last key of a page, as text that can stand in a query. */
#ifndef LH_ACTORS_OBJECT_CURSOR_H
#define LH_ACTORS_OBJECT_CURSOR_H

#include "base/buf.h"
#include <stdbool.h>

void lh_object_cursor_append(struct lh_buf *out, struct lh_str key);
/* False: it is none. */
LH_MUST_USE bool lh_object_cursor_read(struct lh_str text, struct lh_buf *key);

#endif
