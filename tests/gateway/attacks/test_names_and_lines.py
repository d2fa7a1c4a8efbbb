"""Names that lead elsewhere, and lines that end where they should not: paths, request framing,
answers, redirects, logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from craqen.core.ids import ROOT_INODE_ID
from craqen.core.log import set_up_logging
from craqen.core.meta.records import InodeType
from craqen.core.options import LogOptions
from craqen.tests.gateway.attacks.attack_support import code_of, new_bucket, open_to_all
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import (
    BASE_DOMAIN,
    WEBSITE_DOMAIN,
    Gateway,
)

TRAVERSALS = [
    "/{bucket}/../{other}/secret",
    "/{bucket}/%2e%2e/{other}/secret",
    "/{bucket}/..%2f{other}%2fsecret",
    "/{bucket}/x/../../{other}/secret",
    "/{bucket}//{other}/secret",
    "/{bucket}/%2f{other}/secret",
    "/{bucket}/....//{other}/secret",
    "/{bucket}/..%5c{other}%5csecret",
    "/{bucket}/%252e%252e/{other}/secret",
    "/{bucket}/etc/passwd",
    "/{bucket}//etc/passwd",
    "/{bucket}/%c0%ae%c0%ae/{other}/secret",
    "/{bucket}/secret%00",
    "/..%2f{other}/secret",
    "/{bucket}%2f..%2f{other}/secret",
    "/{bucket}%00/secret",
]


class TestPaths:
    @pytest.mark.parametrize("path", TRAVERSALS)
    def test_no_path_leads_out_of_its_bucket(
        self, s3: Any, bucket: str, raw: RawClient, path: str
    ) -> None:
        other = new_bucket(s3)
        s3.put_object(Bucket=other, Key="secret", Body=b"the secret")
        open_to_all(s3, bucket)
        target = path.format(bucket=bucket, other=other)
        raw.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        answer = raw.answer()
        assert answer.status in (400, 403, 404)
        assert b"the secret" not in answer.body

    @pytest.mark.parametrize("key", ["../up", "a/../../up", "/abs", "..", ".", "a//b", "nul\0nul"])
    def test_odd_keys_are_keys(self, s3: Any, gateway: Gateway, bucket: str, key: str) -> None:
        """They are names below the bucket, also as files."""

        def buckets() -> list[bytes]:
            entries = gateway.call(gateway.meta.read_directory(ROOT_INODE_ID))
            return [entry.name for entry in entries]

        before = buckets()
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
        listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert [item["Key"] for item in listed] == [key]
        assert buckets() == before

    @pytest.mark.parametrize("target", [b"/etc/passwd", b"../{other}/secret", b"../../etc/passwd"])
    def test_symbolic_links_are_not_followed(
        self, s3: Any, gateway: Gateway, bucket: str, target: bytes
    ) -> None:
        """One that was made in a mount is no way out for those at the S3 door."""
        other = new_bucket(s3)
        s3.put_object(Bucket=other, Key="secret", Body=b"the secret")
        folder = gateway.call(gateway.meta.lookup(ROOT_INODE_ID, bucket.encode()))
        target = target.replace(b"{other}", other.encode())
        for name in (b"link", b"folder"):
            gateway.call(
                gateway.meta.create(
                    folder.inode_id,
                    name,
                    InodeType.SYMLINK,
                    mode=0o777,
                    uid=7,
                    gid=8,
                    symlink_target=target,
                )
            )
        for key in ("folder/secret", "folder/passwd"):
            assert code_of(s3.get_object, Bucket=bucket, Key=key) == "NoSuchKey"
            source = {"Bucket": bucket, "CopySource": f"{bucket}/{key}"}
            assert code_of(s3.copy_object, Key="out", **source) == "NoSuchKey"
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/link")
        for key in ("link", "copy"):
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == target


HEADS = {
    "length and chunked": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "two lengths": "Content-Length: 0\r\nContent-Length: 40\r\n",
    "the same length twice": "Content-Length: 0\r\nContent-Length: 0\r\n",
    "a list of lengths": "Content-Length: 0, 0\r\n",
    "a signed length": "Content-Length: +4\r\n",
    "a length in hex": "Content-Length: 0x4\r\n",
    "two codings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "an unknown coding": "Transfer-Encoding: xchunked\r\n",
    "a hidden coding": "Transfer-Encoding:\x0bchunked\r\n",
    "a coding with a space": "Transfer-Encoding : chunked\r\n",
    "two hosts": "Host: other\r\n",
    "a folded line": "X-A: b\r\n Content-Length: 40\r\n",
    "a bare line feed": "X-A: b\nContent-Length: 40\r\n",
    "a bare carriage return": "X-A: b\rContent-Length: 40\r\n",
    "a NUL": "X-A: b\0c\r\n",
    "two authorizations": "Authorization: AWS4-HMAC-SHA256 a\r\n" * 2,
    "two digests": "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n" * 2,
}


class TestSmuggling:
    @pytest.mark.parametrize("name", HEADS)
    def test_heads_that_can_be_read_in_two_ways(
        self, s3: Any, bucket: str, raw: RawClient, name: str
    ) -> None:
        """They are refused, and nothing behind them is taken for a request."""
        open_to_all(s3, bucket)
        smuggled = f"PUT /{bucket}/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        raw.send(f"GET /{bucket}/k HTTP/1.1\r\nHost: h\r\n{HEADS[name]}\r\n".encode())
        assert raw.answer().status == 400
        if name not in ("two authorizations", "two digests"):  # refused, but well formed
            try:
                raw.send(smuggled.encode())
            except ConnectionError:
                pass
            assert raw.is_closed()
            assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_underscores_are_no_dashes(self, raw: RawClient, bucket: str) -> None:
        """A header that a proxy may take for another says nothing here."""
        request = raw.signed("PUT", f"/{bucket}/k", content_sha256="UNSIGNED-PAYLOAD")
        raw.send_head(request, {"content-length": "1", "x_amz_meta_a": "b", "x_amz_acl": "wrong"})
        raw.send(b"x")
        assert raw.answer().status == 200
        assert "x-amz-meta-a" not in raw.get(f"/{bucket}/k").headers

    def test_a_body_is_no_request(self, s3: Any, bucket: str, raw: RawClient) -> None:
        """The body of a refused request is not read as the next one."""
        body = f"PUT /{bucket}/smuggled HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
        head = f"PUT /{bucket}/k HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.send(head.encode() + body)
        assert raw.answer().status == 403
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_hosts_do_not_choose_past_the_signature(
        self, s3: Any, bucket: str, raw: RawClient
    ) -> None:
        """A request that was signed for one host names no bucket by another."""
        other = new_bucket(s3)
        s3.put_object(Bucket=other, Key="k", Body=b"the secret")
        request = raw.signed("GET", "/k", host=f"{bucket}.{BASE_DOMAIN}")
        for host in (f"{other}.{BASE_DOMAIN}", f"{other}.{BASE_DOMAIN}:80", f"{other}.s3.test."):
            headers = {**request.headers, "host": host}
            raw.send_head(request._replace(headers=headers))
            assert raw.answer().code == "SignatureDoesNotMatch"
        raw.send_head(request)
        assert raw.answer().code == "NoSuchKey"
        absolute = request._replace(raw_path=f"http://{other}.{BASE_DOMAIN}/k")
        raw.send_head(absolute)
        answer = raw.answer()
        assert (answer.code, b"the secret" in answer.body) == ("NoSuchKey", False)


class TestAnswers:
    def test_overrides_do_not_split_answers(self, s3: Any, bucket: str, raw: RawClient) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        evil = "text%2Fhtml%0D%0ASet-Cookie%3A%20a%3Db%0D%0A%0D%0A%3Cscript%3E"
        for name in ("type", "disposition", "language", "encoding"):
            answer = raw.get(f"/{bucket}/k?response-content-{name}={evil}")
            assert answer.code == "InvalidArgument"
            assert "set-cookie" not in answer.headers

    def test_nobody_overrides_for_others(self, s3: Any, bucket: str, raw: RawClient) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        open_to_all(s3, bucket, "s3:GetObject")
        raw.send(
            f"GET /{bucket}/k?response-content-type=text/html HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        )
        assert raw.answer().code == "InvalidRequest"

    @pytest.mark.parametrize(
        "name", ["x-amz-meta-a\nSet-Cookie: a=b", "x-amz-meta-a: b\rc", "x-amz-meta-a b", "x-amz-é"]
    )
    def test_names_of_form_fields_are_no_lines(
        self, s3: Any, bucket: str, raw: RawClient, name: str
    ) -> None:
        """What a form calls its metadata is told as names of headers."""
        open_to_all(s3, bucket)
        body = (
            '--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nv\r\n'
            '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
        ).encode()
        head = (
            f"POST /{bucket} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        raw.send(head.encode() + body)
        answer = raw.answer()
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

    def test_error_documents_quote_nothing_raw(self, raw: RawClient) -> None:
        raw.send(b"GET /%3Cscript%3E/%3Cscript%3E?x=%3C HTTP/1.1\r\nHost: <b>\r\n\r\n")
        answer = raw.answer()
        assert answer.status == 400
        assert b"<script" not in answer.body
        assert b"<b>" not in answer.body


class TestBrowsers:
    def test_a_site_sends_nobody_to_another_host(
        self, s3: Any, bucket: str, raw: RawClient
    ) -> None:
        """``//evil.test`` is a host to a browser, and a folder here."""
        site = {"IndexDocument": {"Suffix": "index.html"}}
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=site)
        open_to_all(s3, bucket, "s3:GetObject")
        s3.put_object(Bucket=bucket, Key="/evil.test/index.html", Body=b"x")
        host = f"{bucket}.{WEBSITE_DOMAIN}"
        raw.send(f"GET //evil.test HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = raw.answer()
        assert answer.status == 302
        assert answer.headers["location"] == f"http://{host}//evil.test/"

    def test_origins_are_not_reflected(self, s3: Any, bucket: str, raw: RawClient) -> None:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        open_to_all(s3, bucket, "s3:GetObject")
        rules = [
            {"AllowedOrigins": ["https://*.good.test"], "AllowedMethods": ["GET"]},
        ]

        def asked(origin: str) -> dict[str, str]:
            raw.send(f"GET /{bucket}/k HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n\r\n".encode())
            return raw.answer().headers

        assert "access-control-allow-origin" not in asked("https://a.good.test")
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        assert asked("https://a.good.test")["access-control-allow-origin"] == "https://a.good.test"
        for evil in ("https://evil.test", "https://good.test.evil", "null", "https://aXgoodXtest"):
            found = asked(evil)
            assert "access-control-allow-origin" not in found
            assert "Origin" in found["vary"]
        rules[0]["AllowedOrigins"] = ["*"]
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        found = asked("https://evil.test")
        assert found["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in found


class TestLogs:
    @pytest.mark.parametrize("form", ["text", "json"])
    def test_names_do_not_make_lines(self, form: str, capsys: pytest.CaptureFixture[str]) -> None:
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        try:
            set_up_logging(LogOptions(format=form))
            key = "k\r\n12:00:00.000 error   gateway: forged \x1b[2J\x9b\u2028"
            logging.getLogger("craqen.test").warning("object %s: is damaged", key)
            try:
                raise ValueError(key)
            except ValueError:
                logging.getLogger("craqen.test").exception("failed")
        finally:
            root.handlers[:] = before
            root.setLevel(level)
        written = capsys.readouterr().err
        assert "\x1b" not in written
        for line in written.splitlines():
            assert not line.startswith("12:00:00.000")
            if form == "json":
                json.loads(line)
        assert Path(__file__).name in written


def test_methods_that_make_tunnels(raw: RawClient) -> None:
    raw.send(b"CONNECT other:80 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert raw.answer().status == 400
