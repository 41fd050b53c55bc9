/* lakehouse index ... and lakehouse health. */
#include "client.h"
#include "table.h"

#include "ext/json_read.h"

#include <stdlib.h>

static void append_number(struct lh_buf *body, const char *name, uint32_t value)
{
    if (value > 0)
        lh_buf_printf(body, ",\"%s\":%u", name, value);
}

void lh_cli_index_body(const struct lh_cli_options *options, const char *name, uint32_t dimension,
                       struct lh_buf *body)
{
    lh_buf_append_str(body, LH_STR("{\"name\":"));
    lh_buf_append_json_string(body, lh_str_of(name));
    append_number(body, "dimension", dimension);
    if (options->distance != NULL)
        lh_buf_printf(body, ",\"distance\":\"%s\"", options->distance);
    append_number(body, "m", options->m);
    append_number(body, "ef_construction", options->ef_construction);
    append_number(body, "ef_search", options->ef_search);
    append_number(body, "shards", options->shards);
    lh_buf_append_char(body, '}');
}

static const char *const info_columns[] = {
    "name",   "dimension", "distance", "m",     "ef_construction", "ef_search",
    "shards", "count",     "state",    "bytes", "reason"};

#define INFO_COLUMNS (sizeof info_columns / sizeof *info_columns)

/* A list has a row an index; one index has a row a member. */
static void print_info(struct lh_json info)
{
    struct lh_table table = {.columns = 2};
    for (size_t i = 0; i < INFO_COLUMNS; i++) {
        struct lh_json value;
        if (!lh_json_get(info, info_columns[i], &value))
            continue;
        lh_table_add(&table, lh_str_of(info_columns[i]));
        lh_table_add_json(&table, value);
    }
    lh_table_print(&table);
}

static void print_list(struct lh_json root)
{
    struct lh_json list, info, value;
    struct lh_table table = {.columns = INFO_COLUMNS - 1}; /* reasons only in info */
    if (!lh_json_get(root, "indexes", &list) || lh_json_count(list) == 0) {
        printf("no index yet; make one with: lakehouse index create NAME --dimension N\n");
        return;
    }
    for (size_t i = 0; i < table.columns; i++)
        lh_table_add(&table, lh_str_of(info_columns[i]));
    for (struct lh_json_iter iter = lh_json_elements(list); lh_json_next(&iter, &info);) {
        for (size_t i = 0; i < table.columns; i++) {
            if (lh_json_get(info, info_columns[i], &value))
                lh_table_add_json(&table, value);
            else
                lh_table_add(&table, LH_STR("-"));
        }
    }
    lh_table_print(&table);
}

/* Sends one request about an index and prints its answer with `print`, or as it is for --json. */
static enum lh_cli_exit ask(const struct lh_cli_options *options, const char *method,
                            const char *name, struct lh_str body, int wanted,
                            void (*print)(struct lh_json root))
{
    struct lh_client *client = lh_client_create(options);
    struct lh_answer answer = {0};
    struct lh_json_doc *doc = NULL;
    struct lh_json root;
    enum lh_cli_exit result = LH_CLI_USAGE;
    char *path = NULL;
    if (client == NULL ||
        (name != NULL && (path = lh_client_index_path(client, name, NULL, NULL)) == NULL))
        goto done;
    lh_client_call(client, method, path != NULL ? path : "/v1/vectors/index", "application/json",
                   body, &answer);
    result = LH_CLI_OK;
    if (answer.http != wanted)
        result = lh_client_complain(client, &answer);
    else if (options->json)
        lh_print_raw(&answer.body);
    else if (print != NULL &&
             lh_json_doc_create(lh_buf_str(&answer.body), &doc, &root, NULL) == LH_OK)
        print(root);
done:
    lh_json_doc_destroy(doc);
    lh_answer_deinit(&answer);
    lh_client_destroy(client);
    free(path);
    return result;
}

enum lh_cli_exit lh_cli_index_list(const struct lh_cli_options *options)
{
    if (options->word_count > 0)
        return lh_cli_usage(LH_CLI_INDEX_LIST, "\"%s\" is one word too many", options->words[0]);
    return ask(options, "GET", NULL, (struct lh_str){0}, 200, print_list);
}

enum lh_cli_exit lh_cli_index_create(const struct lh_cli_options *options)
{
    struct lh_buf body = LH_BUF_EMPTY;
    if (options->word_count != 1)
        return lh_cli_usage(LH_CLI_INDEX_CREATE, "which NAME?");
    if (options->dimension == 0)
        return lh_cli_usage(LH_CLI_INDEX_CREATE, "how long are its vectors? Add --dimension N");
    lh_cli_index_body(options, options->words[0], options->dimension, &body);
    enum lh_cli_exit result = ask(options, "POST", NULL, lh_buf_str(&body), 201, print_info);
    lh_buf_deinit(&body);
    return result;
}

enum lh_cli_exit lh_cli_index_info(const struct lh_cli_options *options)
{
    if (options->word_count != 1)
        return lh_cli_usage(LH_CLI_INDEX_INFO, "which NAME?");
    return ask(options, "GET", options->words[0], (struct lh_str){0}, 200, print_info);
}

enum lh_cli_exit lh_cli_index_delete(const struct lh_cli_options *options)
{
    if (options->word_count != 1)
        return lh_cli_usage(LH_CLI_INDEX_DELETE, "which NAME?");
    enum lh_cli_exit result =
        ask(options, "DELETE", options->words[0], (struct lh_str){0}, 204, NULL);
    if (result == LH_CLI_OK && !options->json)
        printf("deleted index %s\n", options->words[0]);
    return result;
}

enum lh_cli_exit lh_cli_health(const struct lh_cli_options *options)
{
    if (options->word_count > 0)
        return lh_cli_usage(LH_CLI_HEALTH, "\"%s\" is one word too many", options->words[0]);
    struct lh_client *client = lh_client_create(options);
    struct lh_answer answer = {0};
    enum lh_cli_exit result = LH_CLI_OK;
    if (client == NULL)
        return LH_CLI_USAGE;
    lh_client_call(client, "GET", "/healthz", NULL, (struct lh_str){0}, &answer);
    if (answer.http != 200) {
        result = lh_client_complain(client, &answer);
        goto done;
    }
    lh_client_call(client, "GET", "/readyz", NULL, (struct lh_str){0}, &answer);
    if (answer.http != 200 && answer.http != 503)
        result = lh_client_complain(client, &answer);
    else if (options->json)
        lh_print_raw(&answer.body);
    else
        printf("%s is alive and %s\n", options->url,
               answer.http == 200 ? "ready" : "still loading its indexes");
    if (answer.http == 503)
        result = LH_CLI_REFUSED;
done:
    lh_answer_deinit(&answer);
    lh_client_destroy(client);
    return result;
}
