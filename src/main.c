/* lakehoused: flags, configuration, start, signals, stop. The main thread becomes the loop. */
#include "actors/server.h"
#include "ext/toml.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

extern char **environ;

static const char usage[] =
    "usage: lakehoused [--config FILE] [--set SECTION.KEY=VALUE]... [--check]\n"
    "\n"
    "Vector search in one process. Without a file it runs on its defaults: every route on\n"
    "http://127.0.0.1:3110/v1/..., the vector routes on http://127.0.0.1:3215 too.\n"
    "\n"
    "  -c, --config FILE         read this TOML file (conf/lakehouse.toml shows every key)\n"
    "  -s, --set SECTION.KEY=V   set one key; wins over the file and over LAKEHOUSE_SECTION_KEY\n"
    "      --check               check the configuration, print what is in effect, and exit\n"
    "      --version             print the version and exit\n"
    "  -h, --help                print this and exit\n"
    "\n"
    "SIGTERM stops it after the requests in flight; a second one at once. SIGHUP makes it read\n"
    "its files again.\n"
    "Exit status: 0 stopped in order, 1 failed, 2 a mistake in the flags or the configuration.\n";

/* Where the values of a file go. */
struct file_reader {
    struct lh_config *config;
    const char *path;
};

static enum lh_status set_from_file(const char *key, struct lh_str value, enum lh_config_type type,
                                    unsigned line, void *arg, struct lh_error *error)
{
    struct file_reader *reader = arg;
    char origin[512];
    snprintf(origin, sizeof origin, "%s:%u", reader->path, line);
    return lh_config_set(reader->config, key, value, type, origin, error);
}

/* The value of "--name VALUE" or "--name=VALUE"; NULL when argv[*at] is another flag. */
static const char *flag_value(int argc, char **argv, int *at, const char *name, const char *alias)
{
    const char *flag = argv[*at];
    size_t len = strlen(name);
    if (strncmp(flag, name, len) == 0 && flag[len] == '=')
        return flag + len + 1;
    if (strcmp(flag, name) != 0 && strcmp(flag, alias) != 0)
        return NULL;
    if (*at + 1 >= argc)
        return "";
    return argv[++*at];
}

static enum lh_status read_files(struct lh_config *config, int argc, char **argv,
                                 struct lh_error *error)
{
    enum lh_status status = LH_OK;
    for (int i = 1; i < argc && status == LH_OK; i++) {
        const char *path = flag_value(argc, argv, &i, "--config", "-c");
        struct file_reader reader = {config, path};
        if (path != NULL)
            status = lh_toml_read(path, set_from_file, &reader, error);
    }
    return status;
}

static enum lh_status read_sets(struct lh_config *config, int argc, char **argv,
                                struct lh_error *error)
{
    enum lh_status status = LH_OK;
    for (int i = 1; i < argc && status == LH_OK; i++) {
        const char *set = flag_value(argc, argv, &i, "--set", "-s");
        if (set != NULL)
            status = lh_config_set_argument(config, lh_str_of(set), error);
    }
    return status;
}

/* The file first, then the environment, then --set: the nearest to the user wins. */
static enum lh_status configure(struct lh_config *config, int argc, char **argv,
                                struct lh_error *error)
{
    struct lh_services services;
    enum lh_status status = read_files(config, argc, argv, error);
    if (status == LH_OK)
        status = lh_config_set_environment(config, environ, error);
    if (status == LH_OK)
        status = read_sets(config, argc, argv, error);
    if (status == LH_OK)
        status = lh_config_check(config, error);
    if (status == LH_OK)
        status = lh_services_read(config, &services, error);
    return status;
}

struct arguments {
    int argc;
    char **argv;
};

static enum lh_status reconfigure(void *arg, struct lh_config **config, struct lh_error *error)
{
    const struct arguments *arguments = arg;
    enum lh_status status = lh_config_create(config);
    if (status != LH_OK)
        return lh_error_set(error, status, "not enough memory for the configuration");
    status = configure(*config, arguments->argc, arguments->argv, error);
    if (status != LH_OK)
        lh_config_destroy(*config);
    return status;
}

struct flags {
    bool check;
    bool help;
    bool version;
};

/* False: an argument that is none. */
static bool parse_flags(int argc, char **argv, struct flags *flags)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--check") == 0)
            flags->check = true;
        else if (strcmp(argv[i], "--version") == 0)
            flags->version = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            flags->help = true;
        else if (flag_value(argc, argv, &i, "--config", "-c") == NULL &&
                 flag_value(argc, argv, &i, "--set", "-s") == NULL) {
            fprintf(stderr, "lakehoused: \"%s\" is not a flag\n\n%s", argv[i], usage);
            return false;
        }
    }
    return true;
}

static int print_config(const struct lh_config *config)
{
    struct lh_buf out = LH_BUF_EMPTY;
    struct lh_error error;
    char note[160];
    const char *io = lh_disk_effective(lh_server_io(config), note);
    if (io == NULL) {
        fprintf(stderr, "lakehoused: server.io: %s\n", note);
        return EXIT_USAGE;
    }
    if (lh_server_check(config, &error) != LH_OK) {
        fprintf(stderr, "lakehoused: %s\n", error.text);
        return error.status == LH_CONFIG ? EXIT_USAGE : EXIT_FAILED;
    }
    lh_config_print(config, &out);
    lh_buf_printf(&out, "\n# On this machine files are written by: %s%s%s\n", io,
                  note[0] != '\0' ? ". " : "", note);
    bool is_written = !lh_buf_failed(&out) && fwrite(out.ptr, 1, out.len, stdout) == out.len;
    lh_buf_deinit(&out);
    return is_written ? EXIT_OK : EXIT_FAILED;
}

static int serve(const struct lh_config *config, struct arguments *arguments)
{
    struct lh_server server;
    struct lh_error error;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk, not the end */
    if (lh_server_start(&server, config, &error) != LH_OK) {
        fprintf(stderr, "lakehoused: %s\n", error.text);
        return error.status == LH_CONFIG ? EXIT_USAGE : EXIT_FAILED;
    }
    lh_server_reread_by(&server, reconfigure, arguments);
    if (!lh_server_run(&server))
        _exit(EXIT_FAILED); /* its threads are in the middle of something */
    lh_server_stop(&server);
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    struct flags flags = {0};
    struct arguments arguments = {argc, argv};
    struct lh_config *config = NULL;
    struct lh_error error;
    int code = EXIT_USAGE;
    if (!parse_flags(argc, argv, &flags))
        return EXIT_USAGE;
    if (flags.help || flags.version) {
        fputs(flags.help ? usage : "lakehoused " LH_VERSION "\n", stdout);
        return EXIT_OK;
    }
    if (lh_config_create(&config) != LH_OK) {
        fprintf(stderr, "lakehoused: not enough memory to start\n");
        return EXIT_FAILED;
    }
    if (configure(config, argc, argv, &error) != LH_OK)
        fprintf(stderr, "lakehoused: %s\n", error.text);
    else
        code = flags.check ? print_config(config) : serve(config, &arguments);
    lh_config_destroy(config);
    return code;
}
