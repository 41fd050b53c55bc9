/* Makes 768-dimensional rows that are spread like text embeddings, from word vectors.
 *
 *     text768 glove100.fbin text768.fbin 101000
 *
 * Uniform random vectors have an intrinsic dimension as high as their dimension, which no embedding
 * has, and say nothing about a graph. These rows have one of about 23: a word vector is projected
 * to rank 32 by a fixed Gaussian matrix, made unit length, sent through a two-layer network with
 * fixed Gaussian weights, tanh(W2 tanh(W1 x)) with 256 hidden units and gains 2 and 1.5, and gets
 * Gaussian noise of 0.03 a component. One seed makes all of it, so a file can be made again.
 *
 * One thread, no state beyond main's. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD_DIMENSION 100u
#define RANK           32u
#define HIDDEN         256u
#define TEXT_DIMENSION 768u
#define GAIN_1         2.0f
#define GAIN_2         1.5f
#define NOISE          0.03f
#define SEED           42u

struct network {
    uint64_t random;
    float projection[RANK][WORD_DIMENSION];
    float weights_1[RANK][HIDDEN];
    float weights_2[HIDDEN][TEXT_DIMENSION];
};

/* splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Box and Muller: a standard normal from two uniforms, the first in (0, 1]. */
static float next_gaussian(uint64_t *state)
{
    double u = (double)((next_random(state) >> 11) + 1) / 9007199254740992.0;
    double w = (double)(next_random(state) >> 11) / 9007199254740992.0;
    return (float)(sqrt(-2 * log(u)) * cos(2 * M_PI * w));
}

static void network_init(struct network *net)
{
    net->random = SEED;
    for (uint32_t i = 0; i < RANK; i++)
        for (uint32_t j = 0; j < WORD_DIMENSION; j++)
            net->projection[i][j] = next_gaussian(&net->random);
    for (uint32_t i = 0; i < RANK; i++)
        for (uint32_t j = 0; j < HIDDEN; j++)
            net->weights_1[i][j] = GAIN_1 * next_gaussian(&net->random);
    for (uint32_t i = 0; i < HIDDEN; i++)
        for (uint32_t j = 0; j < TEXT_DIMENSION; j++)
            net->weights_2[i][j] = GAIN_2 * next_gaussian(&net->random) / sqrtf(HIDDEN);
}

static void network_run(struct network *net, const float word[WORD_DIMENSION],
                        float text[TEXT_DIMENSION])
{
    float x[RANK], hidden[HIDDEN] = {0}, squares = 1e-20f;
    for (uint32_t i = 0; i < RANK; i++) {
        x[i] = 0;
        for (uint32_t j = 0; j < WORD_DIMENSION; j++)
            x[i] += net->projection[i][j] * word[j];
        squares += x[i] * x[i];
    }
    for (uint32_t i = 0; i < RANK; i++)
        for (uint32_t j = 0; j < HIDDEN; j++)
            hidden[j] += x[i] / sqrtf(squares) * net->weights_1[i][j];

    for (uint32_t j = 0; j < TEXT_DIMENSION; j++)
        text[j] = 0;
    for (uint32_t i = 0; i < HIDDEN; i++) {
        float activation = tanhf(hidden[i]);
        for (uint32_t j = 0; j < TEXT_DIMENSION; j++)
            text[j] += activation * net->weights_2[i][j];
    }
    for (uint32_t j = 0; j < TEXT_DIMENSION; j++)
        text[j] = tanhf(text[j]) + NOISE * next_gaussian(&net->random);
}

static bool convert(struct network *net, FILE *in, FILE *out, uint32_t rows)
{
    uint32_t head[2], out_head[2] = {rows, TEXT_DIMENSION};
    if (fread(head, sizeof head, 1, in) != 1 || head[1] != WORD_DIMENSION || head[0] < rows) {
        fprintf(stderr, "text768: the input is not %u rows or more of %u dimensions\n", rows,
                WORD_DIMENSION);
        return false;
    }
    bool ok = fwrite(out_head, sizeof out_head, 1, out) == 1;
    for (uint32_t i = 0; ok && i < rows; i++) {
        float word[WORD_DIMENSION], text[TEXT_DIMENSION];
        ok = fread(word, sizeof word, 1, in) == 1;
        if (ok)
            network_run(net, word, text);
        ok = ok && fwrite(text, sizeof text, 1, out) == 1;
    }
    if (!ok)
        perror("text768");
    return ok;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: text768 GLOVE.fbin OUT.fbin ROWS\n");
        return 2;
    }
    FILE *in = fopen(argv[1], "rb"), *out = in != NULL ? fopen(argv[2], "wb") : NULL;
    struct network *net = malloc(sizeof *net);
    bool ok = false;
    if (in == NULL || out == NULL || net == NULL) {
        perror(in == NULL ? argv[1] : argv[2]);
        goto done;
    }
    network_init(net);
    ok = convert(net, in, out, (uint32_t)strtoul(argv[3], NULL, 10));
    if (ok)
        printf("%s: %s x %u\n", argv[2], argv[3], TEXT_DIMENSION);

done:
    free(net);
    if (out != NULL && fclose(out) != 0) {
        perror(argv[2]);
        ok = false;
    }
    if (in != NULL)
        fclose(in);
    return ok ? 0 : 1;
}
