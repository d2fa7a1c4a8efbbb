"""The error table and its mapping from core; bucket names, keys, and the credentials file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from craqen.core import errors as core
from craqen.gateway.auth.credential_file import FileCredentialStore
from craqen.gateway.errors import ERRORS, S3Error, from_core
from craqen.gateway.names import check_key, check_new_bucket_name, has_bucket_shape

OWN_ARGUMENTS: dict[type[core.CraqenError], dict[str, object]] = {
    core.PreconditionFailedError: {"condition": "If-Match"},
    core.WriteOffsetError: {"size_bytes": 17},
    core.PartTooSmallError: {"part_number": 3, "size_bytes": 17},
    core.StaleChainVersionError: {"chain_id": 1, "current_version": 2},
    core.VersionNotFoundError: {"version_id": "v"},
    core.DeleteMarkerError: {"version_id": "v", "modified_ns": 0, "named": True},
}

EXPECTED = {
    core.BucketNotFoundError: ("NoSuchBucket", 404),
    core.VersionNotFoundError: ("NoSuchVersion", 404),
    core.DeleteMarkerError: ("MethodNotAllowed", 405),
    core.ObjectLockedError: ("AccessDenied", 403),
    core.BucketStateError: ("InvalidBucketState", 409),
    core.UploadNotFoundError: ("NoSuchUpload", 404),
    core.NotFoundError: ("NoSuchKey", 404),
    core.AlreadyExistsError: ("BucketAlreadyOwnedByYou", 409),
    core.NotDirectoryError: ("InvalidRequest", 400),
    core.IsDirectoryError: ("InvalidRequest", 400),
    core.NotEmptyError: ("BucketNotEmpty", 409),
    core.PermissionDeniedError: ("AccessDenied", 403),
    core.InvalidArgumentError: ("InvalidArgument", 400),
    core.NameTooLongError: ("KeyTooLongError", 400),
    core.LimitExceededError: ("InvalidRequest", 400),
    core.CrossDeviceError: ("InvalidRequest", 400),
    core.QuotaExceededError: ("QuotaExceeded", 403),
    core.TokenReusedError: ("IdempotencyParameterMismatch", 400),
    core.WriteOffsetError: ("InvalidWriteOffset", 400),
    core.PreconditionFailedError: ("PreconditionFailed", 412),
    core.InvalidPartError: ("InvalidPart", 400),
    core.InvalidPartOrderError: ("InvalidPartOrder", 400),
    core.PartTooSmallError: ("EntityTooSmall", 400),
    core.StaleHandleError: ("OperationAborted", 409),
    core.ChecksumMismatchError: ("BadDigest", 400),
    core.UnsupportedError: ("NotImplemented", 501),
    core.ProtocolError: ("InternalError", 500),
    core.CallerError: ("InvalidRequest", 400),
    core.ConflictError: ("OperationAborted", 409),
    core.TransactionTooOldError: ("SlowDown", 503),
    core.StaleChainVersionError: ("SlowDown", 503),
    core.KeyServiceUnavailableError: ("ServiceUnavailable", 503),
    core.UnavailableError: ("ServiceUnavailable", 503),
    core.DeadlineExceededError: ("ServiceUnavailable", 503),
    core.ChunkBusyError: ("SlowDown", 503),
    core.RetryableError: ("SlowDown", 503),
    core.NoSpaceError: ("InsufficientStorage", 507),
    core.ConfigError: ("InternalError", 500),
    core.MissingDependencyError: ("InternalError", 500),
    core.DiskError: ("InternalError", 500),
    core.OperatorError: ("InternalError", 500),
    core.DataLossError: ("InternalError", 500),
    core.CraqenError: ("InternalError", 500),
}


def whole_tree(base: type[core.CraqenError]) -> set[type[core.CraqenError]]:
    """The errors of core/errors.py: others may be derived elsewhere, and map as their bases do."""
    found = {base}
    for derived in base.__subclasses__():
        if derived.__module__ == core.__name__:
            found |= whole_tree(derived)
    return found


def test_every_core_error_is_mapped_on_purpose() -> None:
    assert whole_tree(core.CraqenError) == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED)
def test_mapping(kind: type[core.CraqenError]) -> None:
    error = kind("disk /secret/path: detail", **OWN_ARGUMENTS.get(kind, {}))
    answer = from_core(error, bucket="b", key=b"k\xff", upload_id="u")
    assert (answer.code, answer.status) == EXPECTED[kind]
    if answer.status >= 500 and answer.code != "NotImplemented":
        assert "secret" not in answer.message
    if answer.status == 503:
        assert answer.headers["Retry-After"] == "1"


def test_fields_name_what_was_asked_for() -> None:
    def fields(error: core.CraqenError) -> dict[str, str]:
        return from_core(error, bucket="b", key=b"k\xff", upload_id="u").fields

    assert fields(core.BucketNotFoundError("")) == {"BucketName": "b"}
    assert fields(core.NotFoundError("")) == {"Key": "k\ufffd"}
    assert fields(core.UploadNotFoundError("")) == {"UploadId": "u"}
    assert fields(core.PreconditionFailedError("", condition="If-Match")) == {
        "Condition": "If-Match"
    }
    assert fields(core.PartTooSmallError("", part_number=3, size_bytes=17)) == {
        "PartNumber": "3",
        "ProposedSize": "17",
    }


def test_messages_of_callers_errors_come_from_core() -> None:
    assert from_core(core.InvalidArgumentError("name x: too odd")).message == "name x: too odd"
    assert from_core(core.InvalidArgumentError("")).message == ERRORS["InvalidArgument"].message


def test_a_lost_race_of_a_conditional_write_is_named_so() -> None:
    assert from_core(core.ConflictError(""), conditional=True).code == "ConditionalRequestConflict"
    assert from_core(core.ConflictError("")).code == "OperationAborted"


def test_every_code_has_a_status_and_words() -> None:
    for code, kind in ERRORS.items():
        error = S3Error(code)
        assert (error.status, error.message) == kind
        assert 400 <= error.status < 600
        assert error.message


@pytest.mark.parametrize(
    "name",
    ["abc", "a1-b.c", "123", "a" * 63, "my-bucket", "1.2.3", "1.2.3.4.5", "1.2.3.a", "xn-a"],
)
def test_bucket_names(name: str) -> None:
    check_new_bucket_name(name)
    assert has_bucket_shape(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "ab", "a" * 64, "Abc", "a_b", "-abc", "abc-", ".abc", "abc.", "a..b", "a.-b", "a-.b",
        "192.168.5.4", "xn--abc", "sthree-abc", "sthree-configurator", "amzn-s3-demo-x",
        "abc-s3alias", "abc--ol-s3", "abc.mrap", "abc--x-s3", "abc--table-s3", "a b", "é-bucket",
        "abc\n", "٣٣٣",
    ],
)  # fmt: skip
def test_bucket_names_refused(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_new_bucket_name(name)
    assert (caught.value.code, caught.value.fields["BucketName"]) == ("InvalidBucketName", name)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (b"", "UserKeyMustBeSpecified"),
        (b"k" * 1025, "KeyTooLongError"),
        (b"\xff", "InvalidURI"),
        ("\ud800".encode("utf-8", "surrogatepass"), "InvalidURI"),
    ],
)
def test_keys_refused(key: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_key(key)
    assert caught.value.code == code


def test_keys() -> None:
    for key in (b"k", b"k" * 1024, "é".encode() * 512, b"\x00\x01", b"/", b"//", b".."):
        check_key(key)


def credentials_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "credentials.yaml"
    path.write_text(text)
    os.chmod(path, mode)
    return path


GOOD = """\
credentials:
  - {access_key: AK1, secret_key: s3cret/one, name: root}
  - {access_key: AK2, secret_key: s3cret/two}
