/* lakehouse search, get and delete. */
#include "client.h"
#include "table.h"

#include "ext/json_read.h"
#include "ext/number.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define VECTOR_TEXT_MAX (4u << 20) /* LH_DIMENSION_MAX numbers of any usual length */

struct vector {
    float *values; /* LH_DIMENSION_MAX of them */
    uint32_t count;
};

/* ---- where a query's vector comes from ---- */

/* Numbers parted by commas or white space, in brackets or not. False: it has been said. */
static bool parse_vector(const char *source, const char *text, struct vector *vector)
{
    static const char parts[] = ", \t\r\n[]";
    const char *at = text + strspn(text, parts);
    while (*at != '\0') {
        char *end;
        errno = 0;
        float value = strtof(at, &end);
        if (end == at || !isfinite(value) || (*end != '\0' && strchr(parts, *end) == NULL)) {
            lh_cli_say("%s: number %u, \"%.*s\", is no finite number", source, vector->count + 1,
                       (int)strcspn(at, parts), at);
            return false;
        }
        if (vector->count == LH_DIMENSION_MAX) {
            lh_cli_say("%s: more than %u numbers", source, LH_DIMENSION_MAX);
            return false;
        }
        vector->values[vector->count++] = value;
        at = end + strspn(end, parts);
    }
    if (vector->count == 0)
        lh_cli_say("%s: has no numbers, such as 1,0.5,-2", source);
    return vector->count > 0;
}

static bool read_vector(const char *path, struct vector *vector)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    const char *name = is_stdin ? "standard input" : path;
    bool ok = false;
    if (file == NULL) {
        lh_cli_say("%s: %s", path, strerror(errno));
        return false;
    }
    char *text = malloc(VECTOR_TEXT_MAX + 1);
    if (text == NULL) {
        lh_cli_say("not enough memory");
        goto done;
    }
    size_t len = fread(text, 1, VECTOR_TEXT_MAX, file);
    text[len] = '\0';
    if (ferror(file))
        lh_cli_say("%s: %s", name, strerror(errno));
    else if (len == VECTOR_TEXT_MAX)
        lh_cli_say("%s: is longer than one vector's text can be", name);
    else
        ok = parse_vector(name, text, vector);
done:
    free(text);
    if (!is_stdin)
        fclose(file);
    return ok;
}

/* The vector of an item that is there. */
static enum lh_cli_exit fetch_vector(struct lh_client *client, const char *index, const char *id,
                                     struct vector *vector)
{
    struct lh_answer answer = {0};
    struct lh_json_doc *doc = NULL;
    struct lh_json root, list, value;
    enum lh_cli_exit result = LH_CLI_REFUSED;
    char *path = lh_client_index_path(client, index, "/items/", id);
    if (path == NULL)
        return result;
    lh_client_call(client, "GET", path, NULL, (struct lh_str){0}, &answer);
    if (answer.http != 200) {
        result = lh_client_complain(client, &answer);
        goto done;
    }
    if (lh_json_doc_create(lh_buf_str(&answer.body), &doc, &root, NULL) != LH_OK ||
        !lh_json_get(root, "vector", &list) || lh_json_count(list) > LH_DIMENSION_MAX) {
        lh_cli_say("the answer to a read is not one of lakehoused's");
        goto done;
    }
    for (struct lh_json_iter iter = lh_json_elements(list); lh_json_next(&iter, &value);) {
        double number = 0;
        lh_json_as_f64(value, &number);
        vector->values[vector->count++] = (float)number;
    }
    result = LH_CLI_OK;
done:
    lh_json_doc_destroy(doc);
    lh_answer_deinit(&answer);
    free(path);
    return result;
}

static enum lh_cli_exit query_vector(const struct lh_cli_options *options, struct lh_client *client,
                                     struct vector *vector)
{
    bool ok;
    if (options->id != NULL)
        return fetch_vector(client, options->index, options->id, vector);
    if (options->vector != NULL && strcmp(options->vector, "-") != 0)
        ok = parse_vector("--vector", options->vector, vector);
    else
        ok = read_vector(options->vector_file != NULL ? options->vector_file : "-", vector);
    return ok ? LH_CLI_OK : LH_CLI_USAGE;
}

/* ---- search ---- */

