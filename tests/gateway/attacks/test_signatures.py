"""Signatures that cover less than they seem to, used twice, or for something else: headers, URLs,
chunks, forms, sessions, identity tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from craqen.core.identity.credentials import Credentials
from craqen.gateway.auth import signing, signing_key, sigv2
from craqen.gateway.auth.chunked import ChunkDecoder
from craqen.gateway.auth.request import ChunkSigning, Payload
from craqen.gateway.errors import S3Error
from craqen.gateway.iam.query import QueryError
from craqen.gateway.iam.tokens import check_token, parse_keys, parse_token
from craqen.tests.gateway.attacks.attack_support import code_of, new_bucket
from craqen.tests.gateway.integration.raw_client import Answer, RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway
from craqen.tests.gateway.unit.signing_client import (
    ACCESS_KEY,
    SECRET_KEY,
    TESTER,
    ChunkEncoder,
    encode_signed,
    encode_unsigned,
)

CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED = "UNSIGNED-PAYLOAD"


def fetch(raw: RawClient, url: str, method: str = "GET", **headers: str) -> Answer:
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1"]
    given = {"host": parts.netloc, **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
    raw.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    return raw.answer(head_only=method == "HEAD")


class TestUnsignedHeaders:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("x-amz-acl", "public-read"),
            ("x-amz-copy-source", "/other/secret"),
            ("x-amz-meta-injected", "1"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-bypass-governance-retention", "true"),
            ("x-amz-security-token", "token"),
            ("x-amz-website-redirect-location", "https://evil.test/"),
            ("x-amz-expected-bucket-owner", "111111111111"),
            ("X-AMZ-Meta-Case", "1"),
        ],
    )
    def test_are_not_obeyed(
        self, s3: Any, raw: RawClient, bucket: str, name: str, value: str
    ) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": "0", name: value})
        assert raw.answer().code in ("AccessDenied", "InvalidToken", "InvalidAccessKeyId")
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_a_second_value_changes_what_was_signed(self, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", {"x-amz-meta-a": "1"}, content_sha256=UNSIGNED)
        raw.send_head(request, {"content-length": "0", "X-Amz-Meta-A": "2"})
        assert raw.answer().code == "SignatureDoesNotMatch"

    def test_a_body_that_was_not_signed(self, s3: Any, raw: RawClient, bucket: str) -> None:
        request = raw.signed("PUT", f"/{bucket}/k", body=b"signed")
        raw.send_head(request, {"content-length": "6"})
        raw.send(b"forged")
        assert raw.answer().code == "XAmzContentSHA256Mismatch"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


class TestPresigned:
    @pytest.fixture
    def url(self, s3: Any, bucket: str) -> str:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        s3.put_object(Bucket=bucket, Key="secret", Body=b"the secret")
        return str(
            s3.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60
            )
        )

    def test_it_may_be_used_again_while_it_lasts(self, url: str, raw: RawClient) -> None:
        assert [fetch(raw, url).body for _ in range(2)] == [b"x", b"x"]

    @pytest.mark.parametrize(
        "tamper",
        [
            lambda url: url.replace("/k?", "/secret?"),
            lambda url: url.replace("/k?", "/k%2F..%2Fsecret?"),
            lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=604800"),
            lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=604800"),
            lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=0060"),
            lambda url: url + "&response-content-type=text/html",
            lambda url: url + "&versionId=null",
            lambda url: url + "&acl",
            lambda url: url + "&X-Amz-Acl=public-read",
            lambda url: url + "&X-Amz-Security-Token=x",
            lambda url: url.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders="),
            lambda url: url.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date"),
            lambda url: re.sub(r"X-Amz-Signature=[0-9a-f]", "X-Amz-Signature=g", url),
            lambda url: re.sub(r"X-Amz-Signature=.*", "X-Amz-Signature=", url),
            lambda url: url.replace(ACCESS_KEY, "ANOTHERKEY"),
        ],
    )
    def test_changed_urls(self, url: str, raw: RawClient, tamper: Callable[[str], str]) -> None:
        changed = tamper(url)
        assert changed != url
        answer = fetch(raw, changed)
        assert answer.status in (400, 403)
        assert b"the secret" not in answer.body

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "HEAD"])
    def test_another_method(self, url: str, raw: RawClient, method: str) -> None:
        assert fetch(raw, url, method, content_length="0").status in (403, 405)
        assert fetch(raw, url).body == b"x"

    def test_another_host(self, url: str, raw: RawClient) -> None:
        assert fetch(raw, url, host="other").code == "SignatureDoesNotMatch"

    def test_headers_that_it_does_not_cover(self, url: str, raw: RawClient) -> None:
        answer = fetch(raw, url, x_amz_server_side_encryption_customer_algorithm="AES256")
        assert answer.code == "AccessDenied"

    def test_a_key_in_the_place_of_another(
        self, url: str, raw: RawClient, stranger_keys: tuple[str, str]
    ) -> None:
        """The signature of one key does not serve another."""
        changed = url.replace(ACCESS_KEY, stranger_keys[0])
        assert fetch(raw, changed).code == "SignatureDoesNotMatch"

    def test_one_that_has_ended(self, gateway: Gateway, raw: RawClient, bucket: str) -> None:
        s3 = gateway.client()
        url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=1)
        query = dict(parse_qsl(urlsplit(url).query))
        signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        # What the signer would have signed an hour ago: everything about it is right but the time.
        old = (signed - timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
        answer = fetch(raw, url.replace(query["X-Amz-Date"], old))
        assert (answer.status, answer.code) == (403, "AccessDenied")
        assert b"expired" in answer.body
        s3.close()


class TestChunks:
    def put(
        self, raw: RawClient, bucket: str, payload: bytes, frame: Callable[[Any], bytes]
    ) -> str:
        headers = {"x-amz-decoded-content-length": str(len(payload))}
        request = raw.signed("PUT", f"/{bucket}/k", headers, content_sha256=CHUNKS)
        body = frame(request)
        raw.send_head(request, {"content-length": str(len(body))})
        raw.send(body)
        return raw.answer().code

    def pieces(self, request: Any, *payloads: bytes) -> list[bytes]:
        encoder = ChunkEncoder(request)
        return [encoder.chunk(payload) for payload in (*payloads, b"")]

    @pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (0, 1, 1, 2), (0, 2), (1, 2), (2,)])
    def test_chunks_in_another_order(
        self, s3: Any, raw: RawClient, bucket: str, order: tuple[int, ...]
    ) -> None:
        payloads = b"a" * 10_000, b"b" * 10_000

        def frame(request: Any) -> bytes:
            pieces = self.pieces(request, *payloads)
            return b"".join(pieces[number] for number in order) + b"\r\n"

        assert self.put(raw, bucket, b"".join(payloads), frame) in (
            "SignatureDoesNotMatch",
            "IncompleteBody",
        )
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_a_body_that_ends_early(self, s3: Any, raw: RawClient, bucket: str) -> None:
        def frame(request: Any) -> bytes:
            return self.pieces(request, b"a" * 10)[0]

        assert self.put(raw, bucket, b"a" * 10, frame) == "IncompleteBody"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_chunks_of_another_request(self, s3: Any, raw: RawClient, bucket: str) -> None:
        other = raw.signed("PUT", f"/{bucket}/other", content_sha256=CHUNKS)
        code = self.put(raw, bucket, b"a" * 10, lambda _: encode_signed(other, b"a" * 10, 100))
        assert code == "SignatureDoesNotMatch"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_chunks_that_nobody_signed(self, s3: Any, raw: RawClient, bucket: str) -> None:
        code = self.put(raw, bucket, b"a" * 10, lambda _: encode_unsigned(b"a" * 10, 100, {}))
        assert code in ("IncompleteBody", "SignatureDoesNotMatch")
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_a_trailer_in_the_place_of_another(self) -> None:
        key = signing_key.SigningKey(b"k")
        decoder = ChunkDecoder(
            Payload.CHUNKS_SIGNED_TRAILER,
            decoded_length_bytes=0,
            signing=ChunkSigning(key, "t", "s", "0" * 64),
            trailer_names=["x-amz-checksum-crc32"],
        )
        empty = hashlib.sha256(b"").hexdigest()
        first = key.sign(f"AWS4-HMAC-SHA256-PAYLOAD\nt\ns\n{'0' * 64}\n{empty}\n{empty}".encode())
        digest = hashlib.sha256(b"x-amz-checksum-crc32:AAAAAA==\n").hexdigest()
        last = key.sign(f"AWS4-HMAC-SHA256-TRAILER\nt\ns\n{first}\n{digest}".encode())
        decoder.feed(f"0;chunk-signature={first}\r\n".encode())
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            decoder.feed(
                f"x-amz-checksum-crc32:BBBBBB==\r\nx-amz-trailer-signature:{last}\r\n".encode()
            )


class TestForms:
    def post(self, raw: RawClient, bucket: str, fields: dict[str, str], data: bytes) -> Answer:
        name = fields.pop("file name", "f")
        text = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        )
        text += f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = text.encode() + data + b"\r\n--b--\r\n"
        head = (
            f"POST /{bucket} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        raw.send(head.encode() + body)
        return raw.answer()

    @pytest.mark.parametrize(
        "changes",
        [
            {"key": "other/k"},
            {"key": "users"},
            {"acl": "public-read"},
            {"x-amz-meta-extra": "1"},
            {"Content-Type": "text/html"},
            {"success_action_redirect": "https://evil.test/"},
            {"x-amz-website-redirect-location": "https://evil.test/"},
            {"tagging": "<Tagging><TagSet/></Tagging>"},
        ],
    )
    def test_fields_beyond_the_policy(
        self, s3: Any, raw: RawClient, bucket: str, changes: dict[str, str]
    ) -> None:
        fields = self.signed(s3, bucket)
        assert self.post(raw, bucket, fields | changes, b"12345").code == "AccessDenied"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def signed(self, s3: Any, bucket: str) -> dict[str, str]:
        limits = [["content-length-range", 2, 5]]
        return dict(s3.generate_presigned_post(bucket, "users/${filename}", None, limits)["fields"])

    def test_sizes_beyond_the_policy(self, s3: Any, raw: RawClient, bucket: str) -> None:
        assert self.post(raw, bucket, self.signed(s3, bucket), b"1").code == "EntityTooSmall"
        assert self.post(raw, bucket, self.signed(s3, bucket), b"123456").code == "EntityTooLarge"
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    @pytest.mark.parametrize("name", ["../../other/k", "..\\..\\k", "/etc/k", "a/k"])
    def test_file_names_do_not_lead_out(
        self, s3: Any, raw: RawClient, bucket: str, name: str
    ) -> None:
        fields = self.signed(s3, bucket) | {"file name": name.replace("\\", "\\\\")}
        assert self.post(raw, bucket, fields, b"123").status == 204
        assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["users/k"]

    def test_a_changed_policy(self, s3: Any, raw: RawClient, bucket: str) -> None:
        fields = self.signed(s3, bucket)
        policy = json.loads(base64.b64decode(fields["policy"]))
        policy["conditions"] = [["starts-with", "$key", ""], {"bucket": bucket}]
        changed = base64.b64encode(json.dumps(policy).encode()).decode()
        answer = self.post(raw, bucket, fields | {"policy": changed}, b"123")
        assert answer.code == "SignatureDoesNotMatch"
        del fields["policy"]
        assert self.post(raw, bucket, fields, b"123").code == "AccessDenied"

    def test_another_bucket_than_the_policy_names(
        self, s3: Any, raw: RawClient, bucket: str
    ) -> None:
        assert self.post(raw, new_bucket(s3), self.signed(s3, bucket), b"1").code == "AccessDenied"


class TestSessions:
    def test_a_token_goes_with_its_key_alone(
        self, gateway: Gateway, bucket: str, stranger_keys: tuple[str, str]
    ) -> None:
        sts = gateway.client(service="sts")
        first, second = (sts.get_session_token()["Credentials"] for _ in range(2))
        token = str(second["SessionToken"])
        mixed = [
            (first["AccessKeyId"], first["SecretAccessKey"], token),
            (first["AccessKeyId"], second["SecretAccessKey"], token),
            (second["AccessKeyId"], first["SecretAccessKey"], token),
            (ACCESS_KEY, SECRET_KEY, token),
            (*stranger_keys, token),
            (first["AccessKeyId"], first["SecretAccessKey"]),
            (first["AccessKeyId"], first["SecretAccessKey"], "x"),
        ]
        for keys in mixed:
            client = gateway.client(keys=keys)
            assert code_of(client.list_objects_v2, Bucket=bucket) in (
                "InvalidToken",
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
            )
            client.close()
        sts.close()

    def test_one_that_has_ended(self) -> None:
        ended = Credentials("A", "s", TESTER, session_token="t", expires_seconds=100.0)
        assert signing.checked_credentials(ended, "A", "t", 99.0) is ended
        with pytest.raises(S3Error, match="ExpiredToken"):
            signing.checked_credentials(ended, "A", "t", 100.0)

    def test_roles_do_not_lead_to_roles(self, gateway: Gateway, iam: Any, bucket: str) -> None:
        """A role may assume another only if both agree, and never for longer than an hour."""

        def trust(arn: str) -> str:
            statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
            return json.dumps({"Statement": statement})

        root = iam.get_user()["User"]["Arn"]
        weak = iam.create_role(RoleName="weak", AssumeRolePolicyDocument=trust(root))["Role"]
        strong = iam.create_role(RoleName="strong", AssumeRolePolicyDocument=trust(root))["Role"]
        everything = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
        iam.put_role_policy(
            RoleName="strong", PolicyName="p", PolicyDocument=json.dumps(everything)
        )
        sts = gateway.client(service="sts")

        def acting(client: Any, arn: str) -> tuple[str, str, str]:
            given = client.assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
            return given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]

        keys = acting(sts, weak["Arn"])
        weak_sts, weak_s3 = gateway.client(service="sts", keys=keys), gateway.client(keys=keys)
        wanted = {"RoleArn": strong["Arn"], "RoleSessionName": "session"}
        assert code_of(weak_sts.assume_role, **wanted) == "AccessDenied"
        assert code_of(weak_s3.list_objects_v2, Bucket=bucket) == "AccessDenied"
        iam.update_assume_role_policy(RoleName="strong", PolicyDocument=trust(weak["Arn"]))
        assert code_of(weak_sts.assume_role, **wanted, DurationSeconds=7200) in (
            "ValidationError",
            "AccessDenied",
        )
        for client in (sts, weak_sts, weak_s3):
            client.close()


class TestIdentityTokens:
    KEY = rsa.generate_private_key(65537, 2048)

    def keys(self) -> Any:
        numbers = self.KEY.public_key().public_numbers()
        n = numbers.n.to_bytes(256, "big")
        entry = {"kty": "RSA", "kid": "r", "e": "AQAB", "n": self.encoded(n)}
        return parse_keys(json.dumps({"keys": [entry]}).encode())

    def encoded(self, data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def token(self, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
        claims = {"iss": "https://i", "sub": "me", "aud": "app", "exp": 4_000_000_000}
        signed = f"{self.encoded(json.dumps(header).encode())}."
        signed += self.encoded(json.dumps(claims).encode())
        return f"{signed}.{self.encoded(sign(signed.encode()))}"

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256", "ES256"])
    def test_no_signature_at_all(self, algorithm: str) -> None:
        token = parse_token(self.token({"alg": algorithm, "kid": "r"}, lambda _: b""))
        with pytest.raises(QueryError, match="InvalidIdentityToken"):
            check_token(token, self.keys(), 1_000.0)

    @pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
    def test_the_public_key_as_a_shared_secret(self, form: Encoding) -> None:
        public = self.KEY.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
        for algorithm in ("HS256", "RS256"):
            text = self.token(
                {"alg": algorithm, "kid": "r"}, lambda data: hmac.digest(public, data, "sha256")
            )
            with pytest.raises(QueryError, match="InvalidIdentityToken"):
                check_token(parse_token(text), self.keys(), 1_000.0)

    def test_a_key_that_the_token_brings_along(self) -> None:
        header = {"alg": "RS256", "jwk": {"kty": "oct", "k": "AA"}, "jku": "https://evil.test/"}
        with pytest.raises(QueryError, match="InvalidIdentityToken"):
            check_token(parse_token(self.token(header, lambda _: b"x")), self.keys(), 1_000.0)

    def test_a_token_for_somebody_else(self, gateway: Gateway) -> None:
        """Audience and issuer that nobody registered are refused before anything is fetched."""
        sts = gateway.client(service="sts")
        text = self.token({"alg": "RS256", "kid": "r"}, lambda _: b"x")
        arguments = {"RoleArn": "arn:aws:iam::000000000000:role/r", "RoleSessionName": "session"}
        found = code_of(sts.assume_role_with_web_identity, **arguments, WebIdentityToken=text)
        assert found in ("InvalidIdentityToken", "AccessDenied", "ValidationError")
        sts.close()


class TestTiming:
    def test_signatures_are_compared_in_constant_time(
        self, monkeypatch: pytest.MonkeyPatch, raw: RawClient, bucket: str
    ) -> None:
        """Every comparison of a secret goes through hmac.compare_digest."""
        compared: list[tuple[Any, Any]] = []
        real = hmac.compare_digest

        def spy(one: Any, other: Any) -> bool:
            compared.append((one, other))
            return real(one, other)

        def last() -> Any:
            return compared[-1]

        monkeypatch.setattr(hmac, "compare_digest", spy)
        raw.get(f"/{bucket}/k")
        assert len(compared) == 1
        forged = "0" * 64
        key = signing_key.SigningKey(b"k")
        assert not key.check(b"m", forged)
        assert last() == (key.sign(b"m"), forged)
        credentials = Credentials("A", "s", TESTER, session_token="t")
        with pytest.raises(S3Error):
            signing.checked_credentials(credentials, "A", "x", 0.0)
        assert last() == (b"t", b"x")
        with pytest.raises(S3Error):
            sigv2.check_text(credentials, "text", "x", fields={})
        assert last()[1] == b"x"
        decoder = ChunkDecoder(
            Payload.CHUNKS_SIGNED,
            decoded_length_bytes=0,
            signing=ChunkSigning(key, "t", "s", "0" * 64),
        )
        with pytest.raises(S3Error):
            decoder.feed(f"0;chunk-signature={forged}\r\n".encode())
        assert last()[1] == forged


def test_percent_encoding_does_not_hide_a_key(s3: Any, raw: RawClient, bucket: str) -> None:
    """What was signed in one spelling is the same key in another, and no other key."""
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x")
    request = raw.signed("GET", f"/{bucket}/a%20b")
    for spelling in ("a%20b", "%61%20b", "a%20%62"):
        raw.send_head(request._replace(raw_path=f"/{bucket}/{spelling}"))
        assert raw.answer().body == b"x"
    for spelling in ("a+b", "a%2520b", quote("a%20b")):
        raw.send_head(request._replace(raw_path=f"/{bucket}/{spelling}"))
        assert raw.answer().code == "SignatureDoesNotMatch"
