/* Between the files of the gate. */
#ifndef LH_SQL_GATE_INTERNAL_H
#define LH_SQL_GATE_INTERNAL_H

#include "sql/gate.h"

/* `name` in lower case. */
bool lh__gate_function_is_allowed(const char *name);
bool lh__gate_table_function_is_allowed(const char *name);

#endif
