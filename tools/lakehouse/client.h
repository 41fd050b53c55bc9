/* HTTP to the server: one keep-alive connection, one request at a time (libcurl). */
#ifndef LH_CLI_CLIENT_H
#define LH_CLI_CLIENT_H

#include "lakehouse.h"

struct lh_client;

struct lh_answer {
    int http; /* status; 0: none came, and `reason` says why */
    uint32_t retry_after_s;
    struct lh_buf body;
    char reason[256];
};

/* Of --url and --token, or LAKEHOUSE_TOKEN, which must outlive it. NULL: out of memory, or a URL or
 * token that is none; it has been said. */
struct lh_client *lh_client_create(const struct lh_cli_options *options);
void lh_client_destroy(struct lh_client *client);

/* Sends one request. `body` of length 0: none. The answer is emptied first and is the caller's. */
void lh_client_call(struct lh_client *client, const char *method, const char *path,
                    const char *content_type, struct lh_str body, struct lh_answer *answer);

/* "/v1/vectors/index/NAME" + `rest` + ID, escaped. `rest` and `id` may be NULL. The caller's to
 * free; NULL: out of memory. */
char *lh_client_index_path(struct lh_client *client, const char *name, const char *rest,
                           const char *id);

/* Says why the answer is none that was wanted, and gives the exit status for it. */
enum lh_cli_exit lh_client_complain(const struct lh_client *client, const struct lh_answer *answer);

/* The code and the message of an error answer, or of a missing one. */
void lh_answer_error(const struct lh_answer *answer, char *code, size_t code_size, char *message,
                     size_t message_size);

void lh_answer_deinit(struct lh_answer *answer);

#endif
