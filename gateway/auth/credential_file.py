"""DRIVER: credentials from a YAML file of mode 0600."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import yaml

from ...core.errors import ConfigError
from .credentials import Credentials, account_identity

FILE_BYTES_MAX = 16 * 1024 * 1024  # a hundred thousand keys; a larger file is not one of ours

ROOT_NAME = "root"
"""The display name of the store's own account where a key has none."""

_FIELDS = {"access_key": True, "secret_key": True, "name": False}


class FileCredentialStore:
    """A ``CredentialStore`` over a file of the form::

        credentials:
          - access_key: …
            secret_key: …
            name: root

    Read at the start and by ``reload``; ``get`` does no I/O.
    """

    def __init__(self, path: str | Path, *, uid: int = 0, gid: int = 0) -> None:
        """Who has one of these keys makes files of *uid* and *gid*. Raises ConfigError as
        ``reload`` does."""
        self._path = Path(path)
        self._uid, self._gid = uid, gid
        self._credentials: dict[str, Credentials] = {}
        self.reload()

    def get(self, access_key: str) -> Credentials | None:
        return self._credentials.get(access_key)

    async def find(self, access_key: str, session_token: str) -> Credentials | None:
        return None  # there are no others

    def reload(self) -> None:
        """Read the file again; what was known stays if it cannot be read.

        Raises ConfigError if the file is missing, readable by others, or not of the form above. No
        secret is ever in the message.
        """
        self._credentials = _parse(self._read(), self._path, self._uid, self._gid)

    def _read(self) -> bytes:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"credentials file {self._path}: cannot be read: {error.strerror}; "
                f"craqen up makes one at its first start"
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(
                    f"credentials file {self._path}: mode is {mode:04o}, so that others can reach "
                    f"it; expected 0600: chmod 600 {self._path}"
                )
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(
                f"credentials file {self._path}: larger than {FILE_BYTES_MAX} bytes; "
                f"expected a list of access keys"
            )
        return data


def _parse(data: bytes, path: Path, uid: int, gid: int) -> dict[str, Credentials]:
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        # Not chained: the parser's message quotes the text around, which may be a secret.
        raise ConfigError(f"credentials file {path}: not YAML{place}; mend it") from None
    entries = document.get("credentials") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(
            f"credentials file {path}: no list named credentials at the top; expected entries "
            f"with access_key and secret_key"
        )
    found: dict[str, Credentials] = {}
    for number, entry in enumerate(entries, 1):
        credentials = _entry(entry, f"credentials file {path}, entry {number}", uid, gid)
        if credentials.access_key in found:
            raise ConfigError(
                f"credentials file {path}, entry {number}: access_key "
                f"{credentials.access_key} appears twice; remove one"
            )
        found[credentials.access_key] = credentials
    return found


def _entry(entry: Any, where: str, uid: int, gid: int) -> Credentials:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected access_key, secret_key and name")
    unknown = sorted(str(name) for name in entry if name not in _FIELDS)
    if unknown:
        raise ConfigError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(_FIELDS)}")
    for name, needed in _FIELDS.items():
        value = entry.get(name, None if needed else "")
        if not isinstance(value, str) or (needed and not value):
            raise ConfigError(f"{where}: {name} must be a text; quote it if it looks like a number")
    return Credentials(
        access_key=entry["access_key"],
        secret_key=entry["secret_key"],
        identity=account_identity(entry.get("name", "") or ROOT_NAME, uid=uid, gid=gid),
    )
