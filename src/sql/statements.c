/* Statements that a session has prepared, kept for the next time. The session's thread.
 *
 * The gate and the planner take several times as long as a point query runs, and clients send the
 * same text again with other parameters. A statement that is kept has passed the gate; which tables
 * it names is asked again each time, since a dataset may have gone or have a new version. DuckDB
 * itself plans anew when a view has been replaced.
 *
 * Whoever takes a statement owns it until it is kept or destroyed. */
#include "sql/sql_internal.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_MAX        64u         /* of a session; a plan takes tens of KiB */
#define KEPT_BYTES_MAX  (16u << 10) /* of a text: longer ones are rarely sent twice */
#define TABLE_SEPARATOR '\0'        /* no name has one */

struct lh_sql__statement *lh__sql_statement_create(struct lh_str text)
{
    struct lh_sql__statement *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    lh_buf_append_str(&made->text, text);
    lh_buf_append_char(&made->text, '\0'); /* as duckdb_prepare wants it */
    if (!lh_buf_failed(&made->text))
        return made;
    lh__sql_statement_destroy(made);
    return NULL;
}

/* What one run has bound. */
static void free_numbers(struct lh_sql__statement *statement)
{
    for (uint32_t i = 0; i < LH_SQL__PARAMETERS; i++) {
        free(statement->parameters[i].numbers);
        statement->parameters[i].numbers = NULL;
    }
}

void lh__sql_statement_destroy(struct lh_sql__statement *statement)
{
    free_numbers(statement);
    duckdb_destroy_prepare(&statement->prepared);
    lh_buf_deinit(&statement->text);
    lh_buf_deinit(&statement->tables);
    free(statement);
}

static bool is_of(const struct lh_sql__statement *statement, struct lh_str text)
{
    return statement->text.len == text.len + 1 &&
           memcmp(statement->text.ptr, text.ptr, text.len) == 0;
}

struct lh_sql__statement *lh__sql_statement_take(struct lh_sql_session *session, struct lh_str text)
{
    for (struct lh_sql__statement **link = &session->kept; *link != NULL; link = &(*link)->next) {
        struct lh_sql__statement *found = *link;
        if (!is_of(found, text))
            continue;
        *link = found->next;
        session->kept_count--;
        return found;
    }
    return NULL;
}

/* The one that was used longest ago is the last. */
static void drop_last(struct lh_sql_session *session)
{
    struct lh_sql__statement **link = &session->kept;
    while ((*link)->next != NULL)
        link = &(*link)->next;
    lh__sql_statement_destroy(*link);
    *link = NULL;
    session->kept_count--;
}

void lh__sql_statement_keep(struct lh_sql_session *session, struct lh_sql__statement *statement)
{
    if (statement->text.len > KEPT_BYTES_MAX || lh_buf_failed(&statement->tables) ||
        duckdb_clear_bindings(statement->prepared) != DuckDBSuccess) {
        lh__sql_statement_destroy(statement);
        return;
    }
    free_numbers(statement);
    statement->next = session->kept;
    session->kept = statement;
    if (++session->kept_count > KEPT_MAX)
        drop_last(session);
}

void lh__sql_statements_drop(struct lh_sql_session *session)
{
    while (session->kept != NULL)
        drop_last(session);
}

/* ---- what it names ---- */

/* The caller's gate, and what it let through is noted. */
bool lh__sql_statement_note_table(struct lh_str name, void *arg)
{
    struct lh_sql__passing *passing = arg;
    if (!passing->gate->is_table(name, passing->gate->arg))
        return false;
    lh_buf_append_str(&passing->statement->tables, name);
    lh_buf_append_char(&passing->statement->tables, TABLE_SEPARATOR);
    return true;
}

void lh__sql_statement_note_parameter(struct lh_str name, bool is_query, void *arg)
{
    struct lh_sql__passing *passing = arg;
    uint64_t place;
    if (!lh_str_to_u64(name, &place) || place < 1 || place > LH_SQL__PARAMETERS)
        return;
    struct lh_sql__parameter *parameter = &passing->statement->parameters[place - 1];
    parameter->uses += !is_query;
    parameter->as_query += is_query;
}

bool lh__sql_statement_has_tables(const struct lh_sql__statement *statement,
                                  const struct lh_sql_gate *gate)
{
    struct lh_str left = lh_buf_str(&statement->tables);
    while (left.len > 0) {
        struct lh_str name = lh_str_of(left.ptr);
        if (!gate->is_table(name, gate->arg))
            return false;
        left = (struct lh_str){left.ptr + name.len + 1, left.len - name.len - 1};
    }
    return true;
}
