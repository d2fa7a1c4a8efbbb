"""The header ``x-amz-expiration``: when a rule of the bucket will end an object. Pure."""

from __future__ import annotations

from urllib.parse import quote

from ..core.errors import DataLossError
from ..core.lifecycle.calendar import REAL_DAYS
from ..core.lifecycle.plan import ObjectEnds
from ..core.lifecycle.records import ASPECT
from ..core.meta.expiry_scan import began_ns, subject_of
from ..core.meta.records import Inode
from .bucket_info import BucketInfo
from .exchange import Exchange, is_folder
from .settings.lifecycle import STORED
from .times import NANOSECONDS, http_date

HEADER = "x-amz-expiration"


def expiration_header(exchange: Exchange, inode: Inode) -> dict[str, str]:
    """The header of an answer about *inode*, the current object of the request's key; empty if no
    rule ends it. It counts days of the calendar, also where ``lifecycle.day_seconds`` is a test
    clock."""
    info = exchange.bucket_info
    if info is None or ASPECT not in info.settings or is_folder(inode):
        return {}
    try:
        ends = info.derived(HEADER, lambda: _ends(info))
    except DataLossError:
        return {}  # whoever asks for the rules is told; the object is whole
    end = ends.of(subject_of(exchange.key, inode), began_ns(inode))
    if end is None:
        return {}
    date = http_date(end.due_ns // NANOSECONDS)
    return {HEADER: f'expiry-date="{date}", rule-id="{quote(end.rule_id, safe="")}"'}


def _ends(info: BucketInfo) -> ObjectEnds:
    lifecycle = STORED.of(info)
    assert lifecycle is not None
    return ObjectEnds(lifecycle, REAL_DAYS)