static void search_body(const struct lh_cli_options *options, const struct vector *vector,
                        struct lh_buf *body)
{
    uint32_t k = options->k > 0 ? options->k : LH_K_DEFAULT;
    if (options->id != NULL && k < LH_K_MAX)
        k++; /* the item itself comes back, and is left out */
    lh_buf_append_str(body, LH_STR("{\"vector\":\""));
    lh_base64_append(body, vector->values, vector->count * sizeof *vector->values);
    lh_buf_printf(body, "\",\"k\":%u", k);
    if (options->ef > 0)
        lh_buf_printf(body, ",\"ef\":%u", options->ef);
    lh_buf_append_char(body, '}');
}

static void print_result(const struct lh_cli_options *options, struct lh_json result, uint32_t rank,
                         struct lh_table *table, struct lh_buf *json)
{
    struct lh_json metadata;
    struct lh_str id = {0};
    double distance = 0;
    char text[32];
    if (options->json) {
        if (rank > 1)
            lh_buf_append_char(json, ',');
        lh_json_append(json, result);
        return;
    }
    lh_json_get_str(result, "id", &id);
    lh_json_get_f64(result, "distance", &distance);
    snprintf(text, sizeof text, "%3u", rank);
    lh_table_add(table, lh_str_of(text));
    snprintf(text, sizeof text, "%.6f", distance);
    lh_table_add(table, lh_str_of(text));
    lh_table_add(table, id);
    if (lh_json_get(result, "metadata", &metadata))
        lh_table_add_json(table, metadata);
    else
        lh_table_add(table, LH_STR(""));
}

static enum lh_cli_exit print_results(const struct lh_cli_options *options,
                                      const struct lh_answer *answer)
{
    struct lh_json_doc *doc = NULL;
    struct lh_json root, list, result;
    struct lh_table table = {.columns = 4};
    struct lh_buf json = LH_BUF_EMPTY;
    struct lh_str id;
    uint32_t k = options->k > 0 ? options->k : LH_K_DEFAULT, rank = 0;
    if (lh_json_doc_create(lh_buf_str(&answer->body), &doc, &root, NULL) != LH_OK ||
        !lh_json_get(root, "results", &list)) {
        lh_json_doc_destroy(doc);
        lh_cli_say("the answer to a search is not one of lakehoused's");
        return LH_CLI_REFUSED;
    }
    if (options->json)
        lh_buf_append_str(&json, LH_STR("{\"results\":["));
    for (struct lh_json_iter iter = lh_json_elements(list);
         rank < k && lh_json_next(&iter, &result);) {
        bool is_itself = options->id != NULL && lh_json_get_str(result, "id", &id) &&
                         lh_str_eq(id, lh_str_of(options->id));
        if (!is_itself)
            print_result(options, result, ++rank, &table, &json);
    }
    if (options->json) {
        lh_buf_append_str(&json, LH_STR("]}"));
        lh_print_raw(&json);
    } else if (rank == 0) {
        printf("nothing found: the index has no %sitems\n", options->id != NULL ? "other " : "");
    }
    lh_table_print(&table);
    lh_buf_deinit(&json);
    lh_json_doc_destroy(doc);
    return LH_CLI_OK;
}

static enum lh_cli_exit search_for(const struct lh_cli_options *options, struct lh_client *client,
                                   const struct vector *vector)
{
    struct lh_answer answer = {0};
    struct lh_buf body = LH_BUF_EMPTY;
    enum lh_cli_exit result = LH_CLI_REFUSED;
    char *path = lh_client_index_path(client, options->index, "/search", NULL);
    search_body(options, vector, &body);
    if (path != NULL && !lh_buf_failed(&body)) {
        lh_client_call(client, "POST", path, "application/json", lh_buf_str(&body), &answer);
        result = answer.http == 200 ? print_results(options, &answer)
                                    : lh_client_complain(client, &answer);
    }
    lh_buf_deinit(&body);
    lh_answer_deinit(&answer);
    free(path);
    return result;
}

enum lh_cli_exit lh_cli_search(const struct lh_cli_options *options)
{
    bool from_stdin = options->word_count == 1 && strcmp(options->words[0], "-") == 0;
    int ways = (options->id != NULL) + (options->vector != NULL) + (options->vector_file != NULL) +
               from_stdin;
    if (options->index == NULL)
        return lh_cli_usage(LH_CLI_SEARCH, "in which index? Add --index NAME");
    if (options->word_count > 0 && !from_stdin)
        return lh_cli_usage(LH_CLI_SEARCH, "\"%s\" is no option; an item is named with --id",
                            options->words[0]);
    if (ways != 1)
        return lh_cli_usage(LH_CLI_SEARCH,
                            "near what? Give one of --id, --vector, --vector-file and -");
    struct vector vector = {.values = malloc(LH_DIMENSION_MAX * sizeof *vector.values)};
    struct lh_client *client = lh_client_create(options);
    enum lh_cli_exit result = LH_CLI_USAGE;
    if (client != NULL && vector.values != NULL)
        result = query_vector(options, client, &vector);
    if (result == LH_CLI_OK)
        result = search_for(options, client, &vector);
    lh_client_destroy(client);
    free(vector.values);
    return result;
}

