/* The options of the command line, from one table. */
#include "lakehouse.h"

#include <stddef.h>

enum kind { TEXT, NUMBER, FLAG };

#define IN(command) (1u << (command))
#define ANY         (IN(LH_CLI_COMMANDS) - 1)
#define FILES       (IN(LH_CLI_LHV1_INSPECT) | IN(LH_CLI_LHV1_VERIFY)) /* without a server */
#define CREATES     (IN(LH_CLI_IMPORT) | IN(LH_CLI_INDEX_CREATE))
#define ITEMS       (IN(LH_CLI_IMPORT) | IN(LH_CLI_SEARCH) | IN(LH_CLI_GET) | IN(LH_CLI_DELETE))

struct option {
    const char *name;
    enum kind kind;
    uint32_t min, max;   /* of a number */
    const char *choices; /* of a text, parted by |; NULL: any */
    unsigned commands;
    size_t at; /* in struct lh_cli_options */
};

#define AT(member) offsetof(struct lh_cli_options, member)

/* clang-format off */
static const struct option options_known[] = {
    {"--url", TEXT, 0, 0, NULL, ANY & ~FILES, AT(url)},
    {"--token", TEXT, 0, 0, NULL, ANY & ~FILES, AT(token)},
    {"--help", FLAG, 0, 0, NULL, ANY, AT(help)},
    {"--json", FLAG, 0, 0, NULL, ANY & ~IN(LH_CLI_IMPORT), AT(json)},
    {"--index", TEXT, 0, 0, NULL, ITEMS, AT(index)},
    {"--format", TEXT, 0, 0, "fbin|npy|ndjson", IN(LH_CLI_IMPORT), AT(format)},
    {"--ids", TEXT, 0, 0, NULL, IN(LH_CLI_IMPORT), AT(ids)},
    {"--encoding", TEXT, 0, 0, "base64|json", IN(LH_CLI_IMPORT), AT(encoding)},
    {"--connections", NUMBER, 1, LH_CLI_CONNECTIONS_MAX, NULL, IN(LH_CLI_IMPORT), AT(connections)},
    {"--batch", NUMBER, 1, LH_CLI_BATCH_MAX, NULL, IN(LH_CLI_IMPORT), AT(batch)},
    {"--distance", TEXT, 0, 0, "cosine|euclidean|dot", CREATES, AT(distance)},
    {"--shards", NUMBER, 1, LH_SHARDS_MAX, NULL, CREATES, AT(shards)},
    {"--m", NUMBER, LH_M_MIN, LH_M_MAX, NULL, CREATES, AT(m)},
    {"--ef-construction", NUMBER, 1, LH_EF_MAX, NULL, CREATES, AT(ef_construction)},
    {"--ef-search", NUMBER, 1, LH_EF_MAX, NULL, CREATES, AT(ef_search)},
    {"--dimension", NUMBER, 1, LH_DIMENSION_MAX, NULL, IN(LH_CLI_INDEX_CREATE), AT(dimension)},
    {"--id", TEXT, 0, 0, NULL, IN(LH_CLI_SEARCH), AT(id)},
    {"--vector", TEXT, 0, 0, NULL, IN(LH_CLI_SEARCH), AT(vector)},
    {"--vector-file", TEXT, 0, 0, NULL, IN(LH_CLI_SEARCH), AT(vector_file)},
    {"--k", NUMBER, 1, LH_K_MAX, NULL, IN(LH_CLI_SEARCH), AT(k)},
    {"--ef", NUMBER, 1, LH_EF_MAX, NULL, IN(LH_CLI_SEARCH), AT(ef)},
};
/* clang-format on */

/* Whether `text` is one of `choices`. */
static bool is_choice(const char *text, const char *choices)
{
    size_t len = strlen(text);
    for (const char *at = choices; len > 0; at++) {
        size_t choice_len = strcspn(at, "|");
        if (choice_len == len && memcmp(at, text, len) == 0)
            return true;
        at += choice_len;
        if (*at == '\0')
            break;
    }
    return false;
}

/* False: a mistake, which has been said. */
static bool set_option(enum lh_cli_command command, const struct option *option, const char *value,
                       struct lh_cli_options *options)
{
    char *at = (char *)options + option->at;
    uint64_t number;
    switch (option->kind) {
    case FLAG:
        *(bool *)(void *)at = true;
        return true;
    case TEXT:
        if (option->choices != NULL ? !is_choice(value, option->choices) : value[0] == '\0') {
            lh_cli_usage(command, "%s: \"%s\" is not %s", option->name, value,
                         option->choices != NULL ? option->choices : "a value");
            return false;
        }
        *(const char **)(void *)at = value;
        return true;
    case NUMBER:
        if (!lh_str_to_u64(lh_str_of(value), &number) || number < option->min ||
            number > option->max) {
            lh_cli_usage(command, "%s: \"%s\" is not a whole number from %u to %u", option->name,
                         value, option->min, option->max);
            return false;
        }
        *(uint32_t *)(void *)at = (uint32_t)number;
        return true;
    }
    return false;
}

/* The option called as the first `len` bytes of `text`, for `command`. */
static const struct option *find_option(enum lh_cli_command command, const char *text, size_t len)
{
    for (size_t i = 0; i < sizeof options_known / sizeof *options_known; i++) {
        const struct option *option = &options_known[i];
        if ((option->commands & IN(command)) != 0 && strlen(option->name) == len &&
            memcmp(option->name, text, len) == 0)
            return option;
    }
    return NULL;
}

/* Reads argv[*at], an option, with its value, which may stand behind = or in the next word. */
static bool parse_option(enum lh_cli_command command, int argc, char **argv, int *at,
                         struct lh_cli_options *options)
{
    const char *text = strcmp(argv[*at], "-h") == 0 ? "--help" : argv[*at];
    size_t len = strcspn(text, "=");
    const struct option *option = find_option(command, text, len);
    const char *value = text[len] == '=' ? text + len + 1 : NULL;
    if (option == NULL) {
        lh_cli_usage(command, "%.*s is no option of it", (int)len, text);
        return false;
    }
    if (option->kind == FLAG && value != NULL) {
        lh_cli_usage(command, "%s takes no value", option->name);
        return false;
    }
    if (option->kind != FLAG && value == NULL) {
        if (*at + 1 >= argc) {
            lh_cli_usage(command, "%s needs a value", option->name);
            return false;
        }
        value = argv[++*at];
    }
    return set_option(command, option, value, options);
}

bool lh_cli_parse(enum lh_cli_command command, int argc, char **argv,
                  struct lh_cli_options *options)
{
    bool only_words = false; /* behind -- */
    *options = (struct lh_cli_options){.url = LH_CLI_URL, .words = argv};
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0)
            only_words = true;
        else if (only_words || argv[i][0] != '-' || argv[i][1] == '\0')
            argv[options->word_count++] = argv[i]; /* never past i */
        else if (!parse_option(command, argc, argv, &i, options))
            return false;
    }
    return true;
}
