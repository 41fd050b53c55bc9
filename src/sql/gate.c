/* The gate: walks a statement's syntax tree. Any thread; no state of its own.
 *
 * Everything in the tree that can mean something is an object with a "class" (an expression) or a
 * "type" (a query, a table, a modifier), and each of those is looked up in a list. Constants, types
 * and aliases are what the statement says and mean nothing more: they are not entered.
 *
 * Invariant: a table's name is asked for unless a WITH around it defines it. Scopes nest as SQL's
 * do: a definition is seen by those behind it in its list and by the query that it stands before,
 * and only a recursive one by itself. */
#include "sql/gate_internal.h"

#include "ext/json_read.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 128u /* longer than any that is allowed */

struct scope {
    const struct scope *outer;
    struct lh_str name; /* of one definition */
};

struct walk {
    const struct lh_sql_gate *gate;
    struct lh_sql_fault *fault;
    struct lh_error *error;
    uint32_t nodes;
    uint32_t tables;
};

static enum lh_status walk_value(struct walk *walk, struct lh_json value,
                                 const struct scope *scope);

/* ---- errors ---- */

/* Marks where `node` stands in the statement, when it knows. */
static void locate(struct walk *walk, struct lh_json node)
{
    uint64_t offset;
    if (lh_json_get_u64(node, "query_location", &offset) && offset != UINT64_MAX) {
        walk->fault->has_offset = true;
        walk->fault->offset = offset;
    }
}

static enum lh_status refuse(struct walk *walk, struct lh_json node, const char *what,
                             struct lh_str name)
{
    locate(walk, node);
    return lh_error_set(walk->error, LH_SQL_NOT_ALLOWED, "%s%s%.*s%s", what,
                        name.len > 0 ? " \"" : "", (int)(name.len < 64 ? name.len : 64),
                        name.len > 0 ? name.ptr : "",
                        name.len > 0 ? "\" is not allowed" : ": not allowed");
}

static bool is_in(struct lh_str name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (lh_str_eq(name, lh_str_of(names[i])))
            return true;
    return false;
}

#define IS_IN(name, names) is_in((name), (names), sizeof(names) / sizeof *(names))

static bool is_empty_or(struct lh_json node, const char *member, const char *allowed)
{
    struct lh_str text;
    return !lh_json_get_str(node, member, &text) || text.len == 0 ||
           lh_str_eq_nocase(text, lh_str_of(allowed));
}

/* ---- functions ---- */

/* False: it is longer than any that is allowed. */
static bool lower_name(struct lh_str name, char lower[NAME_BYTES])
{
    if (name.len >= NAME_BYTES || (name.len > 0 && memchr(name.ptr, '\0', name.len) != NULL))
        return false;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = (char)tolower((unsigned char)name.ptr[i]);
    lower[name.len] = '\0';
    return true;
}

/* Calls with constants only, none above LH_SQL_SERIES_MAX. */
static bool is_short_series(struct lh_json function)
{
    struct lh_json children, child;
    if (!lh_json_get(function, "children", &children))
        return false;
    for (struct lh_json_iter iter = lh_json_elements(children); lh_json_next(&iter, &child);) {
        struct lh_json value;
        struct lh_str class;
        double number;
        if (!lh_json_get_str(child, "class", &class) || !lh_str_eq(class, LH_STR("CONSTANT")) ||
            !lh_json_get(child, "value", &value) || !lh_json_get_f64(value, "value", &number) ||
            number > LH_SQL_SERIES_MAX || number < -LH_SQL_SERIES_MAX)
            return false;
    }
    return true;
}

/* The text of the second argument, when it is a constant. */
static bool get_second_text(struct lh_json function, struct lh_str *text)
{
    struct lh_json children, child = {0}, value;
    struct lh_str class;
    if (!lh_json_get(function, "children", &children) || lh_json_count(children) < 2)
        return false;
    struct lh_json_iter iter = lh_json_elements(children);
    return lh_json_next(&iter, &child) && lh_json_next(&iter, &child) &&
           lh_json_get_str(child, "class", &class) && lh_str_eq(class, LH_STR("CONSTANT")) &&
           lh_json_get(child, "value", &value) && lh_json_get_str(value, "value", text);
}

