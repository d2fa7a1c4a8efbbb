"""Pure: how two processes of a cluster prove to each other that they know its secret.

Both sides draw a fresh nonce. A proof is HMAC-SHA256 (RFC 2104) over who speaks, both nonces and
the node's number, so that none can be used again, sent back, or given to another node. Nothing is
encrypted: this keeps strangers out, not listeners.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 16

Role = Literal["server", "client"]


class ClusterSecret:
    """The secret; it shows itself in no text."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        self._key = secret

    def derived(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for *purpose*, from which the secret cannot be told."""
        return hmac.digest(self._key, b"craqen derived " + purpose, hashlib.sha256)

    def proof(self, role: Role, client_nonce: bytes, server_nonce: bytes, node_id: int) -> bytes:
        """What *role* sends to show that it knows the secret."""
        text = f"craqen 1 {role} {node_id} ".encode()
        return hmac.digest(self._key, text + client_nonce + server_nonce, hashlib.sha256)

    def proves(
        self, proof: bytes, role: Role, client_nonce: bytes, server_nonce: bytes, node_id: int
    ) -> bool:
        """Whether *proof* is the one expected; takes the same time for every wrong one."""
        expected = self.proof(role, client_nonce, server_nonce, node_id)
        return hmac.compare_digest(proof, expected)
