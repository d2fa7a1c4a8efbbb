"""Events from the change to the destination: what is told of changes through both doors, and what
becomes of events whose destination is away, refuses them, or is not known."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from craqen.core.clock import ManualClock
from craqen.core.events.origin import Origin, origin
from craqen.core.events.records import ASPECT, Configuration, Notification
from craqen.core.events.webhook import ID_HEADER, SIGNATURE_HEADER, signature_of
from craqen.core.keeper import events as duty_module
from craqen.core.keeper.events import EventDuty
from craqen.core.keeper.outbox import Outbox
from craqen.core.kv.memory import MemoryStore
from craqen.core.meta import happenings
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    CompletedPart,
    Deletion,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    SetAttributes,
)
from craqen.core.metrics import render
from craqen.core.options import EventOptions, MetaOptions

OWNER = Owner(5, 6)
ALL = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put")
ARN = "arn:aws:sqs:::"


class Receiver:
    """A webhook on loopback: takes messages, or answers what it is told to."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.headers: list[Any] = []
        self.bodies: list[bytes] = []
        self.answers: list[int] = []
        """Given first, in this order; then 200."""
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/hook"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.bodies.append(body)
            self.messages.append(json.loads(body))
            self.ids.append(request.headers[ID_HEADER])
            self.headers.append(request.headers)
        return web.Response(status=status)

    @property
    def told(self) -> list[str]:
        """Event and key of each message, by key, those of one key in their order; then
        forgotten."""
        records = [record for one in self.messages for record in one.get("Records", [])]
        self.messages = []
        found = [
            (urllib.parse.unquote_plus(one["s3"]["object"]["key"]), one["eventName"])
            for one in records
        ]
        return [f"{name} {key}" for key, name in sorted(found, key=lambda pair: pair[0])]


class World:
    """A store with a bucket that tells of everything, and the duty."""

    def __init__(self, kv: MemoryStore, store: LocalMetaStore, receiver: Receiver) -> None:
        self.kv = kv
        self.store = store
        self.receiver = receiver
        self.options = EventOptions(destinations=[f"hook={receiver.url}"])
        self.duty = EventDuty(kv, self.options, "eu-1")

    async def configure(self, *rules: Configuration, bucket: str = "bucket") -> None:
        value = msgspec.msgpack.encode(Notification(rules))
        await self.store.set_bucket_setting(bucket, ASPECT, value)

    async def put(self, key: str, data: bytes = b"x") -> str:
        content = NewContent(len(data), data)
        attributes = ObjectAttributes(etag=data.decode())
        done = await self.store.put_object("bucket", key.encode(), content, attributes, OWNER)
        return done.version_id

    async def bucket_id(self) -> int:
        return (await self.store.get_bucket("bucket")).inode_id

    async def file(self, parent_id: int, name: str, kind: InodeType = InodeType.FILE) -> int:
        inode = await self.store.create(parent_id, name.encode(), kind, mode=0o644, uid=5, gid=6)
        return inode.inode_id

    async def told(self) -> list[str]:
        """What the destination is told now."""
        await self.duty.run_once(0)
        return self.receiver.told

    async def all_told(self) -> list[str]:
        """What the destination is told until nothing waits."""
        while (await self.waiting())[0]:
            await self.duty.run_once(0)
        return self.receiver.told

    async def waiting(self) -> tuple[int, int]:
        standings = await Outbox(self.kv).standings()
        return sum(one.waiting for one in standings), sum(one.lost for one in standings)


