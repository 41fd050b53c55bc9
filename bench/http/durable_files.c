/* The plain way to durable files, as fast as threads can do it: each writes one file after another.
 *
 *     bench_durable_files FOLDER THREADS BYTES SECONDS
 *
 * A file is written under a name of its own, synced (fdatasync) and renamed, and its folder is
 * synced (fsync) before it counts: what a put must have done when it is answered. All files go to
 * one folder. Prints how many were written, and in which time. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct writer {
    const char *folder;
    unsigned number;
    size_t bytes;
    uint64_t until_ns;
    uint64_t files;
    pthread_t thread;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(int rc, const char *doing)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_durable_files: %s: %s\n", doing, strerror(errno));
    exit(1);
}

static void write_one(const struct writer *writer, const char *bytes)
{
    char temp[512];
    char name[512];
    snprintf(temp, sizeof temp, "%s/%u.tmp", writer->folder, writer->number);
    snprintf(name, sizeof name, "%s/%u-%llu", writer->folder, writer->number,
             (unsigned long long)writer->files);
    int file = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(file, "open");
    for (size_t done = 0; done < writer->bytes;) {
        ssize_t put = write(file, bytes + done, writer->bytes - done);
        check((int)put, "write");
        done += (size_t)put;
    }
    check(fdatasync(file), "fdatasync");
    check(close(file), "close");
    check(rename(temp, name), "rename");
    int folder = open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(folder, "open the folder");
    check(fsync(folder), "fsync");
    check(close(folder), "close");
}

static void *run(void *arg)
{
    struct writer *writer = arg;
    char *bytes = malloc(writer->bytes);
    check(bytes == NULL ? -1 : 0, "malloc");
    memset(bytes, (int)writer->number, writer->bytes);
    while (now_ns() < writer->until_ns) {
        write_one(writer, bytes);
        writer->files++;
    }
    free(bytes);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned count = argc == 5 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (count == 0 || count > 1024) {
        fprintf(stderr, "usage: bench_durable_files FOLDER THREADS BYTES SECONDS\n");
        return 2;
    }
    struct writer *writers = calloc(count, sizeof *writers);
    uint64_t since_ns = now_ns();
    uint64_t files = 0;
    check(writers == NULL ? -1 : 0, "calloc");
    for (unsigned i = 0; i < count; i++) {
        writers[i] = (struct writer){
            .folder = argv[1],
            .number = i,
            .bytes = strtoul(argv[3], NULL, 10),
            .until_ns = since_ns + (uint64_t)(strtod(argv[4], NULL) * 1e9),
        };
        errno = pthread_create(&writers[i].thread, NULL, run, &writers[i]);
        check(errno == 0 ? 0 : -1, "pthread_create");
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(writers[i].thread, NULL);
        files += writers[i].files;
    }
    printf("files %llu seconds %.3f\n", (unsigned long long)files,
           (double)(now_ns() - since_ns) / 1e9);
    free(writers);
    return 0;
}
