"""DRIVER: multipart uploads: has each part an upload, and each upload a bucket?"""

from __future__ import annotations

from ..kv.store import ReadTransaction, Transaction
from ..meta.schema import (
    decode_part,
    decode_upload,
    inode_key,
    part_range,
)
from ..meta.segments import References
from .findings import Finding, Safety
from .scan import (
    LARGE_PAGE_ROWS,
    Check,
    Rows,
    decoded,
    letter_range,
    number_of,
    pages,
    plain_pages,
    read_range,
)

UPLOADS_AT_ONCE = 100_000  # ids of uploads with parts, looked for in one walk over the uploads


class UploadCheck:
    """Walks parts and uploads."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def run(self) -> None:
        """Check all uploads."""
        self._check.progress.stage("multipart uploads")
        await self._buckets()
        wanted: set[str] = set()
        async for rows in plain_pages(self._check.kv, *letter_range(b"p"), limit=LARGE_PAGE_ROWS):
            wanted |= {key[1:-2].decode(errors="replace") for key, _ in rows}
            if len(wanted) >= UPLOADS_AT_ONCE:
                await self._find(wanted)
                wanted = set()
            self._check.progress.advance(len(rows))
        if wanted:
            await self._find(wanted)

    async def _buckets(self) -> None:
        """An upload's bucket cannot be removed before the upload."""

        async def gone(tx: ReadTransaction, rows: Rows) -> set[int]:
            numbers = sorted({number_of(key) for key, _ in rows})
            values = await tx.get_many([inode_key(number) for number in numbers])
            return {one for one, value in zip(numbers, values, strict=True) if value is None}

        walk = pages(self._check.kv, *letter_range(b"m"), gone, limit=LARGE_PAGE_ROWS)
        async for rows, numbers in walk:
            for key, value in rows:
                upload = decoded(self._check.findings, key, value, decode_upload)
                if upload is not None and number_of(key) in numbers:
                    self._check.findings.add(
                        Finding(
                            "upload-without-bucket",
                            f"upload {upload.upload_id}",
                            f"its bucket {upload.bucket} is gone: it can be neither completed nor "
                            "aborted",
                            "restore the bucket from a backup of the metadata",
                            lost_metadata=True,
                        )
                    )

    async def _find(self, wanted: set[str]) -> None:
        """Report those of *wanted*, which had parts before this walk, that have no upload and still
        have parts: an upload that ends takes its parts with it."""
        async for rows in plain_pages(self._check.kv, *letter_range(b"m"), limit=LARGE_PAGE_ROWS):
            for key, value in rows:
                upload = decoded(self._check.findings, key, value, decode_upload)
                if upload is not None:
                    wanted.discard(upload.upload_id)
        for upload_id in sorted(wanted):
            begin, end = part_range(upload_id)
            if await read_range(self._check.kv, begin, end, limit=1):
                self._tell(upload_id)

    def _tell(self, upload_id: str) -> None:
        check = self._check

        async def repair() -> str | None:
            async def work(tx: Transaction) -> bool:
                rows = await tx.get_range(*part_range(upload_id))
                references = References()
                for _, value in rows:
                    references.lose(decode_part(value).extents)
                await references.apply(check.context, tx)
                tx.clear_range(*part_range(upload_id))
                return bool(rows)

            if not await check.kv.transact(work):
                return None
            return "its parts are removed: no client can complete it, and you accepted the loss"

        check.findings.add(
            Finding(
                "parts-without-upload",
                f"upload {upload_id}",
                "it has parts, and no record: it can be neither completed nor aborted",
                "look for its record in a backup of the metadata; else run with --repair "
                "--accept-loss to free its parts",
                repair,
                Safety.GIVES_UP,
                lost_metadata=True,
            )
        )
