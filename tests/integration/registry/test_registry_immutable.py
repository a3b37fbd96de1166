"""A tag that a registry won't move: told apart from other refusals, in the words of several registries."""

from __future__ import annotations

import json

import pytest
from servers.images import memory_image
from servers.registryclient import Client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.digest import Digest
from imagewright.engine.output.destinations import Destinations
from imagewright.engine.output.push import push_image
from imagewright.errors import Reason, RegistryError
from imagewright.http.retry import RetryPolicy
from imagewright.reference import Reference
from imagewright.registry.push import PushImage, TagImmutable

WORDS = [
    (
        400,
        "TAG_INVALID",
        "The image tag '1' already exists in the 'app' repository and cannot be overwritten because the repository is immutable.",
    ),
    (412, "PRECONDITION", "Failed to process request due to 'app:1' configured as immutable."),
    (400, "MANIFEST_INVALID", "manifest invalid: cannot update tag 1. The repository has enabled tag immutability"),
    (409, "TAG_ALREADY_EXISTS", "tag already exists"),
    (
        405,
        "UNSUPPORTED",
        "The operation is disallowed on this registry, repository or image. View troubleshooting steps",
    ),
]


@pytest.fixture
def pushed() -> list[str]:
    return []


def registry(status: int, code: str, message: str, pushed: list[str]) -> ScriptedServer:
    def answer(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            return Answer(404)
        if asked.method == "POST":
            return Answer(202, {"Location": "/v2/app/blobs/uploads/1"})
        if asked.method == "PUT" and asked.path.endswith("/manifests/1"):
            return Answer(status, {}, json.dumps({"errors": [{"code": code, "message": message}]}).encode())
        if "/manifests/" in asked.path:
            pushed.append(asked.path)
            return Answer(201, {"Docker-Content-Digest": str(Digest.of(asked.body))})
        return Answer(201)

    return ScriptedServer(answer)


@pytest.mark.parametrize(("status", "code", "message"), WORDS)
def test_immutable_tag(status: int, code: str, message: str, pushed: list[str]) -> None:
    image = memory_image([b"layer"])
    with registry(status, code, message, pushed) as server:
        names = [Reference.parse(f"{server.host}/app:{tag}") for tag in ("1", "2")]
        client = Client(retry=RetryPolicy(0))
        with pytest.raises(TagImmutable) as caught:
            client.push(image, *map(str, names))
    assert caught.value.reason is Reason.TAG_IMMUTABLE
    assert caught.value.references == (names[0],)
    assert message[:20] in caught.value.message
    assert "--push-ignore-immutable-tag-errors" in caught.value.hint
    assert pushed == ["/v2/app/manifests/2"], "the other names are pushed all the same"


def test_another_refusal_is_none_of_that(pushed: list[str]) -> None:
    image = memory_image([b"layer"])
    with registry(400, "MANIFEST_INVALID", "no such media type", pushed) as server:
        client = Client(retry=RetryPolicy(0))
        name = Reference.parse(f"{server.host}/app:1")
        with pytest.raises(RegistryError) as caught:
            client.push(image, str(name))
    assert caught.value.reason is Reason.PUSH_FAILED


class Said:
    """What a reporter is told; all else it is told goes nowhere."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"warning: {text}")

    def transfer(self, transfer: object) -> None:
        pass


@pytest.mark.parametrize("ignored", [True, False])
def test_an_immutable_tag_is_a_warning_where_that_is_asked_for(ignored: bool, pushed: list[str]) -> None:
    image = memory_image([b"layer"])
    said = Said()
    with registry(*WORDS[0], pushed) as server:
        names = tuple(Reference.parse(f"{server.host}/app:{tag}") for tag in ("1", "2"))
        client = Client(retry=RetryPolicy(0))
        destinations = Destinations(names, ignore_immutable_tags=ignored)
        push = PushImage(image.manifest, image.config)
        if not ignored:
            with pytest.raises(TagImmutable):
                push_image(client.pusher, push, destinations, image, said)  # type: ignore[arg-type]
            return
        assert push_image(client.pusher, push, destinations, image, said) == names[1:]  # type: ignore[arg-type]
    assert said.lines == [
        f'warning: did not push "{names[0].familiar()}": the tag is immutable',
        f"pushed {names[1].familiar()}@{image.manifest.digest}",
    ]
