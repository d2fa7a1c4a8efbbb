"""Both doors at random on one namespace, against plain dicts; after every step the whole store is
checked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

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
from craqen.core.meta.records import (
    CompletedPart,
    DeleteOutcome,
    Extent,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    SetAttributes,
)
from craqen.core.options import MetaOptions
from craqen.tests.core.meta.checker import problems

T = TypeVar("T")
OWNER = Owner()
COMPONENTS = [b"a", b"b", b"a-", b"", b".", b"x" * 300]
names = st.sampled_from([b"a", b"b", b"a-", b"c"])
keys = st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=3).map(b"/".join).filter(bool)
sizes = st.sampled_from([0, 1, 100, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 3 * MIB])


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

    def drop(self, key: bytes) -> None:
        del self.files[key]

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
        self.files[key] = inode.inode_id
        self.size_of[inode.inode_id] = inode.size
        if key.endswith(b"/"):
            self.explicit.add(key)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        present = key in self.files or key in self.explicit
        outcome = self.wait(self.store.delete_object("bucket", key))
        assert outcome == DeleteOutcome(present)
        self.files.pop(key, None)
        self.explicit.discard(key)

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
            self.files[folder + name] = inode.inode_id
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
        self.drop(key)
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
        self.files[folder + name] = number

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
        if target + b"/" in self.folders():
            with pytest.raises(CallerError):
                self.wait(call)
            return
        self.wait(call)
        if self.files.get(target) == self.files[key]:
            return  # two names of one file: nothing happens
        self.files[target] = self.files.pop(key)
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
        if target.startswith(folder) or occupied or hides:
            with pytest.raises(CallerError):
                self.wait(call)
            return
        self.wait(call)
        self.explicit.discard(target)
        self.files = {moved(key, folder, target): number for key, number in self.files.items()}
        self.explicit = {moved(key, folder, target) for key in self.explicit}
        self.kept(parent)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), size=sizes)
    def truncate(self, data: st.DataObject, size: int) -> None:
        number = self.files[data.draw(st.sampled_from(sorted(self.files)))]
        before = self.wait(self.store.get_inode(number)).generation
        inode = self.wait(self.store.set_attributes(number, SetAttributes(size=size)))
        assert (inode.size, inode.generation) == (size, before + 1)
        self.size_of[number] = size

    @precondition(lambda self: self.files)
    @rule(data=st.data(), offset=sizes, length=st.sampled_from([1, 5000, MIB]))
    def write(self, data: st.DataObject, offset: int, length: int) -> None:
        number = self.files[data.draw(st.sampled_from(sorted(self.files)))]
        inode = self.wait(self.store.write_inline(number, offset, b"w" * length))
        if inode is None:
            plan = self.wait(self.store.plan_write(number, offset, length))
            assert holes(plan.extents, offset, offset + length) == []
            if plan.copies:
                self.wait(self.store.install_copies(number, plan.copies))
            inode = self.wait(self.store.commit_write(number, offset + length))
            assert not self.wait(self.store.plan_write(number, offset, length)).copies
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
    def usage_is_exact(self) -> None:
        usage = self.wait(self.store.usage("bucket"))
        numbers = set(self.files.values())
        wanted = (sum(self.size_of[number] for number in numbers), len(numbers))
        assert (usage.size_bytes, usage.objects) == wanted


def split(key: bytes) -> tuple[bytes, bytes]:
    """(folder with its slash, last name)."""
    at = key.rfind(b"/") + 1
    return key[:at], key[at:]


def moved(key: bytes, folder: bytes, target: bytes) -> bytes:
    return target + key[len(folder) :] if key.startswith(folder) else key


def test_both_doors_at_random() -> None:
    run_state_machine_as_test(
        BothDoors,
        settings=settings(max_examples=60, stateful_step_count=25, deadline=None),
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
