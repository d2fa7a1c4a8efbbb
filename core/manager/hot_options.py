"""Pure: the options that may be changed while the cluster runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ..errors import InvalidArgumentError
from ..options import StorageOptions
from ..placement.inventory import REPLICAS_MAX
from .rebalancing import AT_ONCE

REPLICAS = "cluster.replicas"
CHAINS_AT_ONCE_MAX = 4096


@dataclass(frozen=True, slots=True)
class HotOption:
    """What its values may be."""

    minimum: float
    maximum: float
    whole: bool
    help: str


def _of_storage(name: str) -> HotOption:
    found = next(one for one in fields(StorageOptions) if one.name == name).metadata
    return HotOption(found["minimum"], found["maximum"], False, found["help"])


HOT_OPTIONS = {
    "storage.resync_mebibytes_per_second": _of_storage("resync_mebibytes_per_second"),
    "storage.scrub_mebibytes_per_second": _of_storage("scrub_mebibytes_per_second"),
    AT_ONCE: HotOption(
        1, CHAINS_AT_ONCE_MAX, True, "How many chains a rebalance fills at one time."
    ),
    REPLICAS: HotOption(
        1,
        REPLICAS_MAX,
        True,
        "Serving targets wanted in every chain. The next rebalance makes it so.",
    ),
}


def check_option(name: str, value: str) -> str:
    """*value* in the form that is stored. Raises InvalidArgumentError for an unknown option or a
    value out of its bounds."""
    option = HOT_OPTIONS.get(name)
    if option is None:
        raise InvalidArgumentError(
            f"option {name!r} cannot be changed while running; these can: "
            f"{', '.join(sorted(HOT_OPTIONS))}. Others are set in the configuration file, and "
            f"take effect when their process starts"
        )
    kind = "a whole number" if option.whole else "a number"
    try:
        number = int(value) if option.whole else float(value)
    except ValueError:
        number = math.nan
    if not option.minimum <= number <= option.maximum:
        raise InvalidArgumentError(
            f"option {name}: expected {kind} from {option.minimum:g} to {option.maximum:g}, found "
            f"{value!r}"
        )
    return str(number)