/* ---- get and delete ---- */

static void print_item(struct lh_json item)
{
    static const char *const members[] = {"id", "metadata", "vector"};
    struct lh_table table = {.columns = 2};
    struct lh_json value;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (!lh_json_get(item, members[i], &value))
            continue;
        lh_table_add(&table, lh_str_of(members[i]));
        lh_table_add_json(&table, value);
    }
    lh_table_print(&table);
}

static enum lh_cli_exit get_one(const struct lh_cli_options *options, struct lh_client *client,
                                const char *id)
{
    struct lh_answer answer = {0};
    struct lh_json_doc *doc = NULL;
    struct lh_json root;
    enum lh_cli_exit result = LH_CLI_OK;
    char *path = lh_client_index_path(client, options->index, "/items/", id);
    if (path == NULL)
        return LH_CLI_REFUSED;
    lh_client_call(client, "GET", path, NULL, (struct lh_str){0}, &answer);
    if (answer.http != 200)
        result = lh_client_complain(client, &answer);
    else if (options->json)
        lh_print_raw(&answer.body);
    else if (lh_json_doc_create(lh_buf_str(&answer.body), &doc, &root, NULL) == LH_OK)
        print_item(root);
    lh_json_doc_destroy(doc);
    lh_answer_deinit(&answer);
    free(path);
    return result;
}

enum lh_cli_exit lh_cli_get(const struct lh_cli_options *options)
{
    enum lh_cli_exit result = LH_CLI_OK;
    if (options->index == NULL)
        return lh_cli_usage(LH_CLI_GET, "from which index? Add --index NAME");
    if (options->word_count == 0)
        return lh_cli_usage(LH_CLI_GET, "which ID?");
    struct lh_client *client = lh_client_create(options);
    if (client == NULL)
        return LH_CLI_USAGE;
    for (int i = 0; i < options->word_count && result != LH_CLI_UNREACHABLE; i++) {
        enum lh_cli_exit one = get_one(options, client, options->words[i]);
        if (one != LH_CLI_OK)
            result = one;
    }
    lh_client_destroy(client);
    return result;
}

static enum lh_cli_exit print_deleted(const struct lh_cli_options *options,
                                      const struct lh_answer *answer)
{
    struct lh_json_doc *doc = NULL;
    struct lh_json root;
    uint64_t deleted = 0;
    if (lh_json_doc_create(lh_buf_str(&answer->body), &doc, &root, NULL) == LH_OK)
        lh_json_get_u64(root, "deleted", &deleted);
    lh_json_doc_destroy(doc);
    if (options->json)
        lh_print_raw(&answer->body);
    else
        printf("deleted %ju of %d items\n", (uintmax_t)deleted, options->word_count);
    return deleted == (uint64_t)options->word_count ? LH_CLI_OK : LH_CLI_REFUSED;
}

enum lh_cli_exit lh_cli_delete(const struct lh_cli_options *options)
{
    struct lh_answer answer = {0};
    struct lh_buf body = LH_BUF_EMPTY;
    enum lh_cli_exit result = LH_CLI_USAGE;
    if (options->index == NULL)
        return lh_cli_usage(LH_CLI_DELETE, "from which index? Add --index NAME");
    if (options->word_count == 0)
        return lh_cli_usage(LH_CLI_DELETE, "which ID?");
    struct lh_client *client = lh_client_create(options);
    char *path =
        client != NULL ? lh_client_index_path(client, options->index, "/delete", NULL) : NULL;
    for (int i = 0; i < options->word_count; i++) {
        lh_buf_append_str(&body, i == 0 ? LH_STR("{\"ids\":[") : LH_STR(","));
        lh_buf_append_json_string(&body, lh_str_of(options->words[i]));
    }
    lh_buf_append_str(&body, LH_STR("]}"));
    if (path != NULL && !lh_buf_failed(&body)) {
        lh_client_call(client, "POST", path, "application/json", lh_buf_str(&body), &answer);
        result = answer.http == 200 ? print_deleted(options, &answer)
                                    : lh_client_complain(client, &answer);
    }
    lh_buf_deinit(&body);
    lh_answer_deinit(&answer);
    lh_client_destroy(client);
    free(path);
    return result;
}
