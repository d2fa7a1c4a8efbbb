"""Blocks of prompts in a cache that all processes share: python examples/kv_cache.py CONFIG

CONFIG is the store's configuration; `make up` writes it to run/effective.yaml in its data folder.
"""

import hashlib
import random
import sys

import craqen.client

BLOCK_BYTES = 256 * 1024
TOKENS_PER_BLOCK = 16


def block_names(tokens: list[int]) -> list[str]:
    """A name for each whole block: it stands for all tokens up to its end."""
    ends = range(TOKENS_PER_BLOCK, len(tokens) + 1, TOKENS_PER_BLOCK)
    return [hashlib.sha256(repr(tokens[:end]).encode()).hexdigest() for end in ends]


def compute(name: str) -> bytes:
    """What a model would take long for."""
    return random.Random(name).randbytes(BLOCK_BYTES)


def answer(cache: craqen.client.KvCache, tokens: list[int]) -> tuple[int, int]:
    """Blocks that were there, and blocks that were computed."""
    names = block_names(tokens)
    buffers = [bytearray(BLOCK_BYTES) for _ in names]
    have = cache.prefix_length(names)
    lengths = cache.get_into(list(zip(names[:have], buffers[:have], strict=True)))
    have = lengths.index(None) if None in lengths else have
    missing = {name: compute(name) for name in names[have:]}
    cache.put_many(missing, ttl_seconds=3600)
    for name, buffer in zip(names[have:], buffers[have:], strict=True):
        buffer[:] = missing[name]
    assert all(buffer == compute(name) for name, buffer in zip(names, buffers, strict=True))
    return have, len(missing)


def main() -> None:
    """A prompt, and another that begins alike."""
    prompt = list(range(200))
    with craqen.client.connect(sys.argv[1]) as store:
        with craqen.client.KvCache(store, "/inference/kv", size_bytes_max=1 << 30) as cache:
            for tokens in (prompt, prompt, prompt[:100] + [7] * 100):
                have, computed = answer(cache, tokens)
                print(f"{have} blocks were there, {computed} were computed")


if __name__ == "__main__":
    main()
