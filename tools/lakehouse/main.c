/* lakehouse: the command-line client. Finds the command and runs it. */
#include "lakehouse.h"

#include <curl/curl.h>
#include <stdarg.h>

void lh_cli_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout); /* in order, where both go to one file */
    fputs("lakehouse: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

enum lh_cli_exit lh_cli_usage(enum lh_cli_command command, const char *format, ...)
{
    const char *name = lh_cli_name(command);
    va_list args;
    va_start(args, format);
    fprintf(stderr, "lakehouse%s%s: ", name[0] != '\0' ? " " : "", name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nlakehouse help%s%s explains it.\n", name[0] != '\0' ? " " : "", name);
    va_end(args);
    return LH_CLI_USAGE;
}

/* The command that the arguments begin with, and how many words its name is; LH_CLI_COMMANDS:
 * none. */
static enum lh_cli_command find_command(int argc, char **argv, int *words)
{
    char name[64];
    for (*words = 1; *words <= 2 && *words <= argc; ++*words) {
        if (*words == 1)
            snprintf(name, sizeof name, "%s", argv[0]);
        else
            snprintf(name, sizeof name, "%s %s", argv[0], argv[1]);
        for (enum lh_cli_command c = 0; c < LH_CLI_COMMANDS; c++) {
            if (strcmp(name, lh_cli_name(c)) == 0)
                return c;
        }
    }
    return LH_CLI_COMMANDS;
}

/* Commands of two words, by their first. */
struct group {
    const char *name;
    const char *seconds;
    enum lh_cli_command first, last;
};

static const struct group groups[] = {
    {"index", "list, create, delete or info", LH_CLI_INDEX_LIST, LH_CLI_INDEX_INFO},
    {"lhv1", "inspect or verify", LH_CLI_LHV1_INSPECT, LH_CLI_LHV1_VERIFY},
};

static const struct group *find_group(const char *name)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (strcmp(groups[i].name, name) == 0)
            return &groups[i];
    }
    return NULL;
}

static enum lh_cli_exit unknown_command(int argc, char **argv)
{
    const struct group *group = find_group(argv[0]);
    if (group == NULL)
        return lh_cli_usage(LH_CLI_COMMANDS, "\"%s\" is no command", argv[0]);
    if (argc == 1)
        return lh_cli_usage(LH_CLI_COMMANDS, "%s needs %s", group->name, group->seconds);
    return lh_cli_usage(LH_CLI_COMMANDS, "%s %s is no command; %s needs %s", group->name, argv[1],
                        group->name, group->seconds);
}

/* help, help COMMAND and help of a group. */
static enum lh_cli_exit help(int argc, char **argv)
{
    int words = 0;
    enum lh_cli_command command = argc > 0 ? find_command(argc, argv, &words) : LH_CLI_COMMANDS;
    const struct group *group = argc == 1 ? find_group(argv[0]) : NULL;
    if (group != NULL) {
        for (enum lh_cli_command c = group->first; c <= group->last; c++)
            printf("%s%s", c > group->first ? "\n" : "", lh_cli_help(c));
        return LH_CLI_OK;
    }
    if (argc > 0 && command == LH_CLI_COMMANDS)
        return unknown_command(argc, argv);
    fputs(lh_cli_help(command), stdout);
    return LH_CLI_OK;
}

static enum lh_cli_exit run(int argc, char **argv)
{
    static enum lh_cli_exit (*const handlers[])(const struct lh_cli_options *) = {
        [LH_CLI_IMPORT] = lh_cli_import,
        [LH_CLI_SEARCH] = lh_cli_search,
        [LH_CLI_GET] = lh_cli_get,
        [LH_CLI_DELETE] = lh_cli_delete,
        [LH_CLI_INDEX_LIST] = lh_cli_index_list,
        [LH_CLI_INDEX_CREATE] = lh_cli_index_create,
        [LH_CLI_INDEX_DELETE] = lh_cli_index_delete,
        [LH_CLI_INDEX_INFO] = lh_cli_index_info,
        [LH_CLI_HEALTH] = lh_cli_health,
        [LH_CLI_LHV1_INSPECT] = lh_cli_lhv1_inspect,
        [LH_CLI_LHV1_VERIFY] = lh_cli_lhv1_verify,
    };
    struct lh_cli_options options;
    int words = 0;
    enum lh_cli_command command = find_command(argc, argv, &words);
    if (command == LH_CLI_COMMANDS)
        return unknown_command(argc, argv);
    if (!lh_cli_parse(command, argc - words, argv + words, &options))
        return LH_CLI_USAGE;
    if (options.help) {
        fputs(lh_cli_help(command), stdout);
        return LH_CLI_OK;
    }
    return handlers[command](&options);
}

int main(int argc, char **argv)
{
    enum lh_cli_exit result;
    if (argc < 2) {
        fputs(lh_cli_help(LH_CLI_COMMANDS), stderr);
        return LH_CLI_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("lakehouse " LH_VERSION);
        return LH_CLI_OK;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(0, NULL);
    if (strcmp(argv[1], "help") == 0)
        return help(argc - 2, argv + 2);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        lh_cli_say("libcurl could not start");
        return LH_CLI_UNREACHABLE;
    }
    result = run(argc - 1, argv + 1);
    curl_global_cleanup();
    if (fflush(stdout) != 0 && result == LH_CLI_OK) {
        lh_cli_say("could not write the output");
        result = LH_CLI_USAGE;
    }
    return (int)result;
}
