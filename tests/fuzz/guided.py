"""``python -m craqen.tests.fuzz.guided TARGET …``: one target under atheris, which leads mutations
by the coverage of the product's code. What follows the name are options of libFuzzer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    fuzzer: Any = atheris  # publishes no types
    with fuzzer.instrument_imports(include=["craqen.core", "craqen.gateway"]):
        from .targets import target_named
    target = target_named(arguments[0])
    fuzzer.Setup([sys.argv[0], *arguments[1:]], target.run)
    fuzzer.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
