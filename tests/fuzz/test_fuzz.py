"""A short slice of every fuzz target: the kept corpus, and a few random inputs of a fixed seed.
``make fuzz`` plays on from there."""

from __future__ import annotations

from itertools import islice

import pytest

from craqen.tests.fuzz.engine import corpus_of, mutations, replay
from craqen.tests.fuzz.target import Target
from craqen.tests.fuzz.targets import TARGETS

RANDOM_INPUTS = 150
SEED = 20_260_528


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_gets_through(target: Target) -> None:
    corpus = corpus_of(target)
    replay(target, corpus)
    replay(target, list(islice(mutations(target, corpus, SEED), RANDOM_INPUTS)))


def test_a_finding_is_told_with_its_input() -> None:
    def fail(data: bytes) -> None:
        if b"!" in data:
            raise ValueError

    target = Target("x", fail, (b"a",))
    replay(target, [b"a"])
    with pytest.raises(ValueError) as caught:
        replay(target, [b"b!"])
    assert "b'b!'" in caught.value.__notes__[0]
