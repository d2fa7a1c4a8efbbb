"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from ...core.errors import CraqenError, NotFoundError
from ...core.limits import KEY_BYTES_MAX
from ...core.meta.records import WriteConditions
from .. import documents
from ..conditions import delete_conditions
from ..documents import DeleteFailure
from ..errors import S3Error, from_core
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..request_documents import parse_delete


async def delete_object(exchange: Exchange) -> Reply:
    """DeleteObject; removing what is not there succeeds."""
    exchange.refuse_version()
    await exchange.services.meta.delete_object(
        exchange.bucket, exchange.key, conditions=delete_conditions(exchange.headers)
    )
    return Reply(204)


async def delete_objects(exchange: Exchange) -> Reply:
    """DeleteObjects: each key by itself."""
    request = parse_delete(await read_document(exchange, checksum_required=True))
    deleted: list[tuple[bytes, str]] = []
    failures: list[DeleteFailure] = []
    wanted: list[tuple[bytes, WriteConditions]] = []
    versions: list[str] = []
    for item in request.items:
        if item.version_id not in ("", "null"):
            failures.append(DeleteFailure(item.key, item.version_id, S3Error("NoSuchVersion")))
        elif len(item.key) > KEY_BYTES_MAX:
            deleted.append((item.key, item.version_id))
        else:
            wanted.append((item.key, item.conditions))
            versions.append(item.version_id)
    outcomes = await exchange.services.meta.delete_objects(exchange.bucket, wanted)
    for (key, _), version, outcome in zip(wanted, versions, outcomes, strict=True):
        if outcome is None:
            deleted.append((key, version))
        elif isinstance(outcome, CraqenError):
            error = from_core(outcome, bucket=exchange.bucket, key=key)
            if isinstance(outcome, NotFoundError):
                error = S3Error("NoSuchKey")
            failures.append(DeleteFailure(key, version, error))
        else:
            raise outcome
    return xml_reply(documents.delete_result(deleted, failures, quiet=request.quiet))
