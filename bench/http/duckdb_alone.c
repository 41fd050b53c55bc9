/* A statement run by DuckDB alone, on one thread: what ingest and SQL over HTTP are measured
 * against.
 *
 *     bench_duckdb_alone [--times N] [--below M] STATEMENT
 *
 * Prints the median wall and processor seconds of a run. The statement is prepared once; where it
 * has a parameter, each run has another integer below M. */
#include <duckdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct run {
    double wall;
    double processor;
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_wall(const void *a, const void *b)
{
    double x = ((const struct run *)a)->wall, y = ((const struct run *)b)->wall;
    return (x > y) - (x < y);
}

static int run_once(duckdb_prepared_statement prepared, struct run *run)
{
    duckdb_result result;
    double wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (duckdb_execute_prepared(prepared, &result) != DuckDBSuccess) {
        fprintf(stderr, "bench_duckdb_alone: %s\n", duckdb_result_error(&result));
        duckdb_destroy_result(&result);
        return 1;
    }
    duckdb_destroy_result(&result);
    *run = (struct run){seconds(CLOCK_MONOTONIC) - wall,
                        seconds(CLOCK_PROCESS_CPUTIME_ID) - processor};
    return 0;
}

static int run_all(duckdb_connection connection, const char *statement, unsigned times,
                   unsigned below)
{
    duckdb_prepared_statement prepared;
    struct run *runs = calloc(times, sizeof *runs);
    int failed = runs == NULL;
    if (duckdb_prepare(connection, statement, &prepared) != DuckDBSuccess) {
        fprintf(stderr, "bench_duckdb_alone: %s\n", duckdb_prepare_error(prepared));
        failed = 1;
    }
    for (unsigned i = 0; i < times && !failed; i++) {
        if (duckdb_nparams(prepared) == 1)
            duckdb_bind_int64(prepared, 1, (int64_t)(i * 2654435761u % below));
        failed = run_once(prepared, &runs[i]);
    }
    if (!failed) {
        qsort(runs, times, sizeof *runs, by_wall);
        printf("%.6f %.6f\n", runs[times / 2].wall, runs[times / 2].processor);
    }
    duckdb_destroy_prepare(&prepared);
    free(runs);
    return failed;
}

int main(int argc, char **argv)
{
    duckdb_config config;
    duckdb_database database;
    duckdb_connection connection;
    char *reason = NULL;
    unsigned times = 1, below = 1;
    int at = 1;
    for (; at + 2 < argc; at += 2) {
        if (strcmp(argv[at], "--times") == 0)
            times = (unsigned)strtoul(argv[at + 1], NULL, 10);
        else if (strcmp(argv[at], "--below") == 0)
            below = (unsigned)strtoul(argv[at + 1], NULL, 10);
    }
    if (at + 1 != argc || times == 0 || below == 0) {
        fprintf(stderr, "bench_duckdb_alone [--times N] [--below M] STATEMENT\n");
        return 2;
    }
    if (duckdb_create_config(&config) != DuckDBSuccess ||
        duckdb_set_config(config, "threads", "1") != DuckDBSuccess ||
        duckdb_set_config(config, "memory_limit", "256MiB") != DuckDBSuccess ||
        duckdb_open_ext(NULL, &database, config, &reason) != DuckDBSuccess ||
        duckdb_connect(database, &connection) != DuckDBSuccess) {
        fprintf(stderr, "bench_duckdb_alone: DuckDB does not open: %s\n", reason ? reason : "");
        return 1;
    }
    int result = run_all(connection, argv[at], times, below);
    duckdb_disconnect(&connection);
    duckdb_close(&database);
    duckdb_destroy_config(&config);
    return result;
}
