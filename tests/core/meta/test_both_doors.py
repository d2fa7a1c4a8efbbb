"""Both doors at random on one namespace, against plain dicts; after every step the whole store is
checked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from craqen.core.clock import ManualClock
from craqen.core.errors import CallerError, CraqenError, NotFoundError
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import KeyValue, Transaction
from craqen.core.limits import INLINE_BYTES_MAX, MIB
from craqen.core.meta.extents import holes
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.locks import COMPLIANCE, GOVERNANCE, OFF, ON
from craqen.core.meta.records import (
    CompletedPart,
    DeleteOutcome,
    Extent,
    Inode,
    InodeType,
    Lock,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    SetAttributes,
    VersionEntry,
    Versioning,
)
from craqen.core.options import MetaOptions
from craqen.tests.core.meta.checker import problems

T = TypeVar("T")
OWNER = Owner()
COMPONENTS = [b"a", b"b", b"a-", b"", b".", b"x" * 300]
names = st.sampled_from([b"a", b"b", b"a-", b"c"])
keys = st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=3).map(b"/".join).filter(bool)
sizes = st.sampled_from([0, 1, 100, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 3 * MIB])


EXAMPLES = int(os.environ.get("CRAQEN_TEST_EXAMPLES", "30"))
COPIED = -1  # an inode that is known only once it was seen


class PastRow(NamedTuple):
    """A noncurrent version, or a marker (no number)."""

    is_null: bool
    number: int | None


class Past:
    """The model of versions: what each key was, newest first, without what is current."""

    def __init__(self) -> None:
        self.state = Versioning.NEVER
        self.lockable = False
        self.rows: dict[bytes, list[PastRow]] = {}
        self.null_now: dict[bytes, bool] = {}
        self.locks: dict[int, Lock] = {}
        self.now_ns: Callable[[], int] = lambda: 0

    def gives_way(self, key: bytes, number: int | None, *, shared: bool, marker: bool) -> None:
        if self.state == Versioning.NEVER:
            return
        rows = self.rows.setdefault(key, [])
        if self.state == Versioning.SUSPENDED:
            rows[:] = [row for row in rows if not row.is_null]
        if number is not None:
            is_null = self.null_now[key]
            if self.state == Versioning.ENABLED or not is_null:
                rows.insert(0, PastRow(is_null, COPIED if shared else number))
        if marker:
            rows.insert(0, PastRow(self.state == Versioning.SUSPENDED, None))
        if not rows:
            del self.rows[key]

    def enters(self, key: bytes) -> None:
        self.null_now[key] = self.state != Versioning.ENABLED

    def moves_away(self, key: bytes) -> None:
        if self.rows.get(key):
            self.gives_way(key, None, shared=False, marker=True)

    def rename(self, folder: bytes, target: bytes) -> None:
        self.rows = {moved(key, folder, target): rows for key, rows in self.rows.items()}
        self.null_now = {moved(key, folder, target): is_null
                         for key, is_null in self.null_now.items()}  # fmt: skip

    def below(self, folder: bytes) -> bool:
        return any(key.startswith(folder) and rows for key, rows in self.rows.items())

    def numbers(self) -> set[int]:
        return {row.number for rows in self.rows.values() for row in rows if row.number}

    def learn(self, found: list[VersionEntry], size_of: dict[int, int]) -> None:
        """Take the numbers of copies from a listing, and drop keys without rows."""
        self.rows = {key: rows for key, rows in self.rows.items() if rows}
        seen: dict[bytes, list[int | None]] = {}
        for entry in found:
            number = None if entry.inode is None else entry.inode.inode_id
            seen.setdefault(entry.key, []).append(number)
            if entry.inode is not None and number is not None:
                size_of.setdefault(number, entry.inode.size)
                attributes = entry.inode.object
                if attributes is not None and attributes.lock is not None:
                    self.locks[number] = attributes.lock
        for key, rows in self.rows.items():
            numbers = seen[key][-len(rows) :]
            for at, (row, number) in enumerate(zip(rows, numbers, strict=True)):
                if row.number == COPIED:
                    rows[at] = PastRow(row.is_null, number)

    def is_locked(self, number: int, bypass: bool = False) -> bool:
        lock = self.locks.get(number, Lock())
        retained = bool(lock.mode) and lock.retain_until_ns > self.now_ns()
        return lock.legal_hold == ON or (retained and not (bypass and lock.mode == GOVERNANCE))


class BothDoors(RuleBasedStateMachine):
    """The model: what each key holds (a token per content and its size), and which folders are
    explicit. Folder paths are tuples of components; a key's folders are all but its last one."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.kv = MemoryStore()
        self.clock = ManualClock()
        self.store = self.wait(
            LocalMetaStore.open(self.kv, self.clock, MetaOptions(), description="test")
        )
        made = self.wait(self.store.create_bucket("bucket", owner="me", region="", as_owner=OWNER))
        self.bucket_id = made.inode_id
        self.files: dict[bytes, int] = {}
        """Key to inode id."""
        self.size_of: dict[int, int] = {}
        self.explicit: set[bytes] = set()
        """Keys of explicit folders, with their slash."""
        self.past = Past()
        self.past.now_ns = self.clock.wall_ns

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        self.wait(self.store.close())
        self.wait(self.kv.close())
        self.loop.close()

    # The model's own rules

    def folders(self) -> set[bytes]:
        """Every folder there is: explicit, or above something."""
        found = set(self.explicit)
        for key in [*self.files, *self.explicit]:
            parts = key.removesuffix(b"/").split(b"/") if key in self.explicit else key.split(b"/")
            found |= {b"/".join(parts[:n]) + b"/" for n in range(1, len(parts))}
        return found

    def listed(self) -> list[bytes]:
        return sorted(set(self.files) | self.explicit)

    def links(self, number: int) -> int:
        return list(self.files.values()).count(number)

    def gives_way(self, key: bytes, *, marker: bool) -> None:
        """What is current under *key*, if anything, is replaced or deleted."""
        number = self.files.get(key)
        shared = number is not None and self.links(number) > 1
        self.past.gives_way(key, number, shared=shared, marker=marker)

    def enters(self, key: bytes, number: int) -> None:
        """A new current object of *key*."""
        self.gives_way(key, marker=False)
        self.files[key] = number
        self.past.enters(key)

    def leaves(self, key: bytes, *, moved: bool) -> int | None:
        """The current object of *key* goes."""
        if moved:
            self.past.moves_away(key)
        else:
            self.gives_way(key, marker=True)
        return self.files.pop(key, None)

    def refused(self, call: Coroutine[Any, Any, object]) -> None:
        """*call* must fail by the caller's fault, and change nothing."""
        with pytest.raises(CallerError):
            self.wait(call)

    def kept(self, folder: bytes) -> None:
        """POSIX took a name from *folder*: left empty, it becomes explicit."""
        if folder and not any(
            key != folder and key.startswith(folder) for key in [*self.files, *self.explicit]
        ):
            if folder not in self.files:
                self.explicit.add(folder)

    def path_id(self, folder: bytes) -> int:
        async def walk() -> int:
            number = self.bucket_id
            for part in folder.split(b"/")[:-1]:
                number = (await self.store.lookup(number, part)).inode_id
            return number

        return self.wait(walk())

    def plain_folders(self) -> list[bytes]:
        """Folders whose path POSIX can spell."""
        good = {b"a", b"b", b"a-", b"c"}
        return [b"", *sorted(f for f in self.folders() if set(f[:-1].split(b"/")) <= good)]

    def name_taken(self, folder: bytes, name: bytes) -> bool:
        return folder + name in self.files or folder + name + b"/" in self.folders()

    def content(self, size: int) -> NewContent:
        if size <= INLINE_BYTES_MAX:
            return NewContent(size, b"x" * size)
        return NewContent(size, None, (self.extent(size),))

    def extent(self, size: int) -> Extent:
        self.wait(self.store.ensure_ids(1))
        number = self.store.new_segment_id()
        return Extent(0, size, number, 0, self.store.layout_of(number, in_place=False))

    # S3

    @rule(key=keys, size=sizes)
    def put(self, key: bytes, size: int) -> None:
        result = self.wait(
            self.store.put_object("bucket", key, self.content(size), ObjectAttributes(), OWNER)
        )
        assert result.replaced == (key in self.files)
        self.arrived(key, result.inode)

    def arrived(self, key: bytes, inode: Inode) -> None:
        self.enters(key, inode.inode_id)
        self.size_of[inode.inode_id] = inode.size
        if key.endswith(b"/"):
            self.explicit.add(key)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        present = key in self.files or key in self.explicit
        outcome = self.wait(self.store.delete_object("bucket", key))
        versioned = self.past.state != Versioning.NEVER
        assert (outcome.removed, outcome.delete_marker) == (present, versioned)
        self.leaves(key, moved=False)
        self.explicit.discard(key)

    @precondition(lambda self: not self.past.lockable)
    @rule(enabled=st.booleans())
    def set_versioning(self, enabled: bool) -> None:
        self.wait(self.store.set_bucket_versioning("bucket", enabled=enabled))
        self.past.state = Versioning.ENABLED if enabled else Versioning.SUSPENDED

    @precondition(lambda self: self.all_versions())
    @rule(data=st.data(), bypass=st.booleans())
    def remove_version(self, data: st.DataObject, bypass: bool) -> None:
        entries = self.all_versions()
        entry = data.draw(st.sampled_from(entries))
        ours = [one for one in entries if one.key == entry.key]
        at = ours.index(entry) - len(ours)  # from the end: what is current is no row
        call = self.store.delete_object(
            "bucket", entry.key, version_id=entry.version_id, bypass_governance=bypass
        )
        if entry.inode is not None and self.past.is_locked(entry.inode.inode_id, bypass):
            self.refused(call)
            return
        outcome = self.wait(call)
        marker = entry.inode is None
        assert outcome == DeleteOutcome(True, entry.version_id, marker)
        if self.past.state == Versioning.NEVER:
            self.files.pop(entry.key, None)
            self.explicit.discard(entry.key)
            return
        number = None if entry.inode is None else entry.inode.inode_id
        self.version_goes(entry.key, number, is_null=entry.version_id == "null", at=at)

    def version_goes(self, key: bytes, number: int | None, *, is_null: bool, at: int) -> None:
        rows = self.past.rows.get(key, [])
        if is_null and key in self.explicit and key not in self.files:
            self.explicit.discard(key)
            rows[:] = [row for row in rows if not row.is_null]
        elif key in self.files and self.files[key] == number:
            del self.files[key]
            self.explicit.discard(key)
        else:
            del rows[at]
        if key not in self.files and rows and rows[0].number is not None:
            row = rows.pop(0)
            assert row.number is not None
            self.files[key] = row.number
            self.past.null_now[key] = row.is_null
            if key.endswith(b"/"):
                self.explicit.add(key)

    def all_versions(self) -> list[VersionEntry]:
        return self.wait(self.store.list_object_versions("bucket")).entries

    @precondition(lambda self: self.past.lockable and self.files)
    @rule(data=st.data(), mode=st.sampled_from([GOVERNANCE, COMPLIANCE, ON, OFF]))
    def lock(self, data: st.DataObject, mode: str) -> None:
        entry = data.draw(st.sampled_from(self.all_versions()))
        if entry.inode is None or entry.inode.type == InodeType.DIRECTORY:
            return
        place = ("bucket", entry.key)
        old = self.past.locks.get(entry.inode.inode_id, Lock())
        if mode in (ON, OFF):
            self.wait(
                self.store.set_legal_hold(*place, hold=mode == ON, version_id=entry.version_id)
            )
            new = Lock(old.mode, old.retain_until_ns, mode)
        else:
            until = self.clock.wall_ns() + 500 * 10**9
            call = self.store.set_retention(
                *place, mode=mode, retain_until_ns=until, version_id=entry.version_id
            )
            new = Lock(mode, until, old.legal_hold)
            if old.retain_until_ns > self.clock.wall_ns() and old.mode != mode:
                self.refused(call)
                return
            self.wait(call)
        self.past.locks[entry.inode.inode_id] = new

    @rule(source=keys, goal=keys)
    def copy(self, source: bytes, goal: bytes) -> None:
        call = self.store.copy_object(
            "bucket", source, "bucket", goal, OWNER, attributes=None, source_generation=None
        )
        if source not in self.files and source not in self.explicit:
            with pytest.raises(NotFoundError):
                self.wait(call)
            return
        size = self.size_of[self.files[source]] if source in self.files else 0
        result = self.wait(call)
        assert result.inode.size == size
        self.arrived(goal, result.inode)

    @rule(key=keys, sizes=st.lists(st.sampled_from([5 * MIB, 6 * MIB]), min_size=1, max_size=3))
    def multipart(self, key: bytes, sizes: list[int]) -> None:
        upload = self.wait(
            self.store.create_upload(
                "bucket", key, ObjectAttributes(), OWNER, checksum_algorithm="", checksum_type=""
            )
        )
        for number, size in enumerate(sizes, 1):
            part = Part(number, size, "e", 0, {}, (self.extent(size),))
            self.wait(self.store.put_part(upload, part))
            self.wait(self.store.put_part(upload, part))  # a client that repeats itself
        wanted = [CompletedPart(number, "e") for number in range(1, len(sizes) + 1)]
        first = self.wait(self.store.complete_upload(upload, wanted, etag="m-1", checksums={}))
        assert first.inode.size == sum(sizes)
        again = self.wait(self.store.complete_upload(upload, wanted, etag="m-1", checksums={}))
        assert again.inode.inode_id == first.inode.inode_id
        self.arrived(key, first.inode)

    # Files

    @rule(data=st.data(), name=names, kind=st.sampled_from([InodeType.FILE, InodeType.DIRECTORY]))
    def create(self, data: st.DataObject, name: bytes, kind: InodeType) -> None:
        folder = data.draw(st.sampled_from(self.plain_folders()))
        call = self.store.create(self.path_id(folder), name, kind, mode=0o644, uid=0, gid=0)
        if self.name_taken(folder, name):
            with pytest.raises(CallerError):
                self.wait(call)
            return
        inode = self.wait(call)
        if kind == InodeType.DIRECTORY:
            self.explicit.add(folder + name + b"/")
        else:
            self.enters(folder + name, inode.inode_id)
            self.size_of[inode.inode_id] = 0

    def draw_file(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(self.spelled_files()))

    def spelled_files(self) -> list[bytes]:
        """Files that POSIX can spell, and that no folder of the same name hides."""
        plain, folders = self.plain_folders(), self.folders()
        return [
            key
            for key in self.files
            if key.rpartition(b"/")[0] + (b"/" if b"/" in key else b"") in plain
            and key.rpartition(b"/")[2] in (b"a", b"b", b"a-", b"c")
            and key + b"/" not in folders
        ]

    @precondition(lambda self: self.spelled_files())
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        key = self.draw_file(data)
        folder, name = split(key)
        self.wait(self.store.unlink(self.path_id(folder), name))
        self.leaves(key, moved=False)
        self.kept(folder)

    @precondition(lambda self: self.spelled_files())
    @rule(data=st.data(), name=names)
    def link(self, data: st.DataObject, name: bytes) -> None:
        number = self.files[self.draw_file(data)]
        folder = data.draw(st.sampled_from(self.plain_folders()))
        call = self.store.link(number, self.path_id(folder), name)
        if self.name_taken(folder, name):
            with pytest.raises(CallerError):
                self.wait(call)
            return
        self.wait(call)
        self.enters(folder + name, number)

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        folder = data.draw(st.sampled_from(self.plain_folders()))
        if not folder:
            return
        parent, name = split(folder[:-1])
        call = self.store.remove_directory(self.path_id(parent), name)
        if folder in self.files or any(
            key.startswith(folder) and key != folder for key in self.listed()
        ):
            with pytest.raises(CallerError):
                self.wait(call)
            return
        self.wait(call)
        self.explicit.discard(folder)
        self.kept(parent)

    @precondition(lambda self: self.spelled_files())
    @rule(data=st.data(), name=names)
    def rename_file(self, data: st.DataObject, name: bytes) -> None:
        key = self.draw_file(data)
        folder, old = split(key)
        target_folder = data.draw(st.sampled_from(self.plain_folders()))
        target = target_folder + name
        call = self.store.rename(self.path_id(folder), old, self.path_id(target_folder), name)
        same = self.files.get(target) == self.files[key]
        locked = self.past.is_locked(self.files[key]) and not same
        if target + b"/" in self.folders() or locked:
            self.refused(call)
            return
        self.wait(call)
        if same:
            return  # two names of one file: nothing happens
        number = self.leaves(key, moved=True)
        assert number is not None
        self.enters(target, number)
        self.kept(folder)

    @rule(data=st.data(), name=names)
    def rename_folder(self, data: st.DataObject, name: bytes) -> None:
        folder = data.draw(st.sampled_from(self.plain_folders()))
        target_parent = data.draw(st.sampled_from(self.plain_folders()))
        if not folder:
            return
        parent, old = split(folder[:-1])
        target = target_parent + name + b"/"
        call = self.store.rename(self.path_id(parent), old, self.path_id(target_parent), name)
        if target == folder:
            self.wait(call)
            return
        occupied = target in self.folders() and (
            target in self.files
            or any(key.startswith(target) and key != target for key in self.listed())
        )
        hides = target not in self.folders() and target[:-1] in self.files
        collides = self.past.below(target)
        kept_in_place = self.past.lockable and (
            self.past.below(folder)
            or any(key.startswith(folder) and key != folder for key in self.listed())
            or folder in self.files
        )
        if target.startswith(folder) or occupied or hides or collides or kept_in_place:
            self.refused(call)
            return
        self.wait(call)
        self.explicit.discard(target)
        self.files = {moved(key, folder, target): number for key, number in self.files.items()}
        self.explicit = {moved(key, folder, target) for key in self.explicit}
        self.past.rename(folder, target)
        self.kept(parent)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), size=sizes)
    def truncate(self, data: st.DataObject, size: int) -> None:
        number = self.files[data.draw(st.sampled_from(sorted(self.files)))]
        before = self.wait(self.store.get_inode(number)).generation
        call = self.store.set_attributes(number, SetAttributes(size=size))
        if self.past.is_locked(number):
            self.refused(call)
            return
        inode = self.wait(call)
        assert (inode.size, inode.generation) == (size, before + 1)
        self.size_of[number] = size

    @precondition(lambda self: self.files)
    @rule(data=st.data(), offset=sizes, length=st.sampled_from([1, 5000, MIB]))
    def write(self, data: st.DataObject, offset: int, length: int) -> None:
        number = self.files[data.draw(st.sampled_from(sorted(self.files)))]
        call = self.store.write_inline(number, offset, b"w" * length)
        if self.past.is_locked(number):
            self.refused(call)
            self.refused(self.store.plan_write(number, offset, length))
            self.refused(self.store.commit_write(number, offset + length))
            return
        inode = self.wait(call)
        if inode is None:
            plan = self.wait(self.store.plan_write(number, offset, length))
            assert holes(plan.extents, offset, offset + length) == []
            if plan.copies:
                self.wait(self.store.install_copies(number, plan.copies))
            assert not self.wait(self.store.plan_write(number, offset, length)).copies
            inode = self.wait(self.store.commit_write(number, offset + length))
        self.size_of[number] = max(self.size_of[number], offset + length)
        assert inode.size == self.size_of[number]

    @rule()
    def time_passes(self) -> None:
        self.clock.advance(1000)
        self.wait(self.store.renew_client())
        items = self.wait(self.store.due_removals(limit=1000))
        self.wait(self.store.finish_removal(items))

    # What must always hold

    @invariant()
    def listing_is_the_model(self) -> None:
        page = self.wait(self.store.list_objects("bucket"))
        assert [entry.key for entry in page.entries] == self.listed()
        for entry in page.entries:
            assert entry.inode is not None
            if entry.key in self.files:
                assert entry.inode.inode_id == self.files[entry.key]
                assert entry.inode.size == self.size_of[entry.inode.inode_id]

    @invariant()
    def every_key_has_one_posix_name(self) -> None:
        async def walk(folder: bytes, number: int) -> None:
            shown = await self.store.read_directory(number)
            assert len({entry.name for entry in shown}) == len(shown)
            for entry in shown:
                found = await self.store.lookup(number, entry.name)
                assert found.inode_id == entry.inode.inode_id
                if entry.inode.type == InodeType.DIRECTORY:
                    await walk(folder + entry.name + b"/", entry.inode.inode_id)

        self.wait(walk(b"", self.bucket_id))

    @invariant()
    def the_store_is_whole(self) -> None:
        assert self.wait(problems(self.kv)) == []

    @invariant()
    def versions_are_the_model(self) -> None:
        wanted: list[tuple[bytes, bool, int | None, bool]] = []
        for key in sorted({*self.files, *self.explicit, *self.past.rows}):
            lines: list[tuple[bool, int | None]] = []
            if key in self.files:
                lines.append((self.past.null_now[key], self.files[key]))
            elif key in self.explicit:
                lines.append((True, self.folder_id(key)))
            lines += self.past.rows.get(key, [])
            wanted += [(key, *line, not at) for at, line in enumerate(lines)]
        found = self.all_versions()
        self.past.learn(found, self.size_of)
        for line, entry in zip(wanted, found, strict=True):
            number = None if entry.inode is None else entry.inode.inode_id
            key, is_null, expected, is_latest = line
            assert (entry.key, entry.version_id == "null") == (key, is_null)
            assert entry.is_latest == is_latest
            if expected == COPIED:
                assert number not in self.files.values()
            else:
                assert number == expected
        assert len({(entry.key, entry.version_id) for entry in found}) >= len(found) - len(
            [key for key in self.explicit if key in self.past.rows]
        )
        self.usage_is_exact()

    @rule(limit=st.sampled_from([1, 2, 5]))
    def pages_are_the_whole(self, limit: int) -> None:
        whole = self.all_versions()
        found: list[VersionEntry] = []
        page = self.wait(self.store.list_object_versions("bucket", limit=limit))
        while True:
            found += page.entries
            if page.next_key is None:
                break
            page = self.wait(
                self.store.list_object_versions(
                    "bucket", after_key=page.next_key, after_version=page.next_version, limit=limit
                )
            )
        assert found == whole

    def folder_id(self, key: bytes) -> int:
        return self.wait(self.store.get_object("bucket", key)).inode.inode_id

    def usage_is_exact(self) -> None:
        usage = self.wait(self.store.usage("bucket"))
        numbers = set(self.files.values()) | self.past.numbers()
        wanted = (sum(self.size_of[number] for number in numbers), len(numbers))
        assert (usage.size_bytes, usage.objects) == wanted


