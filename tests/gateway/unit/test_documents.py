"""Documents: what we write, botocore and ElementTree read back; what clients write, we read."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, unquote_plus
from xml.etree import ElementTree

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.meta.records import (
    NO_CONDITIONS,
    Bucket,
    CompletedPart,
    DeleteOutcome,
    Inode,
    InodeType,
    ListEntry,
    ObjectAttributes,
    Part,
    Upload,
    VersionEntry,
    WriteConditions,
)
from craqen.gateway import documents, listings
from craqen.gateway.errors import S3Error, error_document
from craqen.gateway.listings import ListQuery, Person
from craqen.gateway.request_documents import (
    DeleteItem,
    NewBucket,
    parse_complete_multipart_upload,
    parse_create_bucket,
    parse_delete,
    parse_tagging,
)
from craqen.gateway.xml import DOCUMENT_BYTES_MAX, parse_document

SERVICE = botocore.model.ServiceModel(
    botocore.loaders.Loader().load_service_model("s3", "service-2")
)
OWNER = Person("owner<id>", "Owner & Co")
MODIFIED_NS = 1_700_000_000_123_456_789
MODIFIED = "2023-11-14T22:13:20.123Z"


def parsed(operation: str, body: bytes, status: int = 200) -> dict[str, Any]:
    """*body* as botocore hands it to its users (before its own URL decoding)."""
    ElementTree.fromstring(body)
    parser = botocore.parsers.create_parser("rest-xml")
    response = {"headers": {}, "status_code": status, "body": body}
    shape = SERVICE.operation_model(operation).output_shape
    assert shape is not None
    answer: dict[str, Any] = parser.parse(response, shape)
    return answer


def serialized(operation: str, **parameters: Any) -> bytes:
    """A request body as botocore writes it."""
    serializer = botocore.serialize.create_serializer("rest-xml")
    request = serializer.serialize_to_request(parameters, SERVICE.operation_model(operation))
    body = request["body"]
    assert isinstance(body, bytes)
    return body


def entry(key: bytes, **attributes: Any) -> ListEntry:
    known = {"etag": "0" * 32, "etag_generation": 1, **attributes}
    inode = Inode(
        7, InodeType.FILE, 0o644, 0, 0, 1, 12, 0, MODIFIED_NS, 0, 0,
        generation=1, object=ObjectAttributes(**known),
    )  # fmt: skip
    return ListEntry(key, inode)


def query(**changes: Any) -> ListQuery:
    return ListQuery("bucket", b"", b"", 1000, False)._replace(**changes)


def list_v2(entries: list[ListEntry], **changes: Any) -> bytes:
    return listings.list_objects_v2(
        query(**changes),
        entries,
        start_after=b"",
        continuation_token=None,
        next_token=None,
        owner=None,
    )


def test_list_objects_v2() -> None:
    entries = [
        entry(b"p/a&b<c>", checksums={"crc64nvme": "AAAAAAAAAAA="}, checksum_type="FULL_OBJECT"),
        entry("p/é€😀".encode(), storage_class="GLACIER"),
        ListEntry(b"p/sub/", None),
    ]
    answer = parsed(
        "ListObjectsV2",
        listings.list_objects_v2(
            query(prefix=b"p/", delimiter=b"/", limit=3),
            entries,
            start_after=b"p/a&",
            continuation_token="token=<1>",
            next_token="token-2",
            owner=OWNER,
        ),
    )
    first, second = answer["Contents"]
    assert (first["Key"], second["Key"]) == ("p/a&b<c>", "p/é€😀")
    assert first["ETag"] == f'"{"0" * 32}"'
    assert first["Size"] == 12
    assert first["LastModified"].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert first["ChecksumAlgorithm"] == ["CRC64NVME"]
    assert first["ChecksumType"] == "FULL_OBJECT"
    assert "ChecksumAlgorithm" not in second
    assert (first["StorageClass"], second["StorageClass"]) == ("STANDARD", "GLACIER")
    assert first["Owner"] == {"ID": "owner<id>", "DisplayName": "Owner & Co"}
    assert answer["CommonPrefixes"] == [{"Prefix": "p/sub/"}]
    assert answer["KeyCount"] == 3
    assert answer["IsTruncated"] is True
    assert answer["ContinuationToken"] == "token=<1>"
    assert answer["NextContinuationToken"] == "token-2"
    assert answer["StartAfter"] == "p/a&"
    assert (answer["Name"], answer["Prefix"], answer["Delimiter"]) == ("bucket", "p/", "/")
    assert answer["MaxKeys"] == 3
    assert "EncodingType" not in answer


def test_checksums_and_etag_of_changed_content_do_not_show() -> None:
    stale = entry(
        b"k", checksums={"crc32": "AAAAAA=="}, checksum_type="FULL_OBJECT", etag_generation=0
    )
    (item,) = parsed("ListObjectsV2", list_v2([stale]))["Contents"]
    assert "ChecksumAlgorithm" not in item
    assert item["ETag"] != f'"{"0" * 32}"'


def test_a_file_made_through_the_mount_lists_too() -> None:
    inode = Inode(7, InodeType.FILE, 0o644, 0, 0, 1, 3, 0, MODIFIED_NS, 0, 0, generation=4)
    (item,) = parsed("ListObjectsV2", list_v2([ListEntry(b"k", inode)]))["Contents"]
    assert item["ETag"] == f'"{inode.effective_etag()}"'
    assert item["StorageClass"] == "STANDARD"
    assert "Owner" not in item


@settings(max_examples=200, deadline=None)
@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_any_key_reads_back_with_url_encoding(key: str) -> None:
    answer = parsed("ListObjectsV2", list_v2([entry(key.encode())], url_encoding=True))
    assert answer["EncodingType"] == "url"
    assert unquote(answer["Contents"][0]["Key"]) == key
    assert unquote_plus(answer["Contents"][0]["Key"]) == key


@settings(max_examples=200, deadline=None)
@given(
    key=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"),
        min_size=1,
        max_size=12,
    )
)
def test_any_key_that_xml_can_carry_reads_back_plainly(key: str) -> None:
    assert parsed("ListObjectsV2", list_v2([entry(key.encode())]))["Contents"][0]["Key"] == key


def test_keys_that_xml_cannot_carry() -> None:
    body = list_v2([entry(b"a\x01b\x00\r\n\t"), entry(b"\xff\xfe")])
    # As AWS: exact, though not well-formed; a carriage return would be lost without.
    assert b"<Key>a&#x1;b&#x0;&#xd;\n\t</Key>" in body
    assert "<Key>\ufffd\ufffd</Key>".encode() in body
    url = list_v2([entry(b"a\x01b\x00\r\n\t"), entry(b"\xff\xfe")], url_encoding=True)
    keys = [item["Key"] for item in parsed("ListObjectsV2", url)["Contents"]]
    assert keys == ["a%01b%00%0D%0A%09", "%FF%FE"]


def test_url_encoding_covers_every_name() -> None:
    answer = parsed(
        "ListObjects",
        listings.list_objects_v1(
            query(prefix=b"a b+", delimiter=b" ", url_encoding=True),
            [ListEntry(b"a b+c ", None), entry(b"a b+x")],
            marker=b"a b",
            next_marker=b"a b+x",
            owner=OWNER,
        ),
    )
    assert (answer["Prefix"], answer["Delimiter"], answer["Marker"]) == ("a b+", "%20", "a%20b")
    assert answer["NextMarker"] == "a%20b%2Bx"
    assert answer["CommonPrefixes"] == [{"Prefix": "a%20b%2Bc%20"}]
    assert answer["Contents"][0]["Key"] == "a%20b%2Bx"
    assert answer["Contents"][0]["Owner"]["ID"] == "owner<id>"


def test_next_marker_only_with_a_delimiter() -> None:
    body = listings.list_objects_v1(
        query(), [entry(b"k")], marker=b"", next_marker=b"k", owner=OWNER
    )
    answer = parsed("ListObjects", body)
    assert answer["IsTruncated"] is True
    assert "NextMarker" not in answer


def test_list_object_versions() -> None:
    answer = parsed(
        "ListObjectVersions",
        listings.list_object_versions(
            query(delimiter=b"/"),
            [
                VersionEntry(b"k", "null", entry(b"k").inode, True, 0),
                VersionEntry(b"l&", "v", None, False, 1_700_000_000_123_000_000),
                VersionEntry(b"sub/", "", None, False, 0),
            ],
            key_marker=b"j",
            version_id_marker="null",
            next_markers=(b"sub/", "null"),
            owner=OWNER,
        ),
    )
    (version,) = answer["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("k", "null", True)
    (marker,) = answer["DeleteMarkers"]
    assert (marker["Key"], marker["VersionId"], marker["IsLatest"]) == ("l&", "v", False)
    assert marker["LastModified"].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert version["Owner"]["DisplayName"] == "Owner & Co"
    assert answer["CommonPrefixes"] == [{"Prefix": "sub/"}]
    assert (answer["KeyMarker"], answer["VersionIdMarker"]) == ("j", "null")
    assert (answer["NextKeyMarker"], answer["NextVersionIdMarker"]) == ("sub/", "null")


def test_empty_listing() -> None:
    answer = parsed("ListObjectsV2", list_v2([]))
    assert answer["KeyCount"] == 0
    assert answer["IsTruncated"] is False
    assert "Contents" not in answer


def test_tokens() -> None:
    for place in (b"", b"a/b", b"\xff\x00", "é".encode()):
        assert listings.decode_token(listings.encode_token(place)) == place
    for token in ("!", "abc", "é", "a" * 5):
        with pytest.raises(S3Error, match="continuation token"):
            listings.decode_token(token)


def test_list_buckets() -> None:
    bucket = Bucket("some-bucket", 5, MODIFIED_NS, "owner", "eu-test-1")
    answer = parsed(
        "ListBuckets",
        documents.list_buckets([bucket], OWNER, region="r", prefix="so", next_token="t"),
    )
    (item,) = answer["Buckets"]
    assert (item["Name"], item["BucketRegion"]) == ("some-bucket", "eu-test-1")
    assert item["CreationDate"].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert (answer["Prefix"], answer["ContinuationToken"]) == ("so", "t")
    assert answer["Owner"]["ID"] == "owner<id>"
    assert parsed("ListBuckets", documents.list_buckets([], OWNER, region="r"))["Buckets"] == []


def test_multipart_documents() -> None:
    started = parsed(
        "CreateMultipartUpload", documents.initiate_multipart_upload("b", b"k&", "upload")
    )
    assert (started["Bucket"], started["Key"], started["UploadId"]) == ("b", "k&", "upload")
    completed = parsed(
        "CompleteMultipartUpload",
        documents.complete_multipart_upload(
            "http://h/b/k", "b", b"k", "abc-2", {"xxhash128": "AAAA"}, "COMPOSITE"
        ),
    )
    assert (completed["Location"], completed["ETag"]) == ("http://h/b/k", '"abc-2"')
    assert (completed["ChecksumXXHASH128"], completed["ChecksumType"]) == ("AAAA", "COMPOSITE")


UPLOAD = Upload(
    "upload", "b", b"k\xc3\xa9", MODIFIED_NS, ObjectAttributes(), "crc32c", "FULL_OBJECT"
)


def test_list_parts() -> None:
    parts = [Part(2, 5, "e2", MODIFIED_NS, {"crc32c": "AAAAAA=="}), Part(4, 6, "e4", MODIFIED_NS)]
    answer = parsed(
        "ListParts",
        documents.list_parts(UPLOAD, parts, marker=1, limit=2, truncated=True, owner=OWNER),
    )
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in answer["Parts"]] == [
        (2, 5, '"e2"'),
        (4, 6, '"e4"'),
    ]
    assert answer["Parts"][0]["ChecksumCRC32C"] == "AAAAAA=="
    assert (answer["PartNumberMarker"], answer["NextPartNumberMarker"]) == (1, 4)
    assert (answer["MaxParts"], answer["IsTruncated"]) == (2, True)
    assert (answer["ChecksumAlgorithm"], answer["ChecksumType"]) == ("CRC32C", "FULL_OBJECT")
    assert answer["Key"] == "ké"


def test_list_multipart_uploads() -> None:
    answer = parsed(
        "ListMultipartUploads",
        documents.list_multipart_uploads(
            query(prefix=b"k", delimiter=b"/", limit=1, url_encoding=True),
            [UPLOAD],
            [b"k/"],
            key_marker=b"j",
            upload_id_marker="u",
            next_markers=(b"k\xc3\xa9", "upload"),
            owner=OWNER,
        ),
    )
    (upload,) = answer["Uploads"]
    assert (upload["Key"], upload["UploadId"]) == ("k%C3%A9", "upload")
    assert upload["ChecksumAlgorithm"] == "CRC32C"
    assert (answer["NextKeyMarker"], answer["NextUploadIdMarker"]) == ("k%C3%A9", "upload")
    assert (answer["MaxUploads"], answer["IsTruncated"]) == (1, True)
    assert answer["CommonPrefixes"] == [{"Prefix": "k/"}]


def test_copy_results() -> None:
    copied = documents.copy_object("e", MODIFIED_NS, {"crc32": "A"}, "FULL_OBJECT")
    part = documents.copy_part("e", MODIFIED_NS, {"crc32": "A"})
    for operation, member, body in (
        ("CopyObject", "CopyObjectResult", copied),
        ("UploadPartCopy", "CopyPartResult", part),
    ):
        result = parsed(operation, body)[member]
        assert (result["ETag"], result["ChecksumCRC32"]) == ('"e"', "A")
        assert result["LastModified"].isoformat() == "2023-11-14T22:13:20.123000+00:00"


def test_delete_result() -> None:
    failure = documents.DeleteFailure(b"bad&", "v", S3Error("AccessDenied"))
    deleted = [
        documents.Deleted(b"one", "", DeleteOutcome(True)),
        documents.Deleted(b"two", "null", DeleteOutcome(True, "null")),
        documents.Deleted(b"three", "", DeleteOutcome(True, "m", True)),
    ]
    answer = parsed("DeleteObjects", documents.delete_result(deleted, [failure], quiet=False))
    assert answer["Deleted"] == [
        {"Key": "one"},
        {"Key": "two", "VersionId": "null"},
        {"Key": "three", "DeleteMarker": True, "DeleteMarkerVersionId": "m"},
    ]
    assert answer["Errors"] == [
        {"Key": "bad&", "VersionId": "v", "Code": "AccessDenied", "Message": "Access Denied"}
    ]
    quiet = parsed("DeleteObjects", documents.delete_result(deleted, [failure], quiet=True))
    assert "Deleted" not in quiet
    assert len(quiet["Errors"]) == 1


def test_bucket_settings() -> None:
    assert b"LocationConstraint" in documents.location_constraint("us-east-1")
    root = ElementTree.fromstring(documents.location_constraint("eu-test-1"))
    assert root.text == "eu-test-1"
    assert ElementTree.fromstring(documents.location_constraint("us-east-1")).text is None
    tags = {"a&": "<b>", "c": ""}
    answer = parsed("GetObjectTagging", documents.tagging(tags))["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in answer} == tags


def test_error_document_as_botocore_reads_it() -> None:
    error = S3Error("NoSuchKey", fields={"Key": "a<b>\x01"})
    body = error_document(error, resource="/b/a%3Cb", request_id="R&1", host_id="H")
    assert b"<Key>a&lt;b&gt;&#x1;</Key>" in body
    error.fields["Key"] = "k"
    body = error_document(error, resource="/b/k", request_id="R&1", host_id="H")
    answer = parsed("GetObject", body, status=404)
    assert answer["Error"]["Code"] == "NoSuchKey"
    assert answer["Error"]["Message"] == "The specified key does not exist."
    assert answer["Error"]["Key"] == "k"
    root = ElementTree.fromstring(body)
    assert [root.findtext(name) for name in ("Resource", "RequestId", "HostId")] == [
        "/b/k",
        "R&1",
        "H",
    ]


# Requests


def test_complete_multipart_upload_as_botocore_writes_it() -> None:
    body = serialized(
        "CompleteMultipartUpload",
        Bucket="b",
        Key="k",
        UploadId="u",
        MultipartUpload={
            "Parts": [
                {"PartNumber": 2, "ETag": '"abc"', "ChecksumCRC64NVME": "AAAAAAAAAAA="},
                {"PartNumber": 1, "ETag": "def"},
            ]
        },
    )
    assert parse_complete_multipart_upload(body) == (
        CompletedPart(2, "abc", {"crc64nvme": "AAAAAAAAAAA="}),
        CompletedPart(1, "def", {}),
    )


def test_delete_as_botocore_writes_it() -> None:
    body = serialized(
        "DeleteObjects",
        Bucket="b",
        Delete={
            "Quiet": True,
            "Objects": [
                {"Key": "a&b <c>"},
                {"Key": "é\r", "VersionId": "null"},
                {"Key": "x", "ETag": '"e"', "Size": 5, "LastModifiedTime": 1_700_000_000},
            ],
        },
    )
    # The client's last step before sending: carriage returns as references.
    request = parse_delete(body.replace(b"\r", b"&#xD;"))
    assert request.quiet
    assert request.items == (
        DeleteItem(b"a&b <c>", "", NO_CONDITIONS),
        DeleteItem("é\r".encode(), "null", NO_CONDITIONS),
        DeleteItem(
            b"x",
            "",
            WriteConditions(
                if_match=("e",), if_match_size=5, if_match_mtime_ns=1_700_000_000_000_000_000
            ),
        ),
    )


@pytest.mark.parametrize("attributes", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff"])
def test_namespace_and_declaration_are_optional(attributes: str, declaration: str) -> None:
    body = f"{declaration}<Delete{attributes}><Object><Key> k </Key></Object></Delete>".encode()
    assert parse_delete(body).items[0].key == b" k "
    assert not parse_delete(body).quiet


def delete_of(count: int) -> bytes:
    return b"<Delete>" + b"<Object><Key>k</Key></Object>" * count + b"</Delete>"


def test_a_thousand_keys_and_no_more() -> None:
    assert len(parse_delete(delete_of(1000)).items) == 1000
    with pytest.raises(S3Error, match="MalformedXML"):
        parse_delete(delete_of(1001))


def complete_of(numbers: list[object]) -> bytes:
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>e</ETag></Part>" for n in numbers)
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def test_ten_thousand_parts_and_no_more() -> None:
    assert [part.number for part in parse_complete_multipart_upload(complete_of([1, 1, 2]))] == [
        1,
        2,
    ]
    assert len(parse_complete_multipart_upload(complete_of(list(range(1, 10_001))))) == 10_000
    with pytest.raises(S3Error, match="MalformedXML"):
        parse_complete_multipart_upload(complete_of([*range(1, 10_001), 1]))


@pytest.mark.parametrize("number", ["0", "10001"])
def test_part_numbers_out_of_bounds(number: str) -> None:
    with pytest.raises(S3Error, match="InvalidArgument"):
        parse_complete_multipart_upload(complete_of([number]))


BILLION_LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE Delete [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"<Delete>",
        b"<Delete/>",
        b"<Other><Object><Key>k</Key></Object></Other>",
        b"<Delete><Object></Object></Delete>",
        b"<Delete><Object><Key>&nbsp;</Key></Object></Delete>",
        b"<Delete><Object><Key>\x01</Key></Object></Delete>",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        BILLION_LAUGHS,
        b'<!DOCTYPE Delete SYSTEM "file:///etc/passwd">' + delete_of(1),
        delete_of(1).decode().encode("utf-16"),
        '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16") + delete_of(1),
        b'<?xml version="1.0" encoding="utf-7"?>' + delete_of(1),
        b"<?xml version='1.0' encoding='cp037'?>" + delete_of(1),
        delete_of(1).replace(b"</Delete>", b"<x/>" * 250_000 + b"</Delete>"),
        b"<Delete>" * 130_000 + b"</Delete>" * 130_000,
    ],
)
def test_malformed_deletes(body: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse_delete(body)
    assert caught.value.code == "MalformedXML"


@pytest.mark.parametrize(
    "body",
    [
        complete_of([]),
        complete_of(["x"]),
        complete_of([""]),
        complete_of(["٣"]),
        complete_of(["9" * 5000]),
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
    ],
)
def test_malformed_completions(body: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedXML"):
        parse_complete_multipart_upload(body)


def test_empty_key_in_a_delete() -> None:
    with pytest.raises(S3Error, match="UserKeyMustBeSpecified"):
        parse_delete(b"<Delete><Object><Key/></Object></Delete>")


def test_too_large() -> None:
    with pytest.raises(S3Error, match="MaxMessageLengthExceeded"):
        parse_document(b" " * (DOCUMENT_BYTES_MAX + 1), "Delete")


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
def test_noise_is_malformed(body: bytes) -> None:
    with pytest.raises(S3Error):
        parse_delete(body)
    with pytest.raises(S3Error):
        parse_complete_multipart_upload(b"<CompleteMultipartUpload>" + body)


def test_create_bucket() -> None:
    assert parse_create_bucket(b"") == NewBucket()
    assert parse_create_bucket(b" \n") == NewBucket()
    body = serialized(
        "CreateBucket",
        Bucket="b",
        CreateBucketConfiguration={"LocationConstraint": "eu-test-1"},
    )
    assert parse_create_bucket(body).location == "eu-test-1"
    assert parse_create_bucket(b"<CreateBucketConfiguration/>") == NewBucket()
    with pytest.raises(S3Error, match="MalformedXML"):
        parse_create_bucket(b"<Other/>")
    kind = b"<Bucket><Type>Directory</Type></Bucket>"
    directory = b"<CreateBucketConfiguration>" + kind + b"</CreateBucketConfiguration>"
    with pytest.raises(S3Error, match="NotImplemented"):
        parse_create_bucket(directory)


def test_tagging() -> None:
    body = serialized(
        "PutObjectTagging",
        Bucket="b",
        Key="k",
        Tagging={"TagSet": [{"Key": "a&", "Value": "<b>"}, {"Key": "c", "Value": ""}]},
    )
    assert parse_tagging(body) == {"a&": "<b>", "c": ""}
    assert parse_tagging(b"<Tagging><TagSet/></Tagging>") == {}


def tagging_of(*tags: tuple[str, str]) -> bytes:
    rows = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<Tagging/>", "MalformedXML"),
        (b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", "MalformedXML"),
        (tagging_of(("", "v")), "InvalidTag"),
        (tagging_of(("k" * 129, "v")), "InvalidTag"),
        (tagging_of(("aws:k", "v")), "InvalidTag"),
        (tagging_of(("k", "v" * 257)), "InvalidTag"),
        (tagging_of(("k", "1"), ("k", "2")), "InvalidTag"),
        (tagging_of(*((str(n), "") for n in range(11))), "InvalidTag"),
    ],
)
def test_tags_refused(body: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_tagging(body)
    assert caught.value.code == code
