"""Buckets as web sites: the document by boto3, the pages by plain requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from craqen.tests.gateway.integration.raw_client import Answer, RawClient
from craqen.tests.gateway.integration.running_gateway import WEBSITE_DOMAIN

SITE: dict[str, Any] = {
    "IndexDocument": {"Suffix": "index.html"},
    "ErrorDocument": {"Key": "errors/sorry.html"},
    "RoutingRules": [
        {
            "Condition": {"KeyPrefixEquals": "docs/"},
            "Redirect": {"ReplaceKeyPrefixWith": "documents/", "HttpRedirectCode": "302"},
        },
        {
            "Condition": {"KeyPrefixEquals": "gone/", "HttpErrorCodeReturnedEquals": "404"},
            "Redirect": {"HostName": "archive.test", "Protocol": "https"},
        },
    ],
}


@pytest.fixture
def site(s3: Any, bucket: str) -> str:
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=SITE)
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
    policy = [
        {**everybody, "Resource": f"arn:aws:s3:::{bucket}/*"},
        {**everybody, "Effect": "Deny", "Resource": f"arn:aws:s3:::{bucket}/private/*"},
    ]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": policy}))
    for key in ("index.html", "folder/index.html", "errors/sorry.html", "page.html"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), ContentType="text/html")
    s3.put_object(Bucket=bucket, Key="moved", WebsiteRedirectLocation="/page.html")
    s3.put_object(Bucket=bucket, Key="large", Body=bytes(300_000))
    return bucket


def visit(raw: RawClient, bucket: str, path: str, method: str = "GET", **headers: str) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {bucket}.{WEBSITE_DOMAIN}:8080"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    raw.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    return raw.answer(head_only=method == "HEAD")


def test_the_document(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.get_bucket_website(Bucket=bucket)
    assert error.value.response["Error"]["Code"] == "NoSuchWebsiteConfiguration"
    for wanted in (
        SITE,
        {"RedirectAllRequestsTo": {"HostName": "other.test", "Protocol": "https"}},
    ):
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=wanted)
        found = s3.get_bucket_website(Bucket=bucket)
        assert {name: found[name] for name in wanted} == wanted
    s3.delete_bucket_website(Bucket=bucket)
    with pytest.raises(ClientError):
        s3.get_bucket_website(Bucket=bucket)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"IndexDocument": {"Suffix": "a/b"}}, "InvalidArgument"),
        ({"IndexDocument": {"Suffix": ""}}, "InvalidArgument"),
        ({"RedirectAllRequestsTo": {"HostName": "h"}}, "InvalidRequest"),
        ({"RoutingRules": [{"Redirect": {}}]}, "InvalidRequest"),
        ({"RoutingRules": [{"Redirect": {"HttpRedirectCode": "200"}}]}, "InvalidRequest"),
        (
            {"RoutingRules": [{"Redirect": {"ReplaceKeyWith": "a", "ReplaceKeyPrefixWith": "b"}}]},
            "InvalidRequest",
        ),
        (
            {
                "RoutingRules": [
                    {
                        "Condition": {"HttpErrorCodeReturnedEquals": "200"},
                        "Redirect": {"HostName": "h"},
                    }
                ]
            },
            "InvalidRequest",
        ),
        ({"RoutingRules": [{"Redirect": {"HostName": "h"}}] * 51}, "InvalidRequest"),
    ],
)
def test_documents_that_are_refused(
    s3: Any, bucket: str, change: dict[str, Any], code: str
) -> None:
    wanted = {"IndexDocument": {"Suffix": "index.html"}, **change}
    with pytest.raises(ClientError) as error:
        s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=wanted)
    assert error.value.response["Error"]["Code"] == code


def test_pages(raw: RawClient, site: str) -> None:
    for path, key in (
        ("/", b"index.html"),
        ("/folder/", b"folder/index.html"),
        ("/page.html?whatever=x", b"page.html"),
    ):
        answer = visit(raw, site, path)
        assert (answer.status, answer.body) == (200, key)
        assert answer.headers["content-type"] == "text/html"
    assert visit(raw, site, "/large").body == bytes(300_000)
    head = visit(raw, site, "/large", "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, "300000")
    part = visit(raw, site, "/page.html", Range="bytes=0-3")
    assert (part.status, part.body) == (206, b"page")
    known = visit(raw, site, "/page.html").headers["etag"]
    assert visit(raw, site, "/page.html", If_None_Match=known).status == 304


def test_redirects(s3: Any, raw: RawClient, site: str) -> None:
    host = f"{site}.{WEBSITE_DOMAIN}:8080"
    for path, status, location in (
        ("/folder", 302, "/folder/"),
        ("/moved", 301, "/page.html"),
        ("/docs/a%20b", 302, f"http://{host}/documents/a%20b"),
        ("/gone/x", 301, "https://archive.test/gone/x"),
    ):
        answer = visit(raw, site, path)
        assert (answer.status, answer.headers["location"]) == (status, location)
    everything = {"RedirectAllRequestsTo": {"HostName": "other.test", "Protocol": "https"}}
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration=everything)
    answer = visit(raw, site, "/a/b")
    assert (answer.status, answer.headers["location"]) == (301, "https://other.test/a/b")


def test_errors_are_pages(s3: Any, raw: RawClient, site: str) -> None:
    missing = visit(raw, site, "/missing", Range="bytes=0-1", If_Match='"x"')
    assert (missing.status, missing.body) == (404, b"errors/sorry.html")
    head = visit(raw, site, "/missing", "HEAD")
    assert (head.status, head.headers["content-length"]) == (404, "17")
    assert visit(raw, site, "/private/x").status == 403
    s3.delete_object(Bucket=site, Key="errors/sorry.html")
    plain = visit(raw, site, "/missing<b>")
    assert plain.status == 404
    assert plain.headers["content-type"].startswith("text/html")
    assert b"<li>Code: NoSuchKey</li>" in plain.body
    assert b"missing&lt;b&gt;" in plain.body
    post = visit(raw, site, "/", "DELETE")
    assert (post.status, post.headers["x-amz-error-code"]) == (405, "MethodNotAllowed")
    nowhere = visit(raw, "no-such-bucket-here", "/")
    assert (nowhere.status, nowhere.headers["x-amz-error-code"]) == (404, "NoSuchBucket")


def test_a_bucket_is_no_site_by_itself(s3: Any, raw: RawClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="index.html", Body=b"x")
    answer = visit(raw, bucket, "/index.html")
    assert (answer.status, answer.headers["x-amz-error-code"]) == (
        404,
        "NoSuchWebsiteConfiguration",
    )
