"""Opening a key-value store by its URL: the one place that knows every backend."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote_to_bytes

from ..errors import ConfigError
from .embedded import EmbeddedStore
from .foundationdb import FoundationDbStore
from .lmdb_environment import MAP_BYTES_DEFAULT
from .memory import MemoryStore
from .scratch import DURABILITY_FLUSH, DURABILITY_INTERVAL
from .store import KeyValueStore

_FORMS = "embedded:/folder, fdb:/path/to/cluster-file?prefix=name, or memory:"


def open_store(
    url: str,
    *,
    durability: str = DURABILITY_FLUSH,
    flush_interval_seconds: float = 0.1,
    map_bytes: int = MAP_BYTES_DEFAULT,
) -> KeyValueStore:
    """Open the store at *url*: ``embedded:/folder``, ``fdb:/cluster/file?prefix=…`` or ``memory:``.

    ``fdb:`` alone takes the host's default cluster file; a prefix may be percent-encoded. The
    keyword arguments are for the embedded store (see EmbeddedStore, which says what durability
    ``interval`` risks). Raises ConfigError for another URL, and what the backends raise:
    OperatorError, MissingDependencyError, NoSpaceError, DiskError, DataLossError.
    """
    if durability not in (DURABILITY_FLUSH, DURABILITY_INTERVAL):
        raise ConfigError(f"durability is {durability!r}; expected 'flush' or 'interval'")
    scheme, separator, rest = url.partition(":")
    if separator and scheme == "embedded" and rest:
        return EmbeddedStore(
            Path(rest),
            durability=durability,
            flush_interval_seconds=flush_interval_seconds,
            map_bytes=map_bytes,
        )
    if separator and scheme == "memory" and not rest:
        return MemoryStore()
    if separator and scheme == "fdb":
        path, _, query = rest.partition("?")
        return FoundationDbStore(path or None, prefix=_prefix(url, query))
    raise ConfigError(f"the key-value store URL {url!r} is not understood; expected {_FORMS}")


def _prefix(url: str, query: str) -> bytes:
    if not query:
        return b""
    # Bytes that are not UTF-8 come through percent-encoding, so the text is split before decoding.
    name, _, value = query.partition("=")
    if name != "prefix" or "&" in value:
        raise ConfigError(f"the options of the URL {url!r} are not understood; expected {_FORMS}")
    return unquote_to_bytes(value)
