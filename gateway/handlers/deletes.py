"""DeleteObject and DeleteObjects: current objects, and versions for good."""

from __future__ import annotations

from ...core.errors import CraqenError, DeleteMarkerError, NotFoundError, VersionNotFoundError
from ...core.limits import KEY_BYTES_MAX
from ...core.meta.records import DeleteOutcome, Deletion
from .. import documents
from ..conditions import delete_conditions
from ..documents import Deleted, DeleteFailure
from ..errors import S3Error, from_core
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..request_documents import DeleteItem, parse_delete

_BYPASS = "x-amz-bypass-governance-retention"


async def may_bypass(exchange: Exchange, key: bytes, version_id: str) -> bool:
    """Whether the request asks to lift GOVERNANCE retention of a version, and may."""
    if exchange.headers.get(_BYPASS, "").lower() != "true":
        return False
    try:
        await exchange.services.authorizer.require(
            exchange, "s3:BypassGovernanceRetention", exchange.bucket, key, version_id
        )
    except S3Error:
        return False  # what is not locked is deleted; the rest says AccessDenied
    return True


async def delete_object(exchange: Exchange) -> Reply:
    """DeleteObject; removing what is not there succeeds."""
    version_id = exchange.version_id
    outcome = await exchange.services.meta.delete_object(
        exchange.bucket,
        exchange.key,
        version_id=version_id,
        bypass_governance=await may_bypass(exchange, exchange.key, version_id),
        conditions=delete_conditions(exchange.headers),
    )
    headers: dict[str, str] = {}
    if outcome.version_id:
        headers["x-amz-version-id"] = outcome.version_id
    if outcome.delete_marker:
        headers["x-amz-delete-marker"] = "true"
    return Reply(204, headers)


async def delete_objects(exchange: Exchange) -> Reply:
    """DeleteObjects: each key by itself."""
    request = parse_delete(await read_document(exchange, checksum_required=True))
    deleted: list[Deleted] = []
    failures: list[DeleteFailure] = []
    wanted: list[Deletion] = []
    for item in request.items:
        if len(item.key) > KEY_BYTES_MAX:
            deleted.append(Deleted(item.key, item.version_id, DeleteOutcome(False)))
        elif (refused := await _refusal(exchange, item)) is not None:
            failures.append(DeleteFailure(item.key, item.version_id, refused))
        else:
            wanted.append(await _deletion(exchange, item))
    outcomes = await exchange.services.meta.delete_objects(exchange.bucket, wanted)
    for deletion, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, DeleteOutcome):
            deleted.append(Deleted(deletion.key, deletion.version_id, outcome))
        elif isinstance(outcome, CraqenError):
            error = _failed(exchange, deletion, outcome)
            failures.append(DeleteFailure(deletion.key, deletion.version_id, error))
        else:
            raise outcome
    exchange.deleted = [(one.key, one.version_id, "") for one in deleted] + [
        (one.key, one.version_id, one.error.code) for one in failures
    ]
    return xml_reply(documents.delete_result(deleted, failures, quiet=request.quiet))


async def _refusal(exchange: Exchange, item: DeleteItem) -> S3Error | None:
    """Why one of the keys may not be deleted; None: it may."""
    try:
        await exchange.services.authorizer.require(
            exchange, "s3:DeleteObject", exchange.bucket, item.key, item.version_id
        )
    except S3Error as error:
        return error
    return None


async def _deletion(exchange: Exchange, item: DeleteItem) -> Deletion:
    bypass = bool(item.version_id) and await may_bypass(exchange, item.key, item.version_id)
    return Deletion(item.key, item.conditions, item.version_id, bypass)


def _failed(exchange: Exchange, deletion: Deletion, error: CraqenError) -> S3Error:
    """One key's error. A condition on what is absent is NoSuchKey, also of a version or marker."""
    if isinstance(error, NotFoundError) and not isinstance(
        error, DeleteMarkerError | VersionNotFoundError
    ):
        return S3Error("NoSuchKey")
    return from_core(error, bucket=exchange.bucket, key=deletion.key)
