/* CSV to Parquet by DuckDB alone, on one thread: what ingest is measured against.
 *
 *     bench_copy_alone CSV PARQUET      prints wall and processor seconds of the COPY */
#include <duckdb.h>
#include <stdio.h>
#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int copy(duckdb_connection connection, const char *from, const char *to)
{
    char text[8400];
    duckdb_result result;
    snprintf(text, sizeof text,
             "COPY (FROM read_csv('%s')) TO '%s' (FORMAT parquet, COMPRESSION zstd)", from, to);
    double wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (duckdb_query(connection, text, &result) != DuckDBSuccess) {
        fprintf(stderr, "bench_copy_alone: %s\n", duckdb_result_error(&result));
        duckdb_destroy_result(&result);
        return 1;
    }
    printf("%.4f %.4f\n", seconds(CLOCK_MONOTONIC) - wall,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - processor);
    duckdb_destroy_result(&result);
    return 0;
}

int main(int argc, char **argv)
{
    duckdb_config config;
    duckdb_database database;
    duckdb_connection connection;
    char *reason = NULL;
    if (argc != 3) {
        fprintf(stderr, "bench_copy_alone CSV PARQUET\n");
        return 2;
    }
    if (duckdb_create_config(&config) != DuckDBSuccess ||
        duckdb_set_config(config, "threads", "1") != DuckDBSuccess ||
        duckdb_set_config(config, "memory_limit", "256MiB") != DuckDBSuccess ||
        duckdb_open_ext(NULL, &database, config, &reason) != DuckDBSuccess ||
        duckdb_connect(database, &connection) != DuckDBSuccess) {
        fprintf(stderr, "bench_copy_alone: DuckDB does not open: %s\n", reason ? reason : "");
        return 1;
    }
    int result = copy(connection, argv[1], argv[2]);
    duckdb_disconnect(&connection);
    duckdb_close(&database);
    duckdb_destroy_config(&config);
    return result;
}
