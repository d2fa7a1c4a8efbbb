"""Request headers in the one form that all pure modules take: lower-case names, one text each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Headers = Mapping[str, str]
"""Lower-case names; values of repeated headers joined by commas, in order of arrival."""


def fold_headers(raw_headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return raw header pairs as ``Headers``.

    Values are UTF-8; other bytes survive as surrogates, so that signatures over them still verify.
    """
    folded: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name = raw_name.lower().decode("latin-1")
        value = raw_value.decode("utf-8", "surrogateescape").strip(" \t")
        present = folded.get(name)
        folded[name] = value if present is None else f"{present},{value}"
    return folded