"""


def test_credentials_file(tmp_path: Path) -> None:
    path = credentials_file(tmp_path, GOOD)
    store = FileCredentialStore(path)
    first, second = store.get("AK1"), store.get("AK2")
    assert first is not None
    assert second is not None
    assert (first.secret_key, first.identity.display_name) == ("s3cret/one", "root")
    assert second.identity.display_name == "root"
    assert store.get("AK3") is None
    credentials_file(tmp_path, "credentials: [{access_key: AK3, secret_key: three}]")
    store.reload()
    assert store.get("AK1") is None
    assert store.get("AK3") is not None


def test_a_failed_reload_keeps_what_was_known(tmp_path: Path) -> None:
    store = FileCredentialStore(credentials_file(tmp_path, GOOD))
    credentials_file(tmp_path, "nonsense")
    with pytest.raises(core.ConfigError):
        store.reload()
    assert store.get("AK1") is not None


@pytest.mark.parametrize(
    ("text", "mode", "part"),
    [
        (GOOD, 0o644, "chmod 600"),
        (GOOD, 0o660, "chmod 600"),
        ("a: [s3cret", 0o600, "not YAML"),
        ("\ta: s3cret", 0o600, "not YAML at line 1"),
        ("", 0o600, "no list named credentials"),
        ("credentials: {a: s3cret}", 0o600, "no list named credentials"),
        ("credentials: [s3cret]", 0o600, "entry 1"),
        ("credentials: [{access_key: AK}]", 0o600, "secret_key must be a text"),
        ("credentials: [{access_key: AK, secret_key: 123}]", 0o600, "secret_key must be a text"),
        ("credentials: [{access_key: '', secret_key: s3cret}]", 0o600, "access_key must be"),
        ("credentials: [{access_key: A, secret_key: s3cret, x: y}]", 0o600, "unknown x"),
        (GOOD.replace("AK2", "AK1"), 0o600, "appears twice"),
    ],
)
def test_credentials_files_refused(tmp_path: Path, text: str, mode: int, part: str) -> None:
    path = credentials_file(tmp_path, text, mode)
    with pytest.raises(core.ConfigError) as caught:
        FileCredentialStore(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_missing_credentials_file(tmp_path: Path) -> None:
    with pytest.raises(core.ConfigError, match="cannot be read"):
        FileCredentialStore(tmp_path / "none.yaml")
