"""DRIVER: the bucket and key of damaged inodes. Files do not know their names, so all names are
walked once, and only if there is something to name."""

from __future__ import annotations

from collections import defaultdict

from ..errors import DataLossError
from ..ids import ROOT_INODE_ID
from ..kv.store import ReadTransaction
from ..meta.records import InodeType
from ..meta.schema import decode_entry, decode_inode, decode_version, inode_key, version_name
from ..meta.version_ids import version_id
from .findings import FILES_PER_FINDING_MAX, Finding
from .scan import Check, letter_range, number_of, plain_pages

DEPTH_MAX = 2000  # deeper ones are named from there on


async def name_files(check: Check) -> None:
    """Fill in ``files`` of all findings."""
    wanted: defaultdict[int, list[Finding]] = defaultdict(list)
    for finding in check.findings.all:
        for inode_id in finding.owners:
            wanted[inode_id].append(finding)
    if not wanted:
        return
    check.progress.stage("names of what was found")
    async for rows in plain_pages(check.kv, *letter_range(b"d")):
        for key, value in rows:
            try:
                inode_id = decode_entry(value).inode_id
            except DataLossError:
                continue
            if inode_id in wanted:
                path = await _path(check, number_of(key), key[9:])
                for finding in wanted[inode_id]:
                    if len(finding.files) < FILES_PER_FINDING_MAX and path not in finding.files:
                        finding.files.append(path)
        check.progress.advance(len(rows))
    async for rows in plain_pages(check.kv, *letter_range(b"w")):
        for key, value in rows:
            try:
                record = decode_version(value)
            except DataLossError:
                continue
            name, sequence = version_name(key)
            if record.inode_id in wanted and sequence is not None:
                path = await _path(check, number_of(key), name)
                path += f" (version {version_id(sequence, is_null=record.is_null)})"
                for finding in wanted[record.inode_id]:
                    if len(finding.files) < FILES_PER_FINDING_MAX:
                        finding.files.append(path)
        check.progress.advance(len(rows))
    for inode_id, findings in wanted.items():
        for finding in findings:
            if not finding.files:
                finding.files.append(f"(inode {inode_id:x}, which has no name)")


async def _path(check: Check, parent_id: int, name: bytes) -> str:
    """Bucket and key of an entry."""

    async def read(tx: ReadTransaction) -> list[bytes]:
        parts = [name.removesuffix(b"/")]
        above = parent_id
        while above != ROOT_INODE_ID:
            value = await tx.get(inode_key(above))
            if value is None or len(parts) > DEPTH_MAX:
                parts.append(f"(folder {above:x})".encode())
                break
            inode = decode_inode(value)
            if inode.type != InodeType.DIRECTORY:
                parts.append(f"(inode {above:x})".encode())
                break
            parts.append(inode.name)
            above = inode.parent_id
        return parts

    parts = await check.kv.read(read)
    slash = "/" if name.endswith(b"/") else ""
    return b"/".join(reversed(parts)).decode(errors="backslashreplace") + slash