def split(key: bytes) -> tuple[bytes, bytes]:
    """(folder with its slash, last name)."""
    at = key.rfind(b"/") + 1
    return key[:at], key[at:]


def moved(key: bytes, folder: bytes, target: bytes) -> bytes:
    return target + key[len(folder) :] if key.startswith(folder) else key


class Locked(BothDoors):
    """The same on a bucket with object lock."""

    def __init__(self) -> None:
        super().__init__()
        self.wait(self.store.set_bucket_versioning("bucket", enabled=True))
        self.wait(self.store.set_object_lock("bucket", b"default"))
        self.past.state = Versioning.ENABLED
        self.past.lockable = True


@pytest.mark.parametrize("machine", [BothDoors, Locked])
def test_both_doors_at_random(machine: type[BothDoors]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=25, deadline=None),
    )


def test_the_checker_sees_what_is_wrong() -> None:
    """A checker that finds nothing must not be one that looks at nothing."""

    async def scenario() -> None:
        kv = MemoryStore()
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        await store.create_bucket("bucket", owner="me", region="", as_owner=OWNER)
        await store.ensure_ids(1)
        segment = store.new_segment_id()
        extent = Extent(0, 10, segment, 0, store.default_layout(in_place=False))
        content = NewContent(10, None, (extent,))
        await store.put_object("bucket", b"a/b", content, ObjectAttributes(), OWNER)
        assert await problems(kv) == []
        for letter in (b"i", b"s", b"d", b"r", b"b"):

            async def damage(tx: Transaction, letter: bytes = letter) -> KeyValue:
                row = (await tx.get_range(letter, letter + b"\xff"))[-1]
                tx.clear(row[0])
                return row

            key, value = await kv.transact(damage)
            try:
                found = await problems(kv)
            except (AssertionError, CraqenError):
                found = ["the checker stumbled over it"]
            assert found, letter

            async def mend(tx: Transaction, key: bytes = key, value: bytes = value) -> None:
                tx.set(key, value)

            await kv.transact(mend)
        assert await problems(kv) == []
        await store.close()
        await kv.close()

    asyncio.run(scenario())
