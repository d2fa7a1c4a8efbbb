"""An object's bytes for whoever reads them in this process: decrypted, wherever they are kept."""

from __future__ import annotations

from ..core.client.encrypted import read_encrypted
from ..core.crypt.pages import open_record
from ..core.meta.records import ObjectView
from .exchange import Services, content_size


def opened_inline(view: ObjectView, data_key: bytes | None) -> bytes | None:
    """The content that is kept in a record, as long as the object is; None if it is elsewhere.
    Raises DataLossError."""
    size = content_size(view.inode)
    if size == 0:
        return b""
    data = view.inline_data
    if data is None:
        return None
    if data_key is not None:
        data = open_record(data_key, data)
    return data.ljust(size, b"\0")  # grown by truncation, it ends in zeros


class Content:
    """The content of one object as one transaction saw it."""

    def __init__(self, services: Services, view: ObjectView, data_key: bytes | None) -> None:
        """*data_key*: as ``encryption.open_key`` gave it. Raises DataLossError."""
        self._services = services
        self._inode = view.inode
        self._data_key = data_key
        self.size = content_size(view.inode)
        self.inline = opened_inline(view, data_key)
        """All of it, if it is small."""

    async def read(self, offset: int, into: memoryview) -> None:
        """Fill *into* from *offset*; the range is inside the object. Raises CraqenError."""
        if self.inline is not None:
            into[:] = self.inline[offset : offset + len(into)]
            return
        services, inode = self._services, self._inode
        extents = await services.meta.extents(inode, offset, len(into))
        if self._data_key is None:
            await services.data.read(extents, offset, into, generation=inode.generation)
        else:
            await read_encrypted(
                services.data, services.executor, self._data_key, extents, offset, into
            )
