"""Key services on loopback, faithful to the published APIs of AWS KMS and Vault's transit engine as
far as a client of theirs can tell. They check what the real ones check: signatures and tokens,
contexts, names, lengths."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCESS_KEY, SECRET_KEY, REGION = "AKIDKMS", "kms secret", "eu-test-1"
TOKEN = "hvs.test"

Reply = tuple[int, dict[str, Any]]


class FakeService:
    """What both share: keys, a switchable fault, and a count of calls."""

    def __init__(self) -> None:
        self.keys = {"first": [os.urandom(32)], "second": [os.urandom(32)]}
        self.disabled: set[str] = set()
        self.calls: list[str] = []
        self.fault: Reply | None = None
        self.hang = threading.Event()
        self.hangs = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        raise NotImplementedError

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if self.hangs:
            self.hang.wait(30)
        return self.fault or self.answer(path, headers, body)

    def seal(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(self.keys[key_id][-1]).encrypt(nonce, plaintext, context)

    def open(self, key_id: str, sealed: bytes, context: bytes) -> bytes | None:
        for key in reversed(self.keys[key_id]):
            try:
                return AESGCM(key).decrypt(sealed[:12], sealed[12:], context)
            except InvalidTag:
                continue
        return None


class FakeKms(FakeService):
    """AWS KMS: docs.aws.amazon.com/kms/latest/APIReference."""

    def arn(self, key_id: str) -> str:
        return f"arn:aws:kms:{REGION}:111122223333:key/{key_id}"

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers["authorization"] != self._authorization(headers, body):
            return 400, {"__type": "InvalidSignatureException"}
        assert (path, headers["content-type"]) == ("/", "application/x-amz-json-1.1")
        name = headers["x-amz-target"].removeprefix("TrentService.")
        self.calls.append(name)
        document = json.loads(body)
        key_id = document["KeyId"].rpartition("key/")[2]
        if key_id not in self.keys:
            return 400, {"__type": "NotFoundException", "message": "no such key"}
        if key_id in self.disabled:
            return 400, {"__type": "com.amazonaws.kms#DisabledException"}
        context = json.dumps(document["EncryptionContext"], sort_keys=True).encode()
        if name == "GenerateDataKey":
            assert document["KeySpec"] == "AES_256"
            plaintext = os.urandom(32)
            blob = self.seal(key_id, plaintext, context)
        else:
            assert name == "Decrypt"
            blob = base64.b64decode(document["CiphertextBlob"])
            found = self.open(key_id, blob, context)
            if found is None:
                return 400, {"__type": "InvalidCiphertextException"}
            plaintext = found
        return 200, {
            "KeyId": self.arn(key_id),
            "Plaintext": base64.b64encode(plaintext).decode(),
            "CiphertextBlob": base64.b64encode(blob).decode(),
        }

    def _authorization(self, headers: dict[str, str], body: bytes) -> str:
        """What AWS's own library signs the request with."""
        signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
        request = botocore.awsrequest.AWSRequest("POST", self.url + "/", data=body)
        for name in signed.split(";"):
            if name not in ("host", "x-amz-date"):
                request.headers[name] = headers[name]
        request.context["timestamp"] = headers["x-amz-date"]
        credentials = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)
        signer = botocore.auth.SigV4Auth(credentials, "kms", REGION)
        request.headers["X-Amz-Date"] = headers["x-amz-date"]
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        return (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
            f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}, "
            f"Signature={signature}"
        )


class FakeVault(FakeService):
    """The transit engine: developer.hashicorp.com/vault/api-docs/secret/transit."""

    def __init__(self) -> None:
        super().__init__()
        self.token = TOKEN

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("x-vault-token") != self.token:
            return 403, {"errors": ["permission denied"]}
        prefix, _, rest = path.partition("/v1/transit/")
        if prefix or not rest:
            return 404, {"errors": ["no handler for route"]}
        verb, _, key_id = rest.rpartition("/")
        self.calls.append(verb)
        if key_id in self.disabled:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        if key_id not in self.keys:
            return 400, {"errors": ["encryption key not found"]}
        document = json.loads(body)
        if verb == "datakey/plaintext":
            plaintext = os.urandom(document["bits"] // 8)
            sealed = base64.b64encode(self.seal(key_id, plaintext, b"")).decode()
            version = len(self.keys[key_id])
            data = {"ciphertext": f"vault:v{version}:{sealed}"}
        else:
            assert verb == "decrypt"
            found = self.open(key_id, base64.b64decode(document["ciphertext"].split(":")[2]), b"")
            if found is None:
                return 400, {"errors": ["cipher: message authentication failed"]}
            plaintext, data = found, {}
        return 200, {"data": {"plaintext": base64.b64encode(plaintext).decode(), **data}}


@contextmanager
def running(service: FakeService) -> Iterator[None]:
    """*service* on an ephemeral port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, document = service.handle(self.path, headers, body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                pass  # who asked has given up

    server = ThreadingHTTPServer(("127.0.0.1", service.port), Handler)
    server.daemon_threads = True
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        service.hang.set()
        server.shutdown()
        thread.join()
        server.server_close()
