/* The frame of every bench: options, clock, median, and adding rows. One thread.
 *
 * A bench that cannot go on exits: there is nobody to hand an error to. */
#include "bench.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char options_text[] =
    "options:\n"
    "  --data FILE    fbin; its last rows are the queries (bench/data/make makes the files)\n"
    "  --rows N       rows to index                      --queries N  queries\n"
    "  --rounds N     repetitions, each with its seed    --batch N    rows in one add\n"
    "  --m N          links a node                       --efc N      ef_construction\n"
    "  --seed N       of the first round                 --only WORDS what to run\n";

static uint32_t number(const char *name, const char *text)
{
    uint64_t value;
    if (!lh_str_to_u64(lh_str_of(text), &value) || value == 0 || value > LH_NODES_MAX) {
        fprintf(stderr, "--%s: not a positive number: %s\n", name, text);
        exit(2);
    }
    return (uint32_t)value;
}

void lh_bench_options(int argc, char **argv, const char *about, struct lh_bench_options *options)
{
    static const struct option known[] = {
        {"data", required_argument, NULL, 'd'},
        {"rows", required_argument, NULL, 'n'},
        {"queries", required_argument, NULL, 'q'},
        {"rounds", required_argument, NULL, 'r'},
        {"batch", required_argument, NULL, 'b'},
        {"m", required_argument, NULL, 'm'},
        {"efc", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},
        {"only", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int letter, at = 0;
    while ((letter = getopt_long(argc, argv, "", known, &at)) != -1) {
        switch (letter) {
        case 'd':
            options->data = optarg;
            break;
        case 'n':
            options->rows = number("rows", optarg);
            break;
        case 'q':
            options->queries = number("queries", optarg);
            break;
        case 'r':
            options->rounds = number("rounds", optarg);
            break;
        case 'b':
            options->batch = number("batch", optarg);
            break;
        case 'm':
            options->m = number("m", optarg);
            break;
        case 'e':
            options->ef_construction = number("efc", optarg);
            break;
        case 's':
            options->seed = number("seed", optarg);
            break;
        case 'o':
            options->only = optarg;
            break;
        case 'h':
            printf("%s\n%s", about, options_text);
            exit(0);
        default:
            exit(2);
        }
    }
    if (options->data == NULL) {
        printf("%s\n%s", about, options_text);
        exit(argc > 1 ? 2 : 0);
    }
}

static void processor(char name[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(name, 128, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "model name : %127[^\n]", name) == 1)
            break;
    if (file != NULL)
        fclose(file);
}

void lh_bench_print_setting(const struct lh_bench_options *options, const struct lh_dataset *data)
{
    char name[128];
    processor(name);
    const char *slash = strrchr(options->data, '/');
    printf("# %s: %u rows x %u, %u queries; m %u, ef_construction %u, batches of %u\n",
           slash != NULL ? slash + 1 : options->data, data->count, data->dimension, data->queries,
           options->m, options->ef_construction, options->batch);
    printf("# %s, kernels %s\n", name, lh_graph_kernels());
    fflush(stdout);
}

void lh_bench_check(enum lh_status status, const char *what)
{
    if (status == LH_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, lh_status_text(status));
    exit(1);
}

void lh_bench_load(const struct lh_bench_options *options, uint32_t truth_k,
                   struct lh_dataset *data)
{
    struct lh_error error;
    if (lh_dataset_load(options->data, options->rows, options->queries, truth_k, data, &error) !=
        LH_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lh_bench_median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double lh_bench_seconds(void)
{
    return (double)lh_clock_ns() / 1e9;
}

double lh_bench_cpu_seconds(void)
{
    return (double)lh_clock_thread_cpu_ns() / 1e9;
}

void *lh_bench_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        lh_bench_check(LH_OUT_OF_MEMORY, "allocation");
    return memory;
}

struct lh_graph *lh_bench_graph(const struct lh_bench_options *options, uint32_t dimension,
                                uint64_t seed)
{
    struct lh_graph_options graph_options = {.dimension = dimension,
                                             .distance = LH_DISTANCE_COSINE,
                                             .m = options->m,
                                             .ef_construction = options->ef_construction,
                                             .seed = seed};
    struct lh_graph *graph;
    lh_bench_check(lh_graph_create(&graph_options, &graph), "graph");
    return graph;
}

double lh_bench_add(struct lh_graph *graph, const struct lh_bench_options *options,
                    const float *rows, uint32_t dimension, uint32_t from, uint32_t to,
                    uint32_t *nodes)
{
    double start = lh_bench_cpu_seconds();
    for (uint32_t row = from; row < to; row += options->batch) {
        uint32_t count = to - row < options->batch ? to - row : options->batch;
        lh_bench_check(lh_graph_reserve(graph, count), "reserve");
        lh_graph_add(graph, rows + (size_t)row * dimension, count, nodes + row);
    }
    return lh_bench_cpu_seconds() - start;
}
