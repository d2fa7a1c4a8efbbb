"""Credentials of a whole store: those in the file, and those in the KV."""

from __future__ import annotations

from ...core.errors import InvalidArgumentError
from ...core.identity.directory import Directory
from ..errors import S3Error
from .credentials import Credentials, CredentialStore


class StoreCredentials:
    """A ``CredentialStore``: the keys in *own* first, which need no look-up."""

    def __init__(self, own: CredentialStore, directory: Directory) -> None:
        self._directory = directory
        self.get = own.get

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        """Those of the KV as they are now. Raises S3Error InvalidToken, and what the KV does."""
        try:
            return await self._directory.find(access_key, session_token)
        except InvalidArgumentError as error:
            raise S3Error("InvalidToken") from error
