"""Philox4x32-10, the reference's and the compiled element, against published words."""

from pathlib import Path

import numpy as np
import pytest
from numba import njit

from fastlam import reference
from fastlam.kernels.philox import philox as element

# Random123, examples/kat_vectors, "philox4x32 10": counter, key, words.
RANDOM123 = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
N_KNOWN_BLOCKS = 200


@njit
def compiled_on_words(counter, key):
    return element(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


def compiled(counter, key):
    return compiled_on_words(np.array(counter, np.uint64), np.array(key, np.uint64))


PHILOX = pytest.mark.parametrize("philox", [reference.philox, compiled], ids=["reference", "compiled"])


def words(text):
    return tuple(int(word, 16) for word in text.split())


def known_blocks():
    """(counter, key, words) of each line of known_answers.txt: dtype seed path block stream | words | normals."""
    for line in Path(__file__).with_name("known_answers.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            names, answer, _ = line.split("|")
            seed, path, block, stream = map(int, names.split()[1:])
            yield (path % 2**32, path // 2**32, block, stream), (seed % 2**32, seed // 2**32), words(answer)


@PHILOX
@pytest.mark.parametrize(("counter", "key", "answer"), RANDOM123)
def test_random123(philox, counter, key, answer):
    assert tuple(map(int, philox(words(counter), words(key)))) == words(answer)


@PHILOX
def test_known_answers(philox):
    blocks = list(known_blocks())
    assert len(blocks) == N_KNOWN_BLOCKS
    for counter, key, answer in blocks:
        assert tuple(map(int, philox(counter, key))) == answer, (counter, key)


def test_compiled_equals_reference():
    """On counters and keys all over: three vectors and small counters would miss a lost carry."""
    rng = np.random.default_rng(11)
    for _ in range(50):
        counter, key = rng.integers(2**32, size=4).tolist(), tuple(rng.integers(2**32, size=2).tolist())
        assert tuple(map(int, compiled(counter, key))) == tuple(map(int, reference.philox(counter, key)))
