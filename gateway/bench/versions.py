"""What versioning costs: each row in a versioned bucket beside the same in a plain one."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...core.bench.measure import Sample, measure, median
from .client import exchange_all, request_bytes, run_connections

if TYPE_CHECKING:
    from .s3 import Bench

BODY_BYTES = 1024
CONNECTIONS = 8
REQUESTS = 400  # per connection
KEYS = 100  # each is put again and again
LISTED_KEYS = 5000
PAGES = 40
COST_MOST = 1.15
PLAIN, VERSIONED = "plain", "versioned"

_ENABLED = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Status>Enabled</Status></VersioningConfiguration>"
)


class VersionRows:
    """Fills two buckets alike and measures them in turn."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._server = bench.server
        self._body = os.urandom(BODY_BYTES)

    def run(self) -> None:
        """Add all rows to the report."""
        for bucket in (PLAIN, VERSIONED):
            self._send([self._head("PUT", f"/{bucket}")])
        digest = base64.b64encode(hashlib.md5(_ENABLED, usedforsecurity=False).digest()).decode()
        head = request_bytes(
            self._server,
            "PUT",
            f"/{VERSIONED}",
            query="versioning=",
            body_length=len(_ENABLED),
            further={"content-md5": digest},
        )
        exchange_all(self._server, [(head, _ENABLED)])
        self._row("PUT 1 KiB over another, versioned", self._put_again)
        self._row("PUT 1 KiB of a new key, versioned", self._put_new)
        self._row("GET 1 KiB, versioned", self._get)
        self._fill()
        self._row(
            "ListObjectVersions, 1,000 versions (beside ListObjectsV2)",
            lambda bucket: self._list(
                bucket, "list-type=2&prefix=a%2F" if bucket == PLAIN else "prefix=a%2F&versions="
            ),
            bound=2.0,
        )

    def _head(self, method: str, path: str, *, query: str = "", length: int = 0) -> bytes:
        return request_bytes(self._server, method, path, query=query, body_length=length)

    def _send(self, heads: list[bytes]) -> None:
        exchange_all(self._server, [(head, b"") for head in heads])

    def _row(self, work: str, run: Callable[[str], int], *, bound: float = COST_MOST) -> None:
        bench = self._bench
        run(PLAIN)
        run(VERSIONED)
        mine, theirs = bench.alternate(
            lambda: measure(lambda: run(VERSIONED), bench.processes),
            lambda: measure(lambda: run(PLAIN), bench.processes),
        )
        cost, other = median(mine, _cost), median(theirs, _cost)
        bench.report.add(
            work, f"{cost:.0f} us CPU", f"plain bucket {other:.0f} us CPU", ratio=cost / other,
            at_most=bound,
        )  # fmt: skip

    def _requests(self, heads: list[bytes], body: bytes = b"") -> int:
        return run_connections(
            self._server,
            lambda wire, number: (wire.exchange(heads[number], body), None)[1],
            connections=CONNECTIONS,
            per_connection=len(heads) // CONNECTIONS,
        )

    def _put_again(self, bucket: str) -> int:
        return self._requests(
            [
                self._head("PUT", f"/{bucket}/again-{number % KEYS}", length=BODY_BYTES)
                for number in range(CONNECTIONS * REQUESTS)
            ],
            self._body,
        )

    def _put_new(self, bucket: str) -> int:
        turn = os.urandom(4).hex()
        return self._requests(
            [
                self._head("PUT", f"/{bucket}/new-{turn}-{number}", length=BODY_BYTES)
                for number in range(CONNECTIONS * REQUESTS)
            ],
            self._body,
        )

    def _get(self, bucket: str) -> int:
        return self._requests(
            [
                self._head("GET", f"/{bucket}/again-{number % KEYS}")
                for number in range(CONNECTIONS * REQUESTS)
            ]
        )

    def _fill(self) -> None:
        """As many keys as versions: five of each key there, one here."""
        for bucket, keys in ((PLAIN, LISTED_KEYS), (VERSIONED, LISTED_KEYS // 5)):
            self._requests(
                [
                    self._head("PUT", f"/{bucket}/a/listed-{number % keys:05}")
                    for number in range(LISTED_KEYS)
                ]
            )

    def _list(self, bucket: str, query: str) -> int:
        head = self._head("GET", f"/{bucket}", query=query)
        return run_connections(
            self._server,
            lambda wire, number: (wire.exchange(head), None)[1],
            connections=1,
            per_connection=PAGES,
        )


def _cost(sample: Sample) -> float:
    return sample.microseconds
