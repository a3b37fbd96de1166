"""What passes is tried again: cuts, overload, restarts; and an upload that can't be made one way is made another."""

from __future__ import annotations

import io
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from servers.images import memory_image
from servers.registryclient import Client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.contract.request import RegistrySettings
from imagewright.digest import Digest
from imagewright.errors import Reason, RegistryError
from imagewright.http.retry import RetryPolicy
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat
from imagewright.reference import Reference
from imagewright.registry.push import PushImage

CONTENT = random.Random(7).randbytes(400_000)
IMAGE = memory_image([CONTENT])
LAYER = IMAGE.manifest.layers[0]
MANIFEST = Answer(200, {"Content-Type": IMAGE.manifest.media_type}, IMAGE.manifest.raw)


def holding(asked: Asked) -> Answer:
    """What a registry with the image answers to a pull."""
    if "/manifests/" in asked.path:
        return MANIFEST
    blob = IMAGE.blobs.get(Digest.parse(asked.path.rpartition("/")[2])) if "/blobs/" in asked.path else None
    return Answer(200, body=blob) if blob is not None else Answer()


class Flaky:
    """Answers with ``failures`` first, each time for what ``matches``, and with ``then`` after them."""

    def __init__(self, matches: str, failures: list[Answer], then: Callable[[Asked], Answer] = holding) -> None:
        self._matches = matches
        self._failures = list(failures)
        self._then = then
        self._lock = threading.Lock()  # blobs are pushed by several threads

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            if self._failures and re.search(self._matches, f"{asked.method} {asked.path}"):
                return self._failures.pop(0)
        return self._then(asked)


@pytest.mark.parametrize(
    "failure",
    [
        Answer(500),
        Answer(503, {"Retry-After": "0"}),
        Answer(429, {"Retry-After": "soon"}),
        Answer(408),
        Answer(raw=b""),
        Answer(200, {}, IMAGE.manifest.raw[:50], length=len(IMAGE.manifest.raw)),
    ],
)
def test_a_manifest_is_asked_for_again(failure: Answer) -> None:
    with ScriptedServer(Flaky("/manifests/", [failure, failure])) as server:
        assert Client().pull(f"{server.host}/app:1") == CONTENT
        assert len([p for p in server.log if "/manifests/" in p]) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_refusal_is_not_repeated(status: int) -> None:
    with ScriptedServer(Flaky("/manifests/", [Answer(status)])) as server:
        with pytest.raises(RegistryError) as caught:
            Client().pull(f"{server.host}/app:1")
        assert caught.value.status == status
        assert len([p for p in server.log if "/manifests/" in p]) == 1


def test_patience_ends() -> None:
    with ScriptedServer(Flaky("/manifests/", [Answer(503)] * 100)) as server:
        with pytest.raises(RegistryError, match="status 503") as caught:
            Client(retry=RetryPolicy(2, 0)).pull(f"{server.host}/app:1")
        assert (caught.value.reason, caught.value.status) == (Reason.REGISTRY_UNAVAILABLE, 503)
        assert len([p for p in server.log if "/manifests/" in p]) == 3


