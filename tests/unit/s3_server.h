/* A real S3 server for tests in C: tests/http/swift_server.py as a child process. */
#ifndef TESTS_UNIT_S3_SERVER_H
#define TESTS_UNIT_S3_SERVER_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define S3_REGION     "eu-test-1"
#define S3_BUCKET     "lake"
#define S3_ACCESS_KEY "test:tester"
#define S3_SECRET_KEY "secret/with+signs="

struct s3_server {
    pid_t pid;
    unsigned port;
    char folder[64];
};

/* False: this machine has no Swift, and the tests are to be skipped. */
static bool s3_server_start(struct s3_server *server)
{
    int pipes[2];
    char line[32] = "";
    if (system("/usr/bin/python3 -c 'import swift, eventlet' 2>/dev/null") != 0)
        return false;
    strcpy(server->folder, "/tmp/lakehoused-s3-XXXXXX");
    if (mkdtemp(server->folder) == NULL || pipe(pipes) != 0)
        abort();
    server->pid = fork();
    if (server->pid == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        execl("/usr/bin/python3", "python3", LH_TESTS_FOLDER "/http/swift_server.py",
              server->folder, "0", (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    FILE *out = fdopen(pipes[0], "r");
    if (server->pid < 0 || out == NULL || fgets(line, sizeof line, out) == NULL)
        abort(); /* it is here, and does not start */
    server->port = (unsigned)strtoul(line, NULL, 10);
    fclose(out);
    return true;
}

static void s3_server_end(struct s3_server *server)
{
    char command[96];
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    snprintf(command, sizeof command, "rm -rf %s", server->folder);
    if (system(command) != 0)
        abort();
}

#endif
