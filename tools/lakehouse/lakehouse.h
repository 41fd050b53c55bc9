/* The command-line client: what its files share.
 *
 * A command is one function that takes the parsed options and returns an exit status; it has said
 * on stderr whatever the user needs to know by then. */
#ifndef LH_CLI_LAKEHOUSE_H
#define LH_CLI_LAKEHOUSE_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include <stdint.h>
#include <stdio.h>

#define LH_CLI_URL             "http://127.0.0.1:3110"
#define LH_CLI_CONNECTIONS_MAX 256u
#define LH_CLI_BATCH_MAX       4096u /* what the server applies at once */

enum lh_cli_exit {
    LH_CLI_OK = 0,
    LH_CLI_REFUSED = 1,     /* the server said no */
    LH_CLI_USAGE = 2,       /* the command line, or a file that it names, is wrong */
    LH_CLI_UNREACHABLE = 3, /* no answer from the server */
};

enum lh_cli_command {
    LH_CLI_IMPORT,
    LH_CLI_SEARCH,
    LH_CLI_GET,
    LH_CLI_DELETE,
    LH_CLI_INDEX_LIST,
    LH_CLI_INDEX_CREATE,
    LH_CLI_INDEX_DELETE,
    LH_CLI_INDEX_INFO,
    LH_CLI_HEALTH,
    LH_CLI_LHV1_INSPECT,
    LH_CLI_LHV1_VERIFY,
    LH_CLI_COMMANDS,
};

/* Zero or NULL: not given. */
struct lh_cli_options {
    const char *url;
    const char *token;
    const char *index;
    const char *format;
    const char *ids;
    const char *encoding;
    const char *distance;
    const char *id;
    const char *vector;
    const char *vector_file;
    uint32_t connections;
    uint32_t batch;
    uint32_t dimension;
    uint32_t shards;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t ef_search;
    uint32_t ef;
    uint32_t k;
    bool json;
    bool help;
    char **words; /* the arguments that are no options */
    int word_count;
};

/* Reads the arguments behind the command's name; false: a mistake, which has been said. `words` is
 * argv itself, reordered. */
bool lh_cli_parse(enum lh_cli_command command, int argc, char **argv,
                  struct lh_cli_options *options);

/* The help of one command, or with LH_CLI_COMMANDS of the client. */
const char *lh_cli_help(enum lh_cli_command command);
const char *lh_cli_name(enum lh_cli_command command);

/* "lakehouse: " and the message on stderr. */
void lh_cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a mistake in the command line, with the pointer to the help. Returns
 * LH_CLI_USAGE. */
enum lh_cli_exit lh_cli_usage(enum lh_cli_command command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum lh_cli_exit lh_cli_import(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_search(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_get(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_delete(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_index_list(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_index_create(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_index_delete(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_index_info(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_health(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_lhv1_inspect(const struct lh_cli_options *options);
enum lh_cli_exit lh_cli_lhv1_verify(const struct lh_cli_options *options);

/* The body that creates index `name`. */
void lh_cli_index_body(const struct lh_cli_options *options, const char *name, uint32_t dimension,
                       struct lh_buf *body);

#endif
