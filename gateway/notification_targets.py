"""Who can be told of events in buckets: the option ``gateway.notification_targets``. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse_targets(texts: Sequence[str]) -> dict[str, str]:
    """URLs of the targets by name. Raises ConfigError."""
    targets: dict[str, str] = {}
    for text in texts:
        name, separator, url = text.partition("=")
        if not separator or not _NAME.fullmatch(name) or "://" not in url:
            raise ConfigError(
                f"gateway.notification_targets: {name!r}: write NAME=URL, with a name of letters, "
                "digits, - and _"
            )
        if name in targets:
            raise ConfigError(f"gateway.notification_targets: {name} is there twice")
        targets[name] = url
    return targets
