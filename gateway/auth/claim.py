"""A request says who signed it; whether that is so is checked once the secret is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .credentials import Credentials
from .request import Authentication


class Claim(NamedTuple):
    """Who is said to have signed a request: form, scope and clock were checked."""

    access_key: str
    token: str
    """The session token that came along; empty: none."""
    check: Callable[[Credentials], Authentication]
    """Checks all the rest. Raises S3Error."""
