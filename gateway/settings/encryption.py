"""The aspect ``encryption``: how objects are encrypted that are put without a word about it. Pure.

A bucket where it was never set has none: unlike AWS, which encrypts everything with keys of its
own, and like the stores whose clients come here.
"""

from __future__ import annotations

from ...core.crypt.defaults import ASPECT
from ...core.crypt.defaults import DefaultEncryption as Encryption
from ..errors import S3Error, invalid_argument
from ..xml import SMALL_DOCUMENT_BYTES_MAX, children, malformed, parse_document
from .elements import (
    all_texts,
    document,
    element,
    flag,
    needed,
    only,
    only_these,
    text_of,
    truth_of,
)
from .stored import Stored

AES256 = "AES256"
KMS = "aws:kms"
KMS_DUAL_LAYER = "aws:kms:dsse"
BLOCKED = frozenset({"NONE", "SSE-C"})
KEY_ID_CHARACTERS_MAX = 2048


STORED: Stored[Encryption] = Stored(ASPECT, Encryption)


def parse(body: bytes) -> Encryption:
    """The one rule of a ServerSideEncryptionConfiguration. Raises S3Error: MalformedXML,
    InvalidArgument, NotImplemented, MaxMessageLengthExceeded."""
    root = parse_document(
        body, "ServerSideEncryptionConfiguration", bytes_max=SMALL_DOCUMENT_BYTES_MAX
    )
    only_these(root, frozenset({"Rule"}))
    rules = list(children(root, "Rule"))
    if len(rules) != 1:
        raise malformed()
    rule = rules[0]
    members = {"ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes"}
    only_these(rule, frozenset(members))
    algorithm = key_id = ""
    default = only(rule, "ApplyServerSideEncryptionByDefault")
    if default is not None:
        needed(default, "SSEAlgorithm")
        algorithm = (text_of(default, "SSEAlgorithm") or "").strip()
        key_id = (text_of(default, "KMSMasterKeyID") or "").strip()
        _check(algorithm, key_id)
    blocked: tuple[str, ...] = ()
    listed = only(rule, "BlockedEncryptionTypes")
    if listed is not None:
        blocked = all_texts(listed, "EncryptionType")
        if not blocked or not BLOCKED.issuperset(blocked):
            raise malformed()
    if not algorithm and not blocked:
        raise malformed()
    return Encryption(algorithm, key_id, truth_of(rule, "BucketKeyEnabled"), blocked)


def _check(algorithm: str, key_id: str) -> None:
    if algorithm not in (AES256, KMS, KMS_DUAL_LAYER):
        raise malformed()
    if key_id and algorithm == AES256:
        raise S3Error(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
        )
    if len(key_id) > KEY_ID_CHARACTERS_MAX:
        raise invalid_argument("The key id is too long", name="KMSMasterKeyID", value=key_id[:100])


def render(encryption: Encryption) -> bytes:
    """ServerSideEncryptionConfiguration."""
    rule = ""
    if encryption.algorithm:
        default = element("SSEAlgorithm", encryption.algorithm)
        if encryption.key_id:
            default += element("KMSMasterKeyID", encryption.key_id)
        rule = f"<ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault>"
    if encryption.bucket_key is not None:
        rule += flag("BucketKeyEnabled", encryption.bucket_key)
    if encryption.blocked:
        kinds = "".join(element("EncryptionType", kind) for kind in encryption.blocked)
        rule += f"<BlockedEncryptionTypes>{kinds}</BlockedEncryptionTypes>"
    return document("ServerSideEncryptionConfiguration", f"<Rule>{rule}</Rule>")