def run(work: Callable[[World], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    # One look at the queues for each call: nobody waits for what does not come.
    monkeypatch.setattr(duty_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(duty_module, "RUN_SECONDS", 0.02)
    monkeypatch.setattr(duty_module, "RETRY_SECONDS", 0.01)

    async def whole() -> None:
        receiver = Receiver()
        await receiver.start()
        kv = MemoryStore()
        store = await LocalMetaStore.open(kv, ManualClock(), MetaOptions(), description="test")
        try:
            await store.create_bucket("bucket", owner="o" * 64, region="", as_owner=OWNER)
            world = World(kv, store, receiver)
            await world.configure(Configuration("QueueConfiguration", "all", ARN + "hook", ALL))
            await world.duty.run_once(0)
            [test] = receiver.messages
            assert (test["Event"], test["Bucket"]) == ("s3:TestEvent", "bucket")
            receiver.messages = []
            await work(world)
        finally:
            await store.close()
            await receiver.stop()

    asyncio.run(whole())


def test_objects_of_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        store = world.store
        await world.put("a/b c+é", b"data")
        inode = (await store.get_object("bucket", "a/b c+é".encode())).inode
        await store.copy_object(
            "bucket",
            "a/b c+é".encode(),
            "bucket",
            b"copy",
            OWNER,
            attributes=None,
            source_generation=None,
        )
        tagged = ObjectAttributes(etag="data", tags={"k": "v"})
        await store.set_object_attributes("bucket", "a/b c+é".encode(), inode.inode_id, tagged)
        plain = ObjectAttributes(etag="data")
        await store.set_object_attributes("bucket", "a/b c+é".encode(), inode.inode_id, plain)
        upload = await store.create_upload(
            "bucket", b"parts", plain, OWNER, checksum_algorithm="", checksum_type=""
        )
        await store.put_part(upload, Part(1, 0, "e", 0))
        await store.complete_upload(upload, [CompletedPart(1, "e")], etag="e-1", checksums={})
        await store.delete_object("bucket", b"copy")
        await store.delete_object("bucket", b"never there")
        await store.delete_objects("bucket", [Deletion("a/b c+é".encode()), Deletion(b"none")])
        assert await world.told() == [
            "ObjectCreated:Put a/b c+é",
            "ObjectTagging:Put a/b c+é",
            "ObjectTagging:Delete a/b c+é",
            "ObjectRemoved:Delete a/b c+é",
            "ObjectCreated:Copy copy",
            "ObjectRemoved:Delete copy",
            "ObjectCreated:CompleteMultipartUpload parts",
        ]

    run(work, monkeypatch)


def test_a_record_says_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        token = origin.set(Origin("AIDA1", "192.0.2.7", "REQUEST", "ObjectCreated:Post"))
        await world.put("key", b"data")
        origin.reset(token)
        await world.duty.run_once(0)
        [message] = world.receiver.messages
        [record] = message["Records"]
        assert record["eventName"] == "ObjectCreated:Post"
        assert record["awsRegion"] == "eu-1"
        assert record["userIdentity"] == {"principalId": "AIDA1"}
        assert record["requestParameters"] == {"sourceIPAddress": "192.0.2.7"}
        assert record["responseElements"]["x-amz-request-id"] == "REQUEST"
        assert record["s3"]["configurationId"] == "all"
        assert record["s3"]["bucket"]["name"] == "bucket"
        about = record["s3"]["object"]
        assert (about["size"], about["eTag"]) == (4, "data")
        await world.put("key", b"more")
        await world.duty.run_once(0)
        later = world.receiver.messages[1]["Records"][0]["s3"]["object"]["sequencer"]
        assert later > about["sequencer"]

    run(work, monkeypatch)


def test_versions_and_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        store = world.store
        await store.set_bucket_versioning("bucket", enabled=True)
        first = await world.put("key")
        marker = await store.delete_object("bucket", b"key")
        await store.delete_object("bucket", b"key", version_id=first)
        folder_id = await world.bucket_id()
        await world.file(folder_id, "file")
        await store.unlink(folder_id, b"file")
        await world.duty.run_once(0)
        records = [one["Records"][0] for one in world.receiver.messages]
        records.sort(key=lambda one: one["s3"]["object"]["key"], reverse=True)
        found = [(one["eventName"], one["s3"]["object"].get("versionId")) for one in records]
        assert found[:3] == [
            ("ObjectCreated:Put", first),
            ("ObjectRemoved:DeleteMarkerCreated", marker.version_id),
            ("ObjectRemoved:Delete", first),
        ]
        assert [name for name, _ in found[3:]] == [
            "ObjectCreated:Put",
            "ObjectRemoved:DeleteMarkerCreated",
        ]
        assert all(version for _, version in found)

    run(work, monkeypatch)


def test_files(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        store, bucket_id = world.store, await world.bucket_id()
        folder_id = await world.file(bucket_id, "dir", InodeType.DIRECTORY)
        file_id = await world.file(folder_id, "file")
        assert await world.told() == ["ObjectCreated:Put dir/", "ObjectCreated:Put dir/file"]
        await store.write_inline(file_id, 0, b"small")
        assert await world.told() == ["ObjectCreated:Put dir/file"]
        await store.set_attributes(file_id, SetAttributes(size=2))
        assert await world.told() == ["ObjectCreated:Put dir/file"]
        await store.set_attributes(file_id, SetAttributes(mode=0o600))
        assert await world.told() == []
        await store.rename(folder_id, b"file", bucket_id, b"moved")
        assert await world.told() == ["ObjectRemoved:Delete dir/file", "ObjectCreated:Copy moved"]
        await store.write_inline(file_id, 0, b"again")
        assert await world.told() == ["ObjectCreated:Put moved"]
        await store.link(file_id, folder_id, b"other")
        await store.write_inline(file_id, 0, b"both!")
        assert sorted(await world.told()) == [
            "ObjectCreated:Put dir/other",
            "ObjectCreated:Put dir/other",
            "ObjectCreated:Put moved",
        ]
        await store.unlink(bucket_id, b"moved")
        await store.rename(bucket_id, b"dir", bucket_id, b"new")
        assert sorted(await world.told()) == [
            "ObjectCreated:Copy new/",
            "ObjectCreated:Copy new/other",
            "ObjectRemoved:Delete dir/",
            "ObjectRemoved:Delete dir/other",
            "ObjectRemoved:Delete moved",
        ]
        await store.commit_write(file_id, 7)
        assert await world.told() == ["ObjectCreated:Put new/other"]
        await store.unlink(folder_id, b"other")
        await store.remove_directory(bucket_id, b"new")
        assert await world.told() == ["ObjectRemoved:Delete new/", "ObjectRemoved:Delete new/other"]

    run(work, monkeypatch)


def test_what_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        store, bucket_id = world.store, await world.bucket_id()
        one = await world.file(bucket_id, "one", InodeType.DIRECTORY)
        two = await world.file(bucket_id, "two", InodeType.DIRECTORY)
        await world.file(one, "x")
        await world.file(two, "x")
        await world.told()
        await store.rename(bucket_id, b"one", bucket_id, b"two", exchange=True)
        told = await world.told()
        last = {event.split(" ")[1]: event.split(" ")[0] for event in told}
        assert last == dict.fromkeys(("one/", "one/x", "two/", "two/x"), "ObjectCreated:Copy")
        await world.file(bucket_id, "file")
        await world.told()
        await store.rename(bucket_id, b"file", bucket_id, b"two", exchange=True)
        told = await world.told()
        last = {event.split(" ")[1]: event.split(" ")[0] for event in told}
        assert last == {
            "file": "ObjectRemoved:Delete",
            "two": "ObjectCreated:Copy",
            "two/": "ObjectRemoved:Delete",
            "two/x": "ObjectRemoved:Delete",
            "file/": "ObjectCreated:Copy",
            "file/x": "ObjectCreated:Copy",
        }

    run(work, monkeypatch)


def test_a_large_folder_is_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        monkeypatch.setattr(happenings, "RENAMED_AT_ONCE", 3)
        for number in range(250):
            await world.put(f"old/{number % 7}/{number}")
        assert len(await world.all_told()) == 250
        await world.store.rename_object("bucket", b"old/", b"new/", OWNER)
        assert (await world.waiting())[0] == 2
        told = await world.all_told()
        assert sorted(told) == sorted(
            f"{event} {prefix}/{number % 7}/{number}"
            for number in range(250)
            for event, prefix in (("ObjectRemoved:Delete", "old"), ("ObjectCreated:Copy", "new"))
        )
        assert len(set(world.receiver.ids)) == len(world.receiver.ids)
        assert await world.waiting() == (0, 0)

    run(work, monkeypatch)


def test_filters_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        await world.configure(
            Configuration(
                "QueueConfiguration", "1", ARN + "hook", ("s3:ObjectCreated:Put",), "in/", ".png"
            )
        )
        for key in ("in/a.png", "in/a.jpg", "out/a.png"):
            await world.put(key)
        await world.store.delete_object("bucket", b"in/a.png")
        assert await world.told() == ["ObjectCreated:Put in/a.png"]
        await world.store.set_bucket_setting("bucket", ASPECT, None)
        await world.put("in/b.png")
        assert await world.told() == []

    run(work, monkeypatch)


def test_events_wait_for_a_destination_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        world.receiver.answers = [503, 401, 404, 500]
        await world.put("one")
        await world.put("one")
        while (await world.waiting())[0]:
            await world.duty.run_once(0)
        assert world.receiver.told == ["ObjectCreated:Put one"] * 2
        assert world.receiver.answers == []
        text = render(world.duty.measures())
        assert 'craqen_events_failures_total{destination="hook"} 4' in text
        assert 'craqen_events_lost{destination="hook"} 0' in text

    run(work, monkeypatch)


def test_a_message_that_is_refused_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        world.receiver.answers = [413] * duty_module.REFUSALS_MAX
        await world.put("one")
        while (await world.waiting())[0]:
            await world.duty.run_once(0)
        assert world.receiver.told == []
        assert await world.waiting() == (0, 1)
        await world.put("two")
        assert await world.told() == ["ObjectCreated:Put two"]

    run(work, monkeypatch)


def test_too_many_events_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        monkeypatch.setattr(happenings, "WAITING_MAX", 2)
        for number in range(5):
            await world.put(str(number))
        assert await world.waiting() == (2, 3)
        assert sorted(await world.told()) == ["ObjectCreated:Put 0", "ObjectCreated:Put 1"]
        await world.put("later")
        assert await world.told() == ["ObjectCreated:Put later"]

    run(work, monkeypatch)


def test_a_destination_that_is_not_known_keeps_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        await world.configure(Configuration("QueueConfiguration", "1", ARN + "other", ALL))
        await world.put("key")
        assert await world.told() == []
        assert (await world.waiting())[0] == 2  # with the test event
        options = EventOptions(destinations=[f"other={world.receiver.url}"])
        world.duty = EventDuty(world.kv, options, "")
        assert await world.told() == ["ObjectCreated:Put key"]

    run(work, monkeypatch)


def test_messages_are_signed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        secrets = tmp_path / "secrets.yaml"
        secrets.write_text("hook: {bearer: the-token, hmac_key: the-key}\n")
        secrets.chmod(0o600)
        options = EventOptions(
            destinations=[f"hook={world.receiver.url}"], secrets_file=str(secrets)
        )
        world.duty = EventDuty(world.kv, options, "")
        await world.put("key")
        await world.told()
        headers, body = world.receiver.headers[-1], world.receiver.bodies[-1]
        assert headers["Authorization"] == "Bearer the-token"
        assert headers[SIGNATURE_HEADER] == signature_of(body, "the-key")

    run(work, monkeypatch)


@pytest.mark.skipif(shutil.which("nats-server") is None, reason="needs nats-server")
def test_a_stream_of_nats_takes_events_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nats = pytest.importorskip("nats")

    async def work(world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = EventOptions(destinations=[f"hook=nats://127.0.0.1:{port}/craqen.events"])
        world.duty = EventDuty(world.kv, options, "")
        await world.put("key")
        assert await world.told() == []  # nobody is there yet
        server = subprocess.Popen(
            ["nats-server", "-js", "-sd", str(tmp_path), "-a", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            client = await nats.connect(f"nats://127.0.0.1:{port}", reconnect_time_wait=0.05)
            await world.duty.run_once(0)
            assert (await world.waiting())[0] == 1  # no stream takes it
            await client.jetstream().add_stream(name="events", subjects=["craqen.>"])
            while (await world.waiting())[0]:
                await world.duty.run_once(0)
            message = await (await client.jetstream().subscribe("craqen.events")).next_msg()
            record = json.loads(message.data)["Records"][0]
            assert record["s3"]["object"]["key"] == "key"
            assert message.headers["Nats-Msg-Id"].startswith(record["s3"]["object"]["sequencer"])
            await client.close()
        finally:
            server.terminate()
            server.wait()

    run(work, monkeypatch)
