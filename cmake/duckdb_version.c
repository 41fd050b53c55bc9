/* Configuration: which version the library has, and whether it has what is called of it. The newest
 * functions of the header that the server uses stand here; an older library fails to link. */
#include <duckdb.h>
#include <stdio.h>

int main(void)
{
    static void *const used[] = {
        (void *)duckdb_pending_prepared_streaming,
        (void *)duckdb_scalar_function_set_volatile,
        (void *)duckdb_table_function_supports_projection_pushdown,
        (void *)duckdb_get_value_type,
        (void *)duckdb_interrupt,
    };
    for (unsigned i = 0; i < sizeof used / sizeof *used; i++)
        if (used[i] == NULL)
            return 1;
    fputs(duckdb_library_version(), stdout);
    return 0;
}
