"""The aspect ``access-mode``: whether policies, file permissions or both decide about a bucket's
objects. Set by ``craqen admin bucket mode``, by no S3 operation. Pure."""

from __future__ import annotations

from ...core.access.modes import ACCESS_MODE_ASPECT, MODES
from ..bucket_info import BucketInfo


def mode_of(info: BucketInfo, default: str) -> str:
    """What holds for a bucket; *default* for those that say nothing."""
    value = info.settings.get(ACCESS_MODE_ASPECT)
    if value is None:
        return default
    mode = value.decode("ascii", "replace")
    return mode if mode in MODES else default