/* list_aggregate(l, 'sum'): of an aggregate that could be called by itself. */
static bool is_known_aggregate(struct lh_json function)
{
    struct lh_str name;
    char lower[NAME_BYTES];
    return get_second_text(function, &name) && lower_name(name, lower) &&
           lh__gate_function_is_allowed(lower);
}

/* from_json(j, '["INT"]'): DuckDB reads the second one, and the types in it, by recursion. All that
 * opens is counted, as what closes may stand in a name. */
static bool is_flat_structure(struct lh_json function)
{
    struct lh_str text;
    unsigned opened = 0;
    if (!get_second_text(function, &text))
        return false;
    for (size_t i = 0; i < text.len && opened <= LH_SQL_STRUCTURE_OPENED_MAX; i++)
        opened += text.ptr[i] == '[' || text.ptr[i] == '{' || text.ptr[i] == '(';
    return opened <= LH_SQL_STRUCTURE_OPENED_MAX;
}

/* A format that is a constant, names no width of more than LH_SQL_FORMAT_DIGITS digits, and takes
 * none from its arguments. */
static bool is_narrow_format(struct lh_json function)
{
    struct lh_json children, first, value;
    struct lh_str class, format;
    unsigned digits = 0, braces = 0;
    struct lh_json_iter iter;
    if (!lh_json_get(function, "children", &children))
        return false;
    iter = lh_json_elements(children);
    if (!lh_json_next(&iter, &first) || !lh_json_get_str(first, "class", &class) ||
        !lh_str_eq(class, LH_STR("CONSTANT")) || !lh_json_get(first, "value", &value) ||
        !lh_json_get_str(value, "value", &format))
        return false;
    for (size_t i = 0; i < format.len; i++) {
        char c = format.ptr[i];
        digits = isdigit((unsigned char)c) ? digits + 1 : 0;
        braces += c == '{';
        braces -= c == '}' && braces > 0;
        if (c == '*' || braces > 1 || digits > LH_SQL_FORMAT_DIGITS)
            return false;
    }
    return true;
}

static enum lh_status find_table(struct walk *walk, struct lh_json node, struct lh_str name)
{
    if (walk->gate->is_table(name, walk->gate->arg))
        return LH_OK;
    locate(walk, node);
    return lh_error_set(walk->error, LH_DATASET_NOT_FOUND, "there is no dataset \"%.*s\"",
                        (int)(name.len < 100 ? name.len : 100), name.ptr);
}

/* A constant of an integer type. */
static bool get_integer(struct lh_json value, uint64_t *number)
{
    struct lh_json type;
    struct lh_str id;
    return lh_json_get(value, "type", &type) && lh_json_get_str(type, "id", &id) &&
           (lh_str_eq(id, LH_STR("INTEGER")) || lh_str_eq(id, LH_STR("BIGINT"))) &&
           lh_json_get_u64(value, "value", number);
}

/* version_of('people', 2) reads the table "people@2": of constants, so that it is known here, and
 * by their place: names would let them change it. */
static enum lh_status check_version(struct walk *walk, struct lh_json function)
{
    char text[NAME_BYTES + 24];
    struct lh_json children, child, value;
    struct lh_str name = {0}, alias;
    uint64_t version = 0;
    unsigned at = 0;
    if (!lh_json_get(function, "children", &children) || lh_json_count(children) != 2)
        return refuse(walk, function, "without a name and a number, version_of", LH_STR(""));
    for (struct lh_json_iter iter = lh_json_elements(children); lh_json_next(&iter, &child); at++) {
        bool is_plain =
            lh_json_get_str(child, "alias", &alias) && alias.len == 0 &&
            lh_json_get(child, "value", &value) &&
            (at == 0 ? lh_json_get_str(value, "value", &name) : get_integer(value, &version));
        if (!is_plain)
            return refuse(walk, function, "with other than constants, version_of", LH_STR(""));
    }
    if (name.len >= NAME_BYTES + 1)
        return refuse(walk, function, "with such a long name, version_of", LH_STR(""));
    int len = snprintf(text, sizeof text, "%.*s@%" PRIu64, (int)name.len, name.ptr, version);
    return find_table(walk, function, (struct lh_str){text, (size_t)len});
}

