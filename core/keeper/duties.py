"""The duties of a keeper: one line for each."""

from __future__ import annotations

from ..client.connect import Client
from ..options import Config
from .duty import Duty
from .events import EventDuty
from .lifecycle import LifecycleDuty
from .quotas import QuotaDuty
from .trash import TrashDuty


def all_duties(client: Client, config: Config) -> list[Duty]:
    """Everything that keepers do, over the store that *client* is connected to."""
    return [
        LifecycleDuty(client.kv, client.meta, config.lifecycle),
        EventDuty(client.kv, config.events, config.gateway.region),
        TrashDuty(client.meta),
        QuotaDuty(client.kv, client.meta, config.quotas),
    ]
