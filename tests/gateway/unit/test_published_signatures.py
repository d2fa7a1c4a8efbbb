"""The example signatures that AWS publishes for S3, taken literally."""

from __future__ import annotations

import asyncio
import calendar
import hashlib

import pytest

from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.chunked import ChunkDecoder, decoded_length_bytes, trailer_names
from craqen.gateway.auth.credentials import Credentials
from craqen.gateway.auth.request import Authentication, Payload, SignedRequest
from craqen.gateway.errors import S3Error
from craqen.tests.gateway.unit.signing_client import TESTER

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = calendar.timegm((2013, 5, 24, 0, 0, 0))
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class OneKey:
    def get(self, access_key: str) -> Credentials | None:
        return Credentials(ACCESS_KEY, SECRET_KEY, TESTER) if access_key == ACCESS_KEY else None

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        return None


def authenticate(request: SignedRequest, now: float = NOW) -> Authentication:
    return asyncio.run(Authenticator(OneKey(), region="us-east-1").authenticate(request, now))


def signed(
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    signature: str,
    credential_separator: str = ",",
) -> SignedRequest:
    names = ";".join(sorted(headers))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"
        f"{credential_separator}SignedHeaders={names}{credential_separator}Signature={signature}"
    )
    return SignedRequest(method, path, query, {**headers, "authorization": authorization})


BASE = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z"}

EXAMPLES = {
    "get object with range": signed(
        "GET",
        "/test.txt",
        "",
        {**BASE, "range": "bytes=0-9", "x-amz-content-sha256": EMPTY_SHA256},
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put object": signed(
        "PUT",
        "/test%24file.text",
        "",
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "host": BASE["host"],
            "x-amz-content-sha256": hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get bucket lifecycle": signed(
        "GET",
        "/",
        "lifecycle",
        {**BASE, "x-amz-content-sha256": EMPTY_SHA256},
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ", ",
    ),
    "list objects": signed(
        "GET",
        "/",
        "max-keys=2&prefix=J",
        {**BASE, "x-amz-content-sha256": EMPTY_SHA256},
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_header_examples(name: str) -> None:
    request = EXAMPLES[name]
    answer = authenticate(request)
    assert answer.credentials.access_key == ACCESS_KEY
    assert answer.payload is Payload.LITERAL
    assert answer.content_sha256 == request.headers["x-amz-content-sha256"]
    assert not answer.presigned


PRESIGNED_QUERY = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)


def test_presigned_example() -> None:
    request = SignedRequest("GET", "/test.txt", PRESIGNED_QUERY, {"host": BASE["host"]})
    assert authenticate(request, NOW + 86_400).payload is Payload.UNSIGNED
    with pytest.raises(S3Error, match="Request has expired") as caught:
        authenticate(request, NOW + 86_401)
    assert caught.value.fields["Expires"] == "2013-05-25T00:00:00Z"


def chunked_request(
    mode: str, content_length: int, seed: str, extra: dict[str, str]
) -> SignedRequest:
    headers = {
        "content-encoding": "aws-chunked",
        "content-length": str(content_length),
        "host": "s3.amazonaws.com",
        "x-amz-content-sha256": mode,
        "x-amz-date": "20130524T000000Z",
        "x-amz-decoded-content-length": "66560",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        **extra,
    }
    return signed("PUT", "/examplebucket/chunkObject.txt", "", headers, seed)


def decode(request: SignedRequest, body: bytes) -> tuple[bytes, dict[str, str]]:
    answer = authenticate(request)
    decoder = ChunkDecoder(
        answer.payload,
        decoded_length_bytes=decoded_length_bytes(request.headers),
        signing=answer.chunk_signing,
        trailer_names=trailer_names(request.headers),
    )
    payload = b"".join(bytes(piece) for piece in decoder.feed(body))
    decoder.finish()
    return payload, decoder.trailers


def chunk(size: int, signature: str) -> bytes:
    return b"%x;chunk-signature=%s\r\n" % (size, signature.encode()) + b"a" * size


def test_chunked_example() -> None:
    body = b"\r\n".join(
        [
            chunk(65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            chunk(1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            chunk(0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
            b"",
        ]
    )
    assert len(body) == 66824
    request = chunked_request(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        66824,
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        {},
    )
    payload, trailers = decode(request, body)
    assert payload == b"a" * 66560
    assert trailers == {}


def test_chunked_example_with_trailer() -> None:
    body = b"\r\n".join(
        [
            chunk(65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
            chunk(1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
            chunk(0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992")
            + b"x-amz-checksum-crc32c:sOO8/Q==",
            b"x-amz-trailer-signature:"
            b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
            b"",
            b"",
        ]
    )
    # The example's headers leave out Content-Length.
    request = chunked_request(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        0,
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        {"x-amz-trailer": "x-amz-checksum-crc32c"},
    )
    headers = dict(request.headers)
    del headers["content-length"]
    headers["authorization"] = headers["authorization"].replace("content-length;", "", 1)
    payload, trailers = decode(request._replace(headers=headers), body)
    assert payload == b"a" * 66560
    assert trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}