@pytest.mark.parametrize("value", ["1", formatdate(time.time() + 10_000, usegmt=True)], ids=["seconds", "date"])
def test_the_registry_says_how_long_to_wait(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with ScriptedServer(Flaky("/manifests/", [Answer(429, {"Retry-After": value})])) as server:
        assert Client().pull(f"{server.host}/app:1") == CONTENT
    assert max(waits) == (1.0 if value == "1" else 60.0), "as asked, and a minute at most"


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with ScriptedServer(Flaky("/manifests/", [Answer(503)] * 4)) as server:
        Client(retry=RetryPolicy(backoff_s=0.5)).pull(f"{server.host}/app:1")
    assert [round(wait / 0.25) for wait in waits] == [pytest.approx(n, rel=0.3) for n in (2, 4, 8, 16)]


def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_nobody_listens() -> None:
    host = nobody()
    with pytest.raises(RegistryError, match=f"cannot reach {host}: .*refused") as caught:
        Client().resolve(f"{host}/app:1")
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert caught.value.hint


# --- resuming


class Ranged:
    """A blob that is cut off every ``step`` bytes. Ranges are honoured in the way that ``mode`` names."""

    def __init__(self, step: int, mode: str) -> None:
        self._step = step
        self._mode = mode

    def __call__(self, asked: Asked) -> Answer:
        if str(LAYER.digest) not in asked.path:
            return holding(asked)
        match = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        begin = int(match[1]) if match else 0
        if self._mode == "exact" and match:
            headers = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"}
            return Answer(206, headers, CONTENT[begin:][: self._step], length=len(CONTENT) - begin)
        if self._mode == "early" and match:  # more than was asked for
            begin = max(0, begin - 1000)
            headers = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"}
            return Answer(206, headers, CONTENT[begin:][: self._step], length=len(CONTENT) - begin)
        end = begin + self._step  # "none": the whole again, cut later each time
        return Answer(200, {}, CONTENT[:end], length=len(CONTENT))


@pytest.mark.parametrize("mode", ["exact", "early", "none"])
def test_a_blob_that_is_cut_off_goes_on(mode: str) -> None:
    with ScriptedServer(Ranged(90_000, mode)) as server:
        assert Client().pull(f"{server.host}/app:1") == CONTENT
        ranges = [a.headers.get("range") for a in server.asked if str(LAYER.digest) in a.path]
        assert len(ranges) >= 5
        assert ranges[:2] == [None, "bytes=90000-"]


def test_a_blob_that_is_always_cut_off() -> None:
    with (
        ScriptedServer(Ranged(0, "exact")) as server,
        pytest.raises(RegistryError, match=r"cannot download the blob .* interrupted \d+ times") as caught,
    ):
        Client().pull(f"{server.host}/app:1")
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert caught.value.hint


def test_another_range_than_was_asked_for() -> None:
    def script(asked: Asked) -> Answer:
        if "range" in asked.headers:
            headers = {"Content-Range": f"bytes 200000-{len(CONTENT) - 1}/{len(CONTENT)}"}
            return Answer(206, headers, CONTENT[200_000:])
        return Ranged(90_000, "exact")(asked)

    with ScriptedServer(script) as server, pytest.raises(RegistryError, match="sent bytes from 200000") as caught:
        Client().pull(f"{server.host}/app:1")
    assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR


# --- mirrors


def test_a_mirror_that_is_down_or_lacks_the_image_is_passed_over_at_once() -> None:
    lacking = Answer(404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
    with (
        ScriptedServer(lambda _: lacking) as empty,
        ScriptedServer(lambda _: Answer(503)) as down,
        ScriptedServer(holding) as home,
    ):
        settings = RegistrySettings(host=home.host, mirrors=(nobody(), down.host, f"{empty.host}/some/path"))
        assert Client(settings).pull(f"{home.host}/app:1") == CONTENT
        assert [p for p in down.log if "/manifests/" in p] == ["GET /v2/app/manifests/1"], "no second try"
        assert empty.log[-1] == "GET /v2/some/path/app/manifests/1"


CHECK = "Check the name and the tag"


@pytest.mark.parametrize("own", [False, True])
def test_what_each_place_said_is_told_with_the_images_name_when_all_fail(own: bool) -> None:
    unknown = Answer(404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
    with ScriptedServer(lambda _: unknown) as mirror, ScriptedServer(lambda _: unknown) as home:
        down = nobody()
        place = home.host if own else nobody()  # the registry itself may be behind a firewall
        settings = RegistrySettings(host=place, mirrors=(down, f"{mirror.host}/hub"))
        with pytest.raises(RegistryError) as caught:
            Client(settings).pull(f"{place}/app:1.0-nonsuch")
    error = caught.value
    said = re.compile(
        rf"cannot pull {place}/app:1.0-nonsuch: cannot reach {down}: [^;]*refused; not found in mirror {mirror.host}/hub; "
        + (f"not found in {place}" if own else f"cannot reach {place}: [^;]*refused")
    )
    assert said.fullmatch(error.message), error.message
    assert error.reason is Reason.BASE_IMAGE_PULL_FAILED
    way_out = f"; if they are right, put the image into mirror {mirror.host}/hub, or let the build reach {place}"
    assert error.hint == f"{CHECK}{'' if own else way_out}."


def test_a_mirrors_404_does_not_hide_what_the_registry_itself_answered() -> None:
    with ScriptedServer(lambda _: Answer(404)) as mirror, ScriptedServer(lambda _: Answer(403)) as home:
        settings = RegistrySettings(host=home.host, mirrors=(mirror.host,))
        with pytest.raises(RegistryError) as caught:
            Client(settings).pull(f"{home.host}/app:1")
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    denied = f"{home.host}: access denied (status 403)"
    assert caught.value.message == f"cannot pull {home.host}/app:1: not found in mirror {mirror.host}; {denied}"


def test_a_mirrors_404_does_not_hide_that_the_registry_itself_is_overloaded() -> None:
    with ScriptedServer(lambda _: Answer(404)) as mirror, ScriptedServer(lambda _: Answer(429)) as home:
        settings = RegistrySettings(host=home.host, mirrors=(mirror.host,))
        with pytest.raises(RegistryError, match="rate limit exceeded") as caught:
            Client(settings, retry=RetryPolicy(0, 0)).pull(f"{home.host}/app:1")
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert caught.value.hint == "Log in, or try again later."


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_blob_that_no_place_gives_is_reported_with_the_images_name_and_all_places(mirrored: bool) -> None:
    def lacking(asked: Asked) -> Answer:
        return Answer(404) if str(LAYER.digest) in asked.path else holding(asked)

    with ScriptedServer(lacking) as mirror, ScriptedServer(lambda _: Answer(403)) as home:
        place = home if mirrored else mirror
        settings = RegistrySettings(host=place.host, mirrors=(mirror.host,) if mirrored else ())
        with pytest.raises(RegistryError) as caught:
            Client(settings).pull(f"{place.host}/app:1")
    found = f"mirror {mirror.host}: GET failed with status 404; " if mirrored else ""
    last = "access denied (status 403)" if mirrored else "GET failed with status 404"
    blob = f"cannot pull the blob {LAYER.digest} of {place.host}/app:1"
    assert caught.value.message == f"{blob}: {found}{place.host}: {last}"


@pytest.mark.parametrize("failure", [Answer(404), Answer(500), Answer(200, {}, CONTENT[:1000], length=len(CONTENT))])
def test_a_blob_that_the_mirror_fails_to_give_comes_from_the_registry(failure: Answer) -> None:
    def failing(asked: Asked) -> Answer:
        return failure if str(LAYER.digest) in asked.path else holding(asked)

    with ScriptedServer(failing) as mirror, ScriptedServer(Ranged(1 << 20, "exact")) as home:
        settings = RegistrySettings(host=home.host, mirrors=(mirror.host,))
        assert Client(settings).pull(f"{home.host}/app:1") == CONTENT
        assert f"GET /v2/app/blobs/{LAYER.digest}" in home.log


# --- pushing


class Storing:
    """A registry that takes uploads into memory, checks digests, and can be told what it can't do."""

    def __init__(self, monolithic: bool = True, mounts: int = 202, ends: int = 201, patches: int = 202) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self._monolithic = monolithic
        self._mounts = mounts
        self._ends, self._patches = ends, patches
        self._lock = threading.Lock()  # blobs are pushed by several threads

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            return self._answer(asked)

    def _answer(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        name = url.path.rpartition("/")[2]
        if "/manifests/" in url.path and asked.method == "PUT":
            self.manifests[name] = asked.body
            return Answer(201, {"Docker-Content-Digest": str(Digest.of(asked.body))})
        if asked.method == "HEAD":
            blob = self.blobs.get(name)
            return Answer(404) if blob is None else Answer(200, {"Content-Length": str(len(blob))})
        if asked.method == "POST":
            if "mount" in parse_qs(url.query) and self._mounts != 202:
                return Answer(self._mounts)
            upload = f"{len(self.uploads)}"
            self.uploads[upload] = b""
            return Answer(202, {"Location": f"{url.path.rstrip('/')}/{upload}?state=a%2Bb"})
        if asked.method == "PATCH":
            self.uploads[name] += asked.body
            return Answer(self._patches, {"Location": f"{url.path}?state=c"})
        if asked.method == "PUT" and name in self.uploads:
            if asked.body and not self._monolithic:
                return Answer(405)
            body, digest = self.uploads[name] + asked.body, parse_qs(url.query)["digest"][0]
            if str(Digest.of(body)) != digest:
                return Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"differs"}]}')
            self.blobs[digest] = body
            return Answer(self._ends)
        return Answer()


@pytest.mark.parametrize("monolithic", [True, False])
def test_a_blob_is_sent_in_one_put_or_where_that_is_refused_by_patch(monolithic: bool) -> None:
    registry = Storing(monolithic)
    image = memory_image([CONTENT, b""])
    with ScriptedServer(registry) as server:
        Client().push(image, f"{server.host}/app:1")
    assert registry.blobs == {str(digest): blob for digest, blob in image.blobs.items()}
    assert registry.manifests == {"1": image.manifest.raw}
    assert any(asked.method == "PATCH" for asked in server.asked) is not monolithic
    assert server.log[-1] == "PUT /v2/app/manifests/1", "the tag comes last"


@pytest.mark.parametrize("ends", [200, 202])
@pytest.mark.parametrize("monolithic", [True, False])
def test_an_upload_that_ends_with_an_unusual_status_is_done_if_the_blob_is_there(ends: int, monolithic: bool) -> None:
    registry = Storing(monolithic, ends=ends, patches=200)
    with ScriptedServer(registry) as server:
        Client().push(IMAGE, f"{server.host}/app:1")
    assert registry.blobs == {str(digest): blob for digest, blob in IMAGE.blobs.items()}
    assert registry.manifests == {"1": IMAGE.manifest.raw}


def test_a_blob_that_appears_a_while_after_its_upload_was_accepted_is_waited_for() -> None:
    registry = Storing(ends=202)
    looked = 0

    def script(asked: Asked) -> Answer:
        nonlocal looked
        if asked.method == "HEAD" and asked.path.endswith(str(LAYER.digest)) and str(LAYER.digest) in registry.blobs:
            looked += 1
            if looked < 3:
                return Answer(404)
        return registry(asked)

    with ScriptedServer(script) as server:
        Client().push(IMAGE, f"{server.host}/app:1")
    assert looked == 3
    assert registry.manifests


@pytest.mark.parametrize("ends", [200, 202])
def test_an_upload_that_ends_with_an_unusual_status_and_leaves_no_blob_fails(ends: int) -> None:
    registry = Storing()

    def script(asked: Asked) -> Answer:
        return Answer(ends) if asked.method == "PUT" and "/uploads/" in asked.path else registry(asked)

    with ScriptedServer(script) as server:
        with pytest.raises(RegistryError, match=f"with status {ends}, but does not have the blob") as caught:
            Client().push(IMAGE, f"{server.host}/app:1")
        assert caught.value.reason is Reason.PUSH_FAILED
    assert not registry.manifests


@pytest.mark.parametrize("failure", [Answer(500), Answer(429, {"Retry-After": "0"}), Answer(raw=b""), Answer(502)])
def test_an_upload_that_fails_begins_anew(failure: Answer) -> None:
    registry = Storing()
    with ScriptedServer(Flaky("PUT .*/uploads/", [failure, failure], registry)) as server:
        Client().push(IMAGE, f"{server.host}/app:1")
    assert registry.blobs == {str(digest): blob for digest, blob in IMAGE.blobs.items()}
    assert len(registry.uploads) > 2, "each try asks for a place of its own"


def test_an_upload_whose_answer_was_lost_is_not_sent_again() -> None:
    registry = Storing()
    lost = 0

    def script(asked: Asked) -> Answer:
        nonlocal lost
        answer = registry(asked)
        if asked.method == "PUT" and "/uploads/" in asked.path and len(asked.body) == len(CONTENT):
            lost += 1
            return Answer(raw=b"")
        return answer

    with ScriptedServer(script) as server:
        Client().push(IMAGE, f"{server.host}/app:1")
    assert lost == 1


def test_a_tag_is_not_moved_when_a_blob_fails() -> None:
    registry = Storing()
    with ScriptedServer(Flaky("PUT .*/uploads/", [Answer(403)] * 10, registry)) as server:
        with pytest.raises(RegistryError) as caught:
            Client().push(IMAGE, f"{server.host}/app:1")
        assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert not registry.manifests


@pytest.mark.parametrize("status", [201, 202, 400, 403, 404, 405])
def test_a_mount_works_or_is_an_upload(status: int) -> None:
    registry = Storing(mounts=status)
    with ScriptedServer(registry) as server:
        origin = Reference.parse(f"{server.host}/base:1")
        Client().push(IMAGE, f"{server.host}/app:1", mount={LAYER.digest: origin})
        (asked,) = [asked for asked in server.asked if "mount=" in asked.path]
    assert parse_qs(urlsplit(asked.path).query) == {"mount": [str(LAYER.digest)], "from": ["base"]}
    assert (str(LAYER.digest) in registry.blobs) is (status != 201)
    assert registry.manifests


def test_nothing_is_mounted_from_another_registry() -> None:
    registry = Storing()
    with ScriptedServer(registry) as server:
        Client().push(IMAGE, f"{server.host}/app:1", mount={LAYER.digest: Reference.parse("elsewhere.test/base:1")})
        assert not [asked for asked in server.asked if "mount=" in asked.path]


class _Slow(io.RawIOBase):
    """Zeros, a few at a time."""

    def __init__(self) -> None:
        self.given = 0
        self.begun = threading.Event()

    def read(self, size: int = -1, /) -> bytes:
        time.sleep(0.005)
        self.given += 1000
        self.begun.set()
        return bytes(1000)


def test_one_blob_that_is_refused_ends_the_others() -> None:
    small = memory_image([b"refused"])
    slow = _Slow()
    large = Descriptor(small.manifest.layers[0].media_type, Digest.of(b"large"), 4_000_000)  # 20 s, were it waited for
    manifest = Manifest.build(ImageFormat.OCI, small.manifest.config, [large, *small.manifest.layers])

    class Source:
        @contextmanager
        def open(self, descriptor: Descriptor) -> Iterator[Any]:
            yield slow if descriptor == large else io.BytesIO(small.blobs[descriptor.digest])

    def script(asked: Asked) -> Answer:
        if asked.method == "PUT":
            slow.begun.wait(30)  # until the large one is under way
            return Answer(403)
        return Storing()(asked)

    with ScriptedServer(script) as server, pytest.raises(RegistryError) as caught:
        Client().pusher.push(
            PushImage(manifest, small.config),
            [Reference.parse(f"{server.host}/app:1")],
            Source(),
            lambda *_: None,
        )
    assert caught.value.status == 403
    assert 0 < slow.given < large.size


def test_a_blob_that_is_shorter_than_promised_is_not_waited_for() -> None:
    image = memory_image([CONTENT])
    image.blobs[LAYER.digest] = CONTENT[:-1]
    with ScriptedServer(Storing()) as server, pytest.raises(Exception, match="by its descriptor") as caught:
        Client().push(image, f"{server.host}/app:1")
    assert not isinstance(caught.value, OSError)


def test_connections_are_used_again() -> None:
    with ScriptedServer(holding) as server:
        using = Client()
        for _ in range(5):
            assert using.pull(f"{server.host}/app:1") == CONTENT
        assert len(server.asked) > 15
        assert server.connections <= 3, "one, and the probe for HTTPS"


@pytest.mark.parametrize(
    "end", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Type: appli", b"HTTP/1.1 200 OK\r\nX: y\r\n"]
)
def test_an_answer_that_ends_among_its_headers_is_none(end: bytes) -> None:
    """Python's own reader takes what came for all of it: an answer without a length, a type and a body."""
    with ScriptedServer(Flaky("GET .*/manifests/", [Answer(raw=end)])) as server:
        assert Client().pull(f"{server.host}/app:1") == CONTENT


def test_more_tries_of_a_pull() -> None:
    failures = [Answer(503)] * 4
    with ScriptedServer(Flaky("GET .*/manifests/", failures)) as server, pytest.raises(RegistryError):
        Client(retry=RetryPolicy(1, 0), more_pulls=2).pull(f"{server.host}/app:1")
    with ScriptedServer(Flaky("GET .*/manifests/", failures)) as server:
        assert Client(retry=RetryPolicy(1, 0), more_pulls=3).pull(f"{server.host}/app:1") == CONTENT


def test_more_tries_of_a_push() -> None:
    def taking(asked: Asked) -> Answer:
        if asked.method == "PUT" and "/manifests/" in asked.path:
            return Answer(201, {"Docker-Content-Digest": str(IMAGE.manifest.digest)})
        return (
            Answer(200, {}, IMAGE.blobs[Digest.parse(asked.path.rpartition("/")[2])])
            if asked.method == "HEAD"
            else Answer()
        )

    failures = [Answer(503)] * 4
    with ScriptedServer(Flaky("PUT .*/manifests/", failures, taking)) as server, pytest.raises(RegistryError):
        Client(retry=RetryPolicy(1, 0), more_pushes=2).push(IMAGE, f"{server.host}/app:1")
    with ScriptedServer(Flaky("PUT .*/manifests/", failures, taking)) as server:
        Client(retry=RetryPolicy(1, 0), more_pushes=3).push(IMAGE, f"{server.host}/app:1")
