"""Documents in request bodies: XML of every kind, JSON policies, forms, Select jobs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from craqen.core.access.decide import Policies, Request, decide
from craqen.core.access.errors import PolicyError
from craqen.core.access.policy import (
    Asker,
    parse_bucket_policy,
    parse_identity_policy,
    parse_trust_policy,
)
from craqen.gateway import request_documents
from craqen.gateway.errors import S3Error
from craqen.gateway.forms.parser import FileDecoder, FormHead, boundary_of
from craqen.gateway.forms.policy import check_policy, parse_policy
from craqen.gateway.select.compiler import Source, compile_query
from craqen.gateway.select.errors import SelectError
from craqen.gateway.select.job import CsvInput, SelectJob, parse_job
from craqen.gateway.select.parser import parse as parse_expression
from craqen.gateway.select.streams import RecordEnds, ScanRange, decompressor, first_record
from craqen.gateway.settings import (
    acl,
    bucket_policy,
    cors,
    encryption,
    lifecycle,
    logging,
    notification,
    object_lock,
    ownership,
    public_access_block,
    request_payment,
    tagging,
    versioning,
    website,
)
from craqen.tests.core.access.test_against_naive import test_the_same_answers

from .target import Draw, Target, expect, split_randomly, text_of

Parse = Callable[[bytes], Any]
Render = Callable[[Any], bytes]

PARSERS: tuple[tuple[Parse, Render | None], ...] = (
    (request_documents.parse_delete, None),
    (request_documents.parse_complete_multipart_upload, None),
    (request_documents.parse_create_bucket, None),
    (request_documents.parse_tagging, None),
    (cors.parse, cors.render),
    (encryption.parse, encryption.render),
    (lifecycle.parse, lifecycle.render),
    (logging.parse, logging.render),
    (notification.parse, notification.render),
    (object_lock.parse_configuration, object_lock.configuration_document),
    (object_lock.parse_retention, None),
    (object_lock.parse_legal_hold, None),
    (ownership.parse, ownership.render),
    (public_access_block.parse, public_access_block.render),
    (request_payment.parse, request_payment.render),
    (tagging.parse, tagging.render),
    (versioning.parse_versioning, None),
    (website.parse, website.render),
    (acl.asked_by_document, None),
    (parse_job, None),
)


def run_documents(data: bytes) -> None:
    """Every parser takes every document: a record that renders to one that means the same, or an
    S3 error."""
    for parse, render in PARSERS:
        try:
            found = parse(data)
        except (S3Error, SelectError):
            continue
        if render is None:
            continue
        again = parse(render(found))
        expect(again == found, f"{parse.__module__}: {found} was rendered as {again}")


_ASKER = Asker("111111111111", ("arn:aws:iam::111111111111:user/ann",))
_CONTEXT = {
    "aws:username": ("a*n",),
    "s3:prefix": ("home/ann",),
    "aws:sourceip": ("10.0.0.1",),
    "aws:securetransport": ("true",),
    "aws:currenttime": ("2026-05-28T20:26:40Z",),
    "s3:max-keys": ("10",),
}


def run_policies(data: bytes) -> None:
    """A policy is refused, or can be asked anything."""
    text = data.decode("utf-8", "replace")
    found: list[Any] = []
    for parse in (parse_identity_policy, parse_trust_policy, _bucket_policy):
        try:
            found.append(parse(text))
        except PolicyError:
            found.append(None)
    try:
        bucket_policy.parse_policy(data, "b")
    except S3Error:
        pass
    own, trust, of_bucket = found
    for action, resource in (("s3:GetObject", "arn:aws:s3:::b/home/ann"), ("s3:List", "x*?${")):
        decide(
            Request(_ASKER, action, resource, _CONTEXT.get, "111111111111"),
            Policies(() if own is None else (own,), None, None, of_bucket),
        )
        if trust is not None:
            trust.effect_on(_ASKER, action, resource, _CONTEXT.get)


def _bucket_policy(text: str) -> Any:
    return parse_bucket_policy(text, "b")


def run_decisions(data: bytes) -> None:
    """The evaluator beside a naive one, on documents and requests made of the input."""
    test_the_same_answers.hypothesis.fuzz_one_input(data)  # type: ignore[attr-defined]


def run_forms(data: bytes) -> None:
    """A form gives the same fields and file however it is cut."""
    draw = Draw(data)
    cut = Draw(draw.some(40))
    body = draw.rest()
    whole = _read_form([body])
    pieces = _read_form(split_randomly(body, cut))
    expect(whole == pieces, f"{whole} became {pieces}")


def _read_form(pieces: list[bytes]) -> object:
    head = FormHead(b"b")
    decoder: FileDecoder | None = None
    content = b""
    try:
        for piece in pieces:
            begun = head.feed(piece) if decoder is None else piece
            if decoder is None and begun is not None:
                decoder = FileDecoder(b"b", least=0, most=1000)
            if decoder is not None and begun is not None:
                content += b"".join(bytes(one) for one in decoder.feed(begun))
        if decoder is None:
            raise head.missing_file()
        decoder.finish()
    except S3Error:
        return "refused"  # where in the body it was noticed depends on the pieces
    return head.fields, head.file_name, content


def run_form_policies(data: bytes) -> None:
    """Policies of forms, and the boundary in a Content-Type."""
    try:
        boundary_of(text_of(data))
    except S3Error:
        pass
    for encoded in (text_of(data), base64.b64encode(data).decode()):
        try:
            policy = parse_policy(encoded)
            fields = {"key": "user/x", "content-type": "a/b,c/d", "policy": "", "acl": "private"}
            check_policy(policy, fields, "bucket", 1.0)
        except S3Error:
            pass


_SOURCES = (
    Source("t", "csv", ["a", "b c", ""]),
    Source("t", "json", ()),
    Source("t", "parquet", ["a", "b"]),
)


def run_select_language(data: bytes) -> None:
    """A query is refused, or compiled for every kind of source."""
    try:
        query = parse_expression(text_of(data))
    except SelectError:
        return
    for source in _SOURCES:
        try:
            compile_query(query, source)
        except SelectError:
            pass


def run_select_inputs(data: bytes) -> None:
    """Decompression, scan ranges, records: the same however the object is cut."""
    draw = Draw(data)
    compression = draw.pick(("NONE", "GZIP", "BZIP2"))
    csv = CsvInput(
        draw.pick(("NONE", "USE", "IGNORE")),
        draw.pick((",", "\t", ";")),
        draw.pick(("\n", "\r\n", ";")),
        quoted_record_delimiters=draw.chance(2),
    )
    start = draw.number(40) if draw.chance(2) else None
    end = (start or 0) + draw.number(40) if draw.chance(2) else None
    job = SelectJob("", "csv", compression, csv, scan_start=start, scan_end=end)
    cut = Draw(draw.some(40))
    body = draw.rest()
    whole, pieces = _passed(job, [body]), _passed(job, split_randomly(body, cut))
    expect(whole == pieces, f"{job}: {whole!r} became {pieces!r}")


def _passed(job: Any, pieces: list[bytes]) -> object:
    out = b""
    try:
        inflate, chosen, ends = decompressor(job.compression), ScanRange(job), RecordEnds(job.csv)
        for data in pieces:
            for piece in inflate.feed(data):
                out += ends.feed(chosen.feed(piece))
        inflate.finish()
        out += ends.feed(chosen.finish()) + ends.finish()
        first_record(out, job.csv)
    except SelectError as error:
        return error.code
    return out


_ELEMENTS = (
    "Delete Object Key Quiet VersionId CompleteMultipartUpload Part PartNumber ETag Tagging "
    "TagSet Tag Value CORSConfiguration CORSRule AllowedOrigin AllowedMethod AllowedHeader "
    "LifecycleConfiguration Rule ID Filter Prefix And Status Expiration Days Date Transition "
    "NoncurrentVersionExpiration NoncurrentDays AbortIncompleteMultipartUpload Retention Mode "
    "RetainUntilDate LegalHold VersioningConfiguration WebsiteConfiguration IndexDocument "
    "Suffix RoutingRules RoutingRule Redirect AccessControlPolicy Owner AccessControlList "
    "Grant Grantee Permission NotificationConfiguration QueueConfiguration Event Queue "
    "BucketLoggingStatus LoggingEnabled TargetBucket SelectObjectContentRequest Expression"
)
_MARKUP = (b"<!DOCTYPE", b"<!ENTITY", b"<![CDATA[", b"&#0;", b"&a;", b' xmlns="', b"<?xml", b"--")
XML_WORDS = (*(f"<{name}>".encode() for name in _ELEMENTS.split()), *_MARKUP)

DOCUMENTS = (
    b"<Delete><Quiet>true</Quiet><Object><Key>a</Key><VersionId>null</VersionId><ETag>x</ETag>"
    b"</Object></Delete>",
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>"
    b"</CompleteMultipartUpload>",
    b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET"
    b"</AllowedMethod><MaxAgeSeconds>3</MaxAgeSeconds></CORSRule></CORSConfiguration>",
    b"<LifecycleConfiguration><Rule><ID>i</ID><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key>"
    b"<Value>v</Value></Tag><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter><Status>"
    b"Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
    b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>"
    b"AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
    b"</ServerSideEncryptionConfiguration>",
    b"<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument><RoutingRules>"
    b"<RoutingRule><Condition><KeyPrefixEquals>a</KeyPrefixEquals></Condition><Redirect>"
    b"<HostName>h</HostName></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>",
    b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
    b"<DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>"
    b"</ObjectLockConfiguration>",
    b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>"
    b"</Retention>",
    b"<NotificationConfiguration><QueueConfiguration><Id>i</Id><Queue>arn:aws:sqs:r:1:hook</Queue>"
    b"<Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>",
    b"<BucketLoggingStatus><LoggingEnabled><TargetBucket>b</TargetBucket><TargetPrefix>p"
    b"</TargetPrefix></LoggingEnabled></BucketLoggingStatus>",
    b"<AccessControlPolicy><Owner><ID>1</ID></Owner><AccessControlList><Grant><Grantee "
    b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>1</ID>'
    b"</Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>",
    b"<SelectObjectContentRequest><Expression>SELECT * FROM S3Object</Expression><ExpressionType>"
    b"SQL</ExpressionType><InputSerialization><CSV/></InputSerialization><OutputSerialization>"
    b"<JSON/></OutputSerialization><ScanRange><Start>1</Start><End>9</End></ScanRange>"
    b"</SelectObjectContentRequest>",
)

_POLICY = (
    b'{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow","Principal":{"AWS":"*"},'
    b'"Action":["s3:Get*"],"Resource":"arn:aws:s3:::b/${aws:username}/*","Condition":{'
    b'"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"StringLikeIfExists":{"s3:prefix":["a*"]},'
    b'"NumericLessThan":{"s3:max-keys":"11"},"DateGreaterThan":{"aws:CurrentTime":"2026-01-01"}}}]}'
)
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nuser/${filename}\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a/b.txt"\r\n\r\ncontent\r\n'
    b"--b--\r\n"
)
_FORM_POLICY = (
    b'{"expiration":"2030-01-01T00:00:00Z","conditions":[{"bucket":"bucket"},["starts-with","$key",'
    b'"user/"],["content-length-range",1,10],["eq","$acl","private"]]}'
)
_QUERIES = (
    b"SELECT * FROM S3Object s WHERE s.a = 'x' AND s._1 > 3 LIMIT 5",
    b'SELECT COUNT(*), SUM(CAST(s."b c" AS INT)) FROM S3Object[*].x.y s',
    b"SELECT CASE WHEN a IS NULL THEN 1 ELSE -2.5e3 END AS n, TO_TIMESTAMP(b) FROM s3object",
    b"SELECT a || b FROM S3Object WHERE a LIKE '%x_' ESCAPE '!' OR b IN (1) AND a BETWEEN 1 AND 2",
    b"SELECT EXTRACT(YEAR FROM TO_TIMESTAMP(a)), SUBSTRING(b FROM 1 FOR 2),"
    b" TRIM(LEADING 'x' FROM b), DATE_ADD(day, 1, UTCNOW()) FROM S3Object",
)

TARGETS = (
    Target("documents", run_documents, DOCUMENTS, XML_WORDS, input_bytes_max=8192),
    Target(
        "policies",
        run_policies,
        (_POLICY, b'{"Statement":{"Effect":"Deny","NotPrincipal":"*","NotAction":"*"}}'),
        (b'"Effect"', b'"Principal"', b'"Condition"', b"${", b"${*}", b"\\u0000", b"[", b"1e9"),
    ),
    Target("decisions", run_decisions, (b"\0" * 64, bytes(range(128))), input_bytes_max=512),
    Target("forms", run_forms, (b"\0" + FORM, b"\4\1\2\3\4" + FORM), (b"\r\n--b", b"name=")),
    Target(
        "form-policies",
        run_form_policies,
        (_FORM_POLICY, b'multipart/form-data; boundary="b"'),
        (b'"starts-with"', b'"conditions"', b"\\$", b"content-length-range", b"boundary="),
    ),
    Target(
        "select-language",
        run_select_language,
        _QUERIES,
        tuple(
            word.encode()
            for word in "SELECT FROM WHERE LIMIT NOT BETWEEN CASE WHEN CAST( ( ) 1+ -".split(" ")
        ),
        input_bytes_max=16384,
    ),
    Target(
        "select-inputs",
        run_select_inputs,
        (
            b'\0\0\0\0\0\0\0\0a,b\n1,"2\n3"\n',
            b"\1\0\0\0\0\0\0\0\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K\xd4I\xe2\x02\x00",
            b"\0\1\0\1\1\1\4\1\7\3\1\2\3a,b\r\n1,2\r\n3,4\r\n",
        ),
        (b"\r\n", b'"', b'""', b"\x1f\x8b\x08", b"BZh9"),
    ),
)