/* ---- parameters ---- */

static void note_parameter(const struct walk *walk, struct lh_json node, bool is_query)
{
    struct lh_str name;
    if (walk->gate->note_parameter != NULL && lh_json_get_str(node, "identifier", &name))
        walk->gate->note_parameter(name, is_query, walk->gate->arg);
}

/* The second of a vector function's arguments by place. */
static void note_query(const struct walk *walk, struct lh_json function)
{
    struct lh_json children, query;
    struct lh_str class;
    struct lh_json_iter iter;
    if (!lh_json_get(function, "children", &children))
        return;
    iter = lh_json_elements(children);
    if (lh_json_next(&iter, &query) && lh_json_next(&iter, &query) &&
        is_empty_or(query, "alias", "") && lh_json_get_str(query, "class", &class) &&
        lh_str_eq(class, LH_STR("PARAMETER")))
        note_parameter(walk, query, true);
}

static enum lh_status check_function(struct walk *walk, struct lh_json node, bool is_table)
{
    static const char *const series[] = {"range", "generate_series"};
    static const char *const formats[] = {"printf", "format"};
    static const char *const searches[] = {"vector_search", "nearest"};
    static const char *const aggregating[] = {"aggregate", "array_aggr", "array_aggregate",
                                              "list_aggr", "list_aggregate"};
    static const char *const structured[] = {"from_json", "from_json_strict", "json_transform",
                                             "json_transform_strict"};
    struct lh_str name;
    char lower[NAME_BYTES];
    if (!lh_json_get_str(node, "function_name", &name) || !lower_name(name, lower))
        return refuse(walk, node, "a function without a name that is known", LH_STR(""));
    struct lh_str lowered = {lower, name.len};
    if (!is_empty_or(node, "schema", "main") || !is_empty_or(node, "catalog", "system"))
        return refuse(walk, node, "a schema before function", lowered);
    if (is_table && !lh__gate_table_function_is_allowed(lower))
        return refuse(walk, node, "table function", lowered);
    if (is_table && lh_str_eq(lowered, LH_STR("version_of")))
        return check_version(walk, node);
    if (is_table && IS_IN(lowered, searches))
        note_query(walk, node);
    if (is_table)
        return LH_OK;
    if (!lh__gate_function_is_allowed(lower))
        return refuse(walk, node, "function", lowered);
    if (IS_IN(lowered, series) && !is_short_series(node))
        return refuse(walk, node, "with other than constants up to 10000, function", lowered);
    if (IS_IN(lowered, formats) && !is_narrow_format(node))
        return refuse(walk, node, "with other than a plain constant format, function", lowered);
    if (IS_IN(lowered, aggregating) && !is_known_aggregate(node))
        return refuse(walk, node, "with other than the name of a known aggregate, function",
                      lowered);
    if (IS_IN(lowered, structured) && !is_flat_structure(node))
        return refuse(walk, node, "with other than a constant of few levels, function", lowered);
    return LH_OK;
}

/* ---- tables ---- */

static bool is_defined(const struct scope *scope, struct lh_str name)
{
    for (; scope != NULL; scope = scope->outer)
        if (lh_str_eq_nocase(scope->name, name))
            return true;
    return false;
}

static enum lh_status check_table(struct walk *walk, struct lh_json node, const struct scope *scope)
{
    struct lh_str name;
    struct lh_json at;
    if (!lh_json_get_str(node, "table_name", &name) || name.len == 0)
        return refuse(walk, node, "a table without a name", LH_STR(""));
    if (!is_empty_or(node, "schema_name", "main") || !is_empty_or(node, "catalog_name", ""))
        return refuse(walk, node, "a schema or catalog before table", name);
    if (lh_json_get(node, "at_clause", &at) && lh_json_is_object(at))
        return refuse(walk, node, "AT; a version is read as \"name@version\": table", name);
    if (++walk->tables > LH_SQL_TABLES_MAX)
        return refuse(walk, node, "more than 128 tables", LH_STR(""));
    return is_defined(scope, name) ? LH_OK : find_table(walk, node, name);
}

/* ---- the walk ---- */

