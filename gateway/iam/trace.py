"""How far a call to the IAM or STS API came, for the audit log."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.identity.records import Identity
from .query import IAM


class CallTrace:
    """Filled in while the call is answered."""

    __slots__ = (
        "access_key",
        "action",
        "error_code",
        "error_message",
        "identity",
        "parameters",
        "service",
    )

    def __init__(self) -> None:
        self.service = IAM
        self.action = ""
        """Empty: there is none of that name."""
        self.identity: Identity | None = None
        self.access_key = ""
        self.parameters: Mapping[str, str] = {}
        """All that the form has, secrets too."""
        self.error_code = ""
        self.error_message = ""
