"""ListObjects and ListObjectsV2."""

from __future__ import annotations

from typing import TypeVar

from ...core.meta.records import ListEntry, Listing, VersionEntry
from .. import listings
from ..access.acls import bucket_owner
from ..errors import invalid_argument
from ..exchange import Exchange
from ..listings import ListQuery, decode_token, encode_token
from ..reply import Reply, xml_reply

KEYS_MAX = 1000


def key_bytes(text: str) -> bytes:
    """A key given in the query."""
    return text.encode("utf-8", "surrogateescape")


def page_limit(text: str | None, name: str, most: int = KEYS_MAX) -> int:
    """``max-keys`` and its like. Raises S3Error InvalidArgument."""
    if text is None or text == "":
        return most
    if not (text.isascii() and text.isdigit()) or int(text) > 2**31 - 1:
        raise invalid_argument(
            f"Argument {name} must be an integer between 0 and 2147483647", name=name, value=text
        )
    return min(int(text), most)


def list_query(exchange: Exchange) -> ListQuery:
    """What all listings have in common. Raises S3Error InvalidArgument."""
    query = exchange.query
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise invalid_argument(
            "Invalid Encoding Method specified in Request", name="encoding-type", value=encoding
        )
    return ListQuery(
        exchange.bucket,
        key_bytes(query.get("prefix", "")),
        key_bytes(query.get("delimiter", "")),
        page_limit(query.get("max-keys"), "max-keys"),
        encoding == "url",
    )


async def _page(exchange: Exchange, query: ListQuery, after: bytes) -> Listing:
    page = await exchange.services.meta.list_objects(
        query.bucket,
        prefix=query.prefix,
        delimiter=query.delimiter,
        after=after,
        limit=query.limit,
    )
    return Listing(await visible(exchange, page.entries), page.next_after)


Entry = TypeVar("Entry", ListEntry, VersionEntry)


async def visible(exchange: Exchange, entries: list[Entry]) -> list[Entry]:
    """*entries* without those whose folders the sender may not read in a mount."""
    if exchange.identity.uid == 0:
        return entries
    folders = frozenset(folder_of(entry.key) for entry in entries)
    hidden = await exchange.services.authorizer.hidden_folders(exchange, folders)
    return [entry for entry in entries if folder_of(entry.key) not in hidden] if hidden else entries


def folder_of(key: bytes) -> bytes:
    """The folder, with its slash, that a mount shows *key* in: that of ``a/b/`` is ``a/``."""
    return key[: key.rfind(b"/", 0, len(key) - 1) + 1]


async def list_v1(exchange: Exchange) -> Reply:
    """ListObjects."""
    query = list_query(exchange)
    marker = key_bytes(exchange.query.get("marker", ""))
    page = await _page(exchange, query, marker)
    return xml_reply(
        listings.list_objects_v1(
            query,
            page.entries,
            marker=marker,
            next_marker=page.next_after,
            owner=await bucket_owner(exchange),
        )
    )


async def list_v2(exchange: Exchange) -> Reply:
    """ListObjectsV2."""
    query = list_query(exchange)
    token = exchange.query.get("continuation-token")
    start_after = key_bytes(exchange.query.get("start-after", ""))
    after = decode_token(token) if token else start_after
    page = await _page(exchange, query, after)
    fetch_owner = exchange.query.get("fetch-owner", "").lower() == "true"
    return xml_reply(
        listings.list_objects_v2(
            query,
            page.entries,
            start_after=start_after,
            continuation_token=token,
            next_token=None if page.next_after is None else encode_token(page.next_after),
            owner=await bucket_owner(exchange) if fetch_owner else None,
        )
    )
