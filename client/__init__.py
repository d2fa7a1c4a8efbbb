"""The native client: the files of a store without a mount, for programs in Python.

``connect`` gives a ``Store`` for ordinary code, ``connect_async`` an ``AsyncStore`` for code on an
event loop. Both read and write what the mount and the S3 door show, under the path
``/bucket/folder/file``. Errors are ``OSError`` with the errno that the mount would give.

A program that can read the store's configuration is trusted with all of it: the client asks for no
permission bits, as root does not. What it makes belongs to the ids of its process.
"""

from __future__ import annotations

from .async_files import AsyncFile
from .async_store import AsyncStore, connect_async
from .files import StoreFile
from .kv_cache import AsyncKvCache, KvCacheUsage
from .kv_cache_sync import KvCache
from .records import DirectoryEntry, Read, Stat, Write
from .store import Store, connect

__all__ = [
    "AsyncFile",
    "AsyncKvCache",
    "AsyncStore",
    "DirectoryEntry",
    "KvCache",
    "KvCacheUsage",
    "Read",
    "Stat",
    "Store",
    "StoreFile",
    "Write",
    "connect",
    "connect_async",
]
