"""What is wrong with a policy document."""

from __future__ import annotations

from ..errors import InvalidArgumentError


class PolicyError(InvalidArgumentError):
    """The document is no policy; the text says which element is wrong."""