/* A VARIANT is made of JSON by a function that calls itself for each of its levels. */
static bool names_variant(struct lh_json value)
{
    struct lh_json member;
    struct lh_str name, id;
    bool is_found = lh_json_get_str(value, "id", &id) && lh_str_eq(id, LH_STR("VARIANT"));
    for (struct lh_json_iter iter = lh_json_members(value);
         !is_found && lh_json_member(&iter, &name, &member);)
        is_found = names_variant(member);
    for (struct lh_json_iter iter = lh_json_elements(value);
         !is_found && lh_json_next(&iter, &member);)
        is_found = names_variant(member);
    return is_found;
}

static enum lh_status check_class(struct walk *walk, struct lh_json node, struct lh_str class)
{
    static const char *const known[] = {
        "BETWEEN",     "CASE",
        "CAST",        "COLLATE",
        "COLUMN_REF",  "COMPARISON",
        "CONJUNCTION", "CONSTANT",
        "FUNCTION",    "LAMBDA",
        "LAMBDA_REF",  "OPERATOR",
        "PARAMETER",   "POSITIONAL_REFERENCE",
        "STAR",        "SUBQUERY",
        "WINDOW",
    };
    struct lh_json type;
    if (!IS_IN(class, known))
        return refuse(walk, node, "expression", class);
    if (lh_str_eq(class, LH_STR("PARAMETER")))
        note_parameter(walk, node, false);
    if (lh_str_eq(class, LH_STR("FUNCTION")) || lh_str_eq(class, LH_STR("WINDOW")))
        return check_function(walk, node, false);
    if (lh_str_eq(class, LH_STR("CAST")) && lh_json_get(node, "cast_type", &type) &&
        names_variant(type))
        return refuse(walk, node, "type", LH_STR("VARIANT"));
    return LH_OK;
}

static enum lh_status check_type(struct walk *walk, struct lh_json node, struct lh_str type,
                                 const struct scope *scope)
{
    static const char *const known[] = {
        "SELECT_NODE",
        "SET_OPERATION_NODE",
        "RECURSIVE_CTE_NODE",
        "CTE_NODE", /* queries */
        "EMPTY",
        "EXPRESSION_LIST",
        "JOIN",
        "PIVOT",
        "SUBQUERY",
        "TABLE_FUNCTION", /* tables */
        "DISTINCT_MODIFIER",
        "LIMIT_MODIFIER",
        "LIMIT_PERCENT_MODIFIER",
        "ORDER_MODIFIER",
        "ASCENDING",
        "DESCENDING",
        "ORDER_DEFAULT",
    };
    if (lh_str_eq(type, LH_STR("BASE_TABLE")))
        return check_table(walk, node, scope);
    if (lh_str_eq(type, LH_STR("TABLE_FUNCTION")) && ++walk->tables > LH_SQL_TABLES_MAX)
        return refuse(walk, node, "more than 128 tables", LH_STR(""));
    return IS_IN(type, known) ? LH_OK : refuse(walk, node, "statement part", type);
}

static enum lh_status walk_members(struct walk *walk, struct lh_json node,
                                   const struct scope *scope)
{
    /* What a statement says, and means nothing more. */
    static const char *const plain[] = {"value_type", "cast_type", "sample",
                                        "type_info",  "cte_map",   "expected_types"};
    enum lh_status status = LH_OK;
    struct lh_json value;
    struct lh_str name;
    for (struct lh_json_iter iter = lh_json_members(node);
         status == LH_OK && lh_json_member(&iter, &name, &value);)
        if (!IS_IN(name, plain))
            status = walk_value(walk, value, scope);
    return status;
}

static bool is_recursive(struct lh_json definition)
{
    struct lh_json query, node;
    struct lh_str type;
    return lh_json_get(definition, "query", &query) && lh_json_get(query, "node", &node) &&
           lh_json_get_str(node, "type", &type) && lh_str_eq(type, LH_STR("RECURSIVE_CTE_NODE"));
}

/* The definitions of a WITH from `iter` on, each in the scope of those before it, and then the
 * query that they stand before. */
