/* Macros that every statement sees: versions of datasets, and functions that DuckDB has and that a
 * statement could keep a thread busy with for hours. Run once, when the instance opens.
 *
 * LIKE and GLOB try every place for each wildcard, and call themselves to do so: 20 of them do not
 * come to an end, 5,000,000 leave the stack. RE2 needs time in proportion to the text, so LIKE with
 * more than one inner "%" is asked of it; what has wildcards at its ends alone, or one, goes on to
 * DuckDB, whose optimizer knows it. Of constants all of this is decided while a statement is
 * planned. Edit distances are of short texts: they take the product of the lengths, for 2,048 rows
 * between two looks at whether the query should end. */
#include "sql/sql_internal.h"

#define SHORT_PATTERN "100"     /* characters: a pattern is tried at every place of a text */
#define LONG_PATTERN  "1000"    /* RE2's time is the product of both lengths */
#define DISTANCE_AREA "1000000" /* of two texts: some 5 ms */

#define TAME(pattern, any)                                                               \
    "length(" pattern ") <= " SHORT_PATTERN " AND regexp_full_match(" pattern ", '[" any \
    "]?[^" any "]*[" any "]?|[^" any "]*[" any "][^" any "]*', 's')"

#define LIKE(name, before, text, pattern)                                               \
    "CREATE MACRO \"" name "\"(t, p) AS CASE WHEN " TAME(                               \
        "p", "%") " THEN system.main.\"" name "\"(t, p) WHEN length(p) > " LONG_PATTERN \
                  " THEN error('LIKE: a pattern of more than " LONG_PATTERN             \
                  " characters') ELSE " before "regexp_full_match(" text                \
                  ", replace(replace(regexp_escape(" pattern                            \
                  "), '\\%', '.*'), '_', '.'), 's') END;"

#define LIKE_ESCAPE(name)                                                        \
    "CREATE MACRO " name "(t, p, e) AS CASE WHEN NOT (" TAME(                    \
        "replace(replace(p, e || e, ''), e || '%', '')",                         \
        "%") ") THEN error('LIKE with ESCAPE: at most " SHORT_PATTERN            \
             " characters and one %, or % at its ends; or use regexp_matches') " \
             "ELSE system.main." name "(t, p, e) END;"

#define DISTANCE(name)                                                                \
    "CREATE MACRO " name "(a, b) AS CASE WHEN length(a) * length(b) > " DISTANCE_AREA \
    " THEN error('" name ": the texts are too long, at most 1,000 characters each') " \
    "ELSE system.main." name "(a, b) END;"

/* clang-format off */
static const char macros[] =
    /* Beside "people@2"; the gate has looked at the arguments. */
    "CREATE MACRO version_of(name, version) AS TABLE FROM query_table(name || '@' || version);"
    LIKE("~~", "", "t", "p")
    LIKE("!~~", "NOT ", "t", "p")
    LIKE("~~*", "", "lower(t)", "lower(p)")
    LIKE("!~~*", "NOT ", "lower(t)", "lower(p)")
    LIKE_ESCAPE("like_escape")
    LIKE_ESCAPE("not_like_escape")
    LIKE_ESCAPE("ilike_escape")
    LIKE_ESCAPE("not_ilike_escape")
    "CREATE MACRO \"~~~\"(t, p) AS CASE WHEN NOT (" TAME("p", "*") ") THEN error('GLOB: at most "
    SHORT_PATTERN " characters and one *, or * at its ends; or use regexp_matches') "
    "ELSE system.main.\"~~~\"(t, p) END;"
    DISTANCE("levenshtein")
    DISTANCE("editdist3")
    DISTANCE("damerau_levenshtein")
    DISTANCE("jaro_similarity")
    DISTANCE("jaro_winkler_similarity");
/* clang-format on */

enum lh_status lh__sql_add_macros(duckdb_connection connection, struct lh_error *error)
{
    return lh__sql_run(connection, macros, error);
}
