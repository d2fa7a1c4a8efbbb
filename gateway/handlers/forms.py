"""Upload by an HTML form: POST to the bucket, signed by a policy or by nobody."""

from __future__ import annotations

import re
import time
from urllib.parse import quote, quote_from_bytes, urlencode, urlsplit

import msgspec

from ...core.events.records import CREATED_POST
from ...core.limits import INLINE_BYTES_MAX, KIB, PUT_BYTES_MAX
from ...core.meta.records import PutResult
from .. import documents
from ..access.acls import acl_of_new_object
from ..attributes import attributes_of, checksum_headers
from ..body.checksums import ALGORITHMS, FULL_OBJECT
from ..body.digest import quote_etag
from ..body.verification import BodyVerifier
from ..bucket_guard import check_payer
from ..encryption import encryption_headers, seal_new
from ..errors import invalid_argument
from ..exchange import Exchange
from ..expiration import expiration_header
from ..forms.parser import FileDecoder, FormHead, boundary_of
from ..forms.policy import check_policy, parse_policy
from ..names import check_key
from ..object_lock import lock_of_request
from ..receive import Body, Received, receive_segment, small_content
from ..reply import XML_TYPE, Reply
from ..request_documents import parse_tagging
from .multipart import DEFAULT_ALGORITHM

_READ_BYTES = 16 * KIB
_FILE_NAME = "${filename}"
_HEADER_FIELDS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
        "expires",
    }
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")  # what a header may be called, and is told again
_OF_THE_REQUEST = ("content-", "x-amz-", "authorization", "expires", "cache-control")


async def post_object(exchange: Exchange) -> Reply:
    """PostObject: fields first, then the file, which becomes the object."""
    boundary = boundary_of(exchange.headers.get("content-type", ""))
    length = exchange.headers.get("content-length")
    body = Body(exchange)
    head, taken = await _read_head(body, boundary)
    least, most = await _accept(exchange, head)
    exchange.note_origin(CREATED_POST)
    headers = exchange.headers
    attributes = attributes_of(headers)
    lock = await lock_of_request(exchange, with_body=True)
    acl = await acl_of_new_object(exchange)
    sealing = await seal_new(exchange)
    verifier = BodyVerifier.for_request(
        headers, exchange.authentication, length_bytes=None, default=ALGORITHMS[DEFAULT_ALGORITHM]
    )
    body.length = None
    body.decoder = FileDecoder(boundary, least=least, most=most)
    if length is not None and int(length) - taken <= INLINE_BYTES_MAX:
        received = await _receive_small(exchange, body, verifier)
    else:
        received = await receive_segment(exchange, body, verifier)
    result = received.result
    put = await received.put_by(
        exchange.services.meta.put_object(
            exchange.bucket,
            exchange.key,
            received.content,
            msgspec.structs.replace(
                attributes,
                etag=result.md5 if sealing is None else sealing.etag(result.md5),
                encryption=None if sealing is None else sealing.encryption,
                checksums=result.checksums,
                checksum_type=FULL_OBJECT,
                lock=lock,
                acl=acl,
            ),
            exchange.owner,
        )
    )
    exchange.object_bytes = put.inode.size
    told = checksum_headers(result.checksums, FULL_OBJECT)
    told |= encryption_headers(None if sealing is None else sealing.encryption)
    return _answer(exchange, head.fields, put, told)


async def _read_head(body: Body, boundary: bytes) -> tuple[FormHead, int]:
    """The fields, and how many bytes of the body were taken before the file. Raises S3Error."""
    head = FormHead(boundary)
    piece = memoryview(bytearray(_READ_BYTES))
    taken = 0
    while count := await body.fill(piece):
        taken += count
        rest = head.feed(piece[:count])
        if rest is not None:
            body.unread(rest)
            return head, taken - len(rest)
    raise head.missing_file()