static enum lh_status walk_definitions(struct walk *walk, struct lh_json_iter iter,
                                       struct lh_json query, const struct scope *scope)
{
    struct lh_json entry, definition;
    struct scope inner = {.outer = scope};
    if (!lh_json_next(&iter, &entry))
        return walk_members(walk, query, scope);
    if (++walk->tables > LH_SQL_TABLES_MAX)
        return refuse(walk, query, "more than 128 tables", LH_STR(""));
    if (!lh_json_get_str(entry, "key", &inner.name) || !lh_json_get(entry, "value", &definition))
        return refuse(walk, query, "a definition without a name", LH_STR(""));
    enum lh_status status = walk_value(walk, definition, is_recursive(definition) ? &inner : scope);
    return status == LH_OK ? walk_definitions(walk, iter, query, &inner) : status;
}

static enum lh_status walk_object(struct walk *walk, struct lh_json node, const struct scope *scope)
{
    struct lh_json map, definitions, function;
    struct lh_str class, type;
    enum lh_status status = LH_OK;
    if (++walk->nodes > LH_SQL_NODES_MAX)
        return refuse(walk, node, "a statement of more than 200000 parts", LH_STR(""));
    if (lh_json_get_str(node, "class", &class)) {
        status = check_class(walk, node, class);
        if (status != LH_OK || lh_str_eq(class, LH_STR("CONSTANT")))
            return status;
    } else if (lh_json_get_str(node, "type", &type)) {
        status = check_type(walk, node, type, scope);
        if (status == LH_OK && lh_json_get(node, "cte_map", &map) &&
            lh_json_get(map, "map", &definitions))
            return walk_definitions(walk, lh_json_elements(definitions), node, scope);
        if (status == LH_OK && lh_str_eq(type, LH_STR("TABLE_FUNCTION")) &&
            lh_json_get(node, "function", &function)) {
            status = check_function(walk, function, true);
            return status == LH_OK ? walk_members(walk, function, scope) : status;
        }
    }
    return status == LH_OK ? walk_members(walk, node, scope) : status;
}

static enum lh_status walk_value(struct walk *walk, struct lh_json value, const struct scope *scope)
{
    enum lh_status status = LH_OK;
    struct lh_json element;
    if (lh_json_is_object(value))
        return walk_object(walk, value, scope);
    for (struct lh_json_iter iter = lh_json_elements(value);
         status == LH_OK && lh_json_next(&iter, &element);)
        status = walk_value(walk, element, scope);
    return status;
}

/* ---- the statement ---- */

/* The parser's own error, or that it is no SELECT. */
static enum lh_status tell_parser_error(struct walk *walk, struct lh_json root)
{
    struct lh_str kind = LH_STR(""), message = LH_STR("it cannot be parsed"), position;
    uint64_t offset;
    lh_json_get_str(root, "error_type", &kind);
    lh_json_get_str(root, "error_message", &message);
    if (lh_json_get_str(root, "position", &position) && lh_str_to_u64(position, &offset)) {
        walk->fault->has_offset = true;
        walk->fault->offset = offset;
    }
    if (lh_str_eq(kind, LH_STR("not implemented")))
        return lh_error_set(walk->error, LH_SQL_NOT_ALLOWED, "only one SELECT statement is run");
    return lh_error_set(walk->error, LH_INVALID_SQL, "%.*s",
                        (int)(message.len < 140 ? message.len : 140), message.ptr);
}

static enum lh_status check_root(struct walk *walk, struct lh_json root)
{
    struct lh_json error, statements;
    if (lh_json_get(root, "error_type", &error))
        return tell_parser_error(walk, root);
    if (!lh_json_get(root, "statements", &statements) || lh_json_count(statements) != 1)
        return lh_error_set(walk->error, LH_SQL_NOT_ALLOWED, "only one SELECT statement is run");
    return walk_value(walk, statements, NULL);
}

enum lh_status lh_sql_gate_check(const struct lh_sql_gate *gate, struct lh_str tree,
                                 struct lh_sql_fault *fault, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct walk walk = {.gate = gate, .fault = fault, .error = error};
    *fault = (struct lh_sql_fault){0};
    enum lh_status status = lh_json_doc_create(tree, &doc, &root, error);
    if (status == LH_INVALID_JSON)
        return lh_error_set(error, LH_SQL_NOT_ALLOWED, "the statement nests too deep");
    if (status != LH_OK)
        return status;
    status = check_root(&walk, root);
    lh_json_doc_destroy(doc);
    return status;
}
