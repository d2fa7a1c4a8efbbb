"""What rules cost: requests of a user with a policy, in a versioned bucket whose own policy has a
hundred statements, beside the same of root in a plain bucket; uploads with and without a checksum
of the client's."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import xxhash

from ...core.bench.measure import Sample, measure, median
from ...core.cli.open_kv import opened_kv
from ...core.clock import SystemClock
from ...core.identity.records import FIRST_ACCOUNT_ID
from ...core.identity.schema import Kind
from ...core.identity.store import IdentityStore
from ...core.options import Config
from .client import Server, exchange_all, request_bytes, run_connections

if TYPE_CHECKING:
    from .s3 import Bench

BODY_BYTES = 1024
CONNECTIONS = 8
REQUESTS = 400  # per connection
KEYS = 100  # each is put again and again
STATEMENTS = 100
COST_MOST = 1.15
FREE, GUARDED = "free", "guarded"
USER = "bench"

_ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


class GuardedRows:
    """Makes the user and both buckets, and measures them in turn."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._root = bench.server
        self._body = os.urandom(BODY_BYTES)
        digest = xxhash.xxh64_digest(self._body)
        self._checksum = {"x-amz-checksum-xxhash64": base64.b64encode(digest).decode()}

    def run(self) -> None:
        """Add all rows to the report."""
        access_key, secret_key = asyncio.run(_make_user(self._bench.config))
        user = dataclasses.replace(self._root, access_key=access_key, secret_key=secret_key)
        for bucket in (FREE, GUARDED):
            exchange_all(self._root, [(request_bytes(self._root, "PUT", f"/{bucket}"), b"")])
        self._set("versioning", _ENABLED)
        self._set("policy", json.dumps(bucket_policy()).encode())
        what = f"versioned, by a user, {STATEMENTS} statements"
        self._row(f"PUT 1 KiB with a checksum, {what}", self._put, user)
        self._row(f"GET 1 KiB, {what}", self._get, user)

    def _set(self, setting: str, document: bytes) -> None:
        digest = hashlib.md5(document, usedforsecurity=False).digest()
        head = request_bytes(
            self._root,
            "PUT",
            f"/{GUARDED}",
            query=f"{setting}=",
            body_length=len(document),
            further={"content-md5": base64.b64encode(digest).decode()},
        )
        exchange_all(self._root, [(head, document)])

    def _row(self, work: str, run: Callable[[Server, str], int], user: Server) -> None:
        bench = self._bench
        run(self._root, FREE)
        run(user, GUARDED)
        mine, theirs = bench.alternate(
            lambda: measure(lambda: run(user, GUARDED), bench.processes),
            lambda: measure(lambda: run(self._root, FREE), bench.processes),
        )
        cost, other = median(mine, _cost), median(theirs, _cost)
        bench.report.add(
            work, f"{cost:.0f} us CPU", f"root, plain bucket {other:.0f} us CPU",
            ratio=cost / other, at_most=COST_MOST,
        )  # fmt: skip

    def _put(self, server: Server, bucket: str) -> int:
        headers = self._checksum if bucket == GUARDED else {}
        return self._requests(server, "PUT", bucket, headers, self._body)

    def _get(self, server: Server, bucket: str) -> int:
        return self._requests(server, "GET", bucket, {}, b"")

    def _requests(
        self, server: Server, method: str, bucket: str, headers: dict[str, str], body: bytes
    ) -> int:
        heads = [
            request_bytes(
                server,
                method,
                f"/{bucket}/teams/red/object-{number % KEYS}",
                body_length=len(body),
                further=headers,
            )
            for number in range(CONNECTIONS * REQUESTS)
        ]
        return run_connections(
            server,
            lambda wire, number: (wire.exchange(heads[number], body), None)[1],
            connections=CONNECTIONS,
            per_connection=REQUESTS,
        )


async def _make_user(config: Config) -> tuple[str, str]:
    """A user that may do everything with objects of one bucket; its key."""
    async with opened_kv(config) as kv:
        store = await IdentityStore.open(kv, SystemClock(), config.cluster_secret())
        await store.create_user(FIRST_ACCOUNT_ID, USER)
        allowed = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["s3:GetObject", "s3:PutObject"],
                    "Resource": f"arn:aws:s3:::{GUARDED}/*",
                }
            ],
        }
        await store.put_inline(Kind.USER, FIRST_ACCOUNT_ID, USER, "objects", json.dumps(allowed))
        key, secret = await store.create_access_key(FIRST_ACCOUNT_ID, USER)
    return key.access_key, secret


def bucket_policy() -> dict[str, Any]:
    """Statements of five kinds, none of which decides the requests of the benchmark."""
    arn = f"arn:aws:s3:::{GUARDED}"
    statements: list[dict[str, Any]] = []
    for number in range(STATEMENTS // 5):
        other = {"AWS": f"arn:aws:iam::{FIRST_ACCOUNT_ID}:root"}
        statements += [
            _statement("Deny", "*", f"{arn}/folders/{number}/*"),
            _statement("Deny", "*", f"{arn}/teams/*/secret-{number}"),
            _statement("Allow", other, f"{arn}/shared/{number}/*"),
            _statement("Deny", "*", f"{arn}/teams/*", IpAddress={
                "aws:SourceIp": f"203.0.113.{number}/32"}),
            _statement("Deny", "*", f"{arn}/homes/${{aws:username}}/{number}/*"),
        ]  # fmt: skip
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(effect: str, principal: Any, resource: str, **condition: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Effect": effect,
        "Principal": principal,
        "Action": ["s3:GetObject", "s3:PutObject"],
        "Resource": resource,
    }
    if condition:
        made["Condition"] = condition
    return made


def _cost(sample: Sample) -> float:
    return sample.microseconds