async def _accept(exchange: Exchange, head: FormHead) -> tuple[int, int]:
    """Make the exchange that of the form: its signer, key and headers. Returns how many bytes the
    file must have at least and at most.

    Raises S3Error if form, signature, policy or rights do not allow it.
    """
    fields = head.fields
    key = fields.get("key", "").replace(_FILE_NAME, head.file_name)
    if not key:
        raise invalid_argument(
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the "
            "order of the fields.",
            name="key",
            value="",
        )
    services, now_seconds = exchange.services, time.time()
    authentication = await services.authenticator.verify_form(fields, now_seconds)
    exchange.authentication = authentication
    exchange.identity = authentication.credentials.identity
    least, most = 0, PUT_BYTES_MAX
    if "policy" in fields:
        policy = parse_policy(fields["policy"])
        check_policy(policy, {**fields, "key": key}, exchange.bucket, now_seconds)
        least, most = policy.least, policy.most
    exchange.key = key.encode()
    check_key(exchange.key)
    exchange.headers = _headers(exchange, fields)
    exchange.route = exchange.route._replace(operation="PutObject", key=exchange.key)
    check_payer(exchange)
    await services.authorizer.authorize(exchange)
    return least, most


def _headers(exchange: Exchange, fields: dict[str, str]) -> dict[str, str]:
    """The headers of a PUT that would do the same. Raises S3Error InvalidArgument."""
    headers = {
        name: value
        for name, value in exchange.headers.items()
        if not name.startswith(_OF_THE_REQUEST)
    }
    for name, value in fields.items():
        if name in _HEADER_FIELDS or name.startswith("x-amz-"):
            if not _TOKEN.fullmatch(name):
                raise invalid_argument("A field's name is no header's name", name=name, value="")
            headers[name] = value
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    if fields.get("tagging"):
        headers["x-amz-tagging"] = urlencode(parse_tagging(fields["tagging"].encode()))
    return headers


async def _receive_small(exchange: Exchange, body: Body, verifier: BodyVerifier) -> Received:
    """The file of a form that is at most INLINE_BYTES_MAX long from here on."""
    decoder = body.decoder
    assert decoder is not None
    piece = memoryview(bytearray(INLINE_BYTES_MAX))
    count = await body.fill(piece)
    data = b"".join(decoder.feed(piece[:count]))
    decoder.finish()
    verifier.update(data)
    return Received(small_content(exchange, data), verifier.finish(), None)


def _answer(
    exchange: Exchange, fields: dict[str, str], put: PutResult, told: dict[str, str]
) -> Reply:
    """204, or what the form asks for instead: 200, 201 with a document, or a redirect."""
    etag = quote_etag(put.inode.effective_etag())
    scheme = "https" if exchange.request.protocol.ssl_context is not None else "http"
    host = exchange.headers.get("host", "")
    location = f"{scheme}://{host}/{exchange.bucket}/{quote_from_bytes(exchange.key)}"
    headers = {"ETag": etag, "Location": location, **told}
    headers |= expiration_header(exchange, put.inode)
    if put.version_id:
        headers["x-amz-version-id"] = put.version_id
    target = fields.get("success_action_redirect", fields.get("redirect", ""))
    if _is_address(target):
        key = exchange.key.decode()
        query = urlencode({"bucket": exchange.bucket, "key": key, "etag": etag}, quote_via=quote)
        headers["Location"] = f"{target}{'&' if '?' in target else '?'}{query}"
        return Reply(303, headers)
    wanted = fields.get("success_action_status", "")
    if wanted == "201":
        headers["Content-Type"] = XML_TYPE
        document = documents.post_response(
            location, exchange.bucket, exchange.key, put.inode.effective_etag()
        )
        return Reply(201, headers, document)
    return Reply(200 if wanted == "200" else 204, headers)


def _is_address(text: str) -> bool:
    """Whether *text* is where a browser can be sent."""
    if not text.isascii() or any(character <= " " for character in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
