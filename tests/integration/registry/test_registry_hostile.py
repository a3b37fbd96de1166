"""A registry that lies, or is none: whatever it answers, the user gets an error with a reason and a hint."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from servers.images import MemoryImage, memory_image
from servers.registryclient import AMD64, Client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.oci.mediatypes import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, ImageFormat
from imagewright.reference import Reference
from imagewright.registry.auth import Login

IMAGE = memory_image([b"a layer of bytes" * 1000])
DOCKER_IMAGE = memory_image([b"a layer of bytes" * 1000], ImageFormat.DOCKER)
LAYER = IMAGE.manifest.layers[0]
Script = Callable[[Asked], Answer]


@contextmanager
def fails(
    match: str, reason: Reason = Reason.REGISTRY_PROTOCOL_ERROR
) -> Iterator[pytest.ExceptionInfo[ImagewrightError]]:
    with pytest.raises(ImagewrightError, match=match) as caught:
        yield caught
    assert caught.value.reason is reason, caught.value.render()
    assert caught.value.hint
    assert "\x1b" not in caught.value.render(), "no terminal takes orders from a registry"


def honest(image: MemoryImage = IMAGE) -> Script:
    """What a registry with one image answers to a pull."""

    def script(asked: Asked) -> Answer:
        if "/manifests/" in asked.path:
            return Answer(200, {"Content-Type": image.manifest.media_type}, image.manifest.raw)
        blob = image.blobs.get(Digest.parse(asked.path.rpartition("/")[2])) if "/blobs/" in asked.path else None
        return Answer(200, body=blob) if blob is not None else Answer(404)

    return script


def but(changed: Callable[[Asked], Answer | None]) -> Script:
    """Honest, where ``changed`` has no answer. The probe for HTTPS is not part of it."""
    otherwise = honest()
    return lambda asked: changed(asked) or otherwise(asked)


def manifests(answer: Answer) -> Script:
    return but(lambda asked: answer if "/manifests/" in asked.path else None)


def layers(answer: Answer) -> Script:
    return but(lambda asked: answer if str(LAYER.digest) in asked.path else None)


def document(**keys: object) -> bytes:
    return json.dumps(json.loads(IMAGE.manifest.raw) | keys).encode()


def test_the_play_itself_is_honest() -> None:
    with ScriptedServer(honest()) as server:
        assert Client().pull(f"{server.host}/app:1") == IMAGE.blobs[LAYER.digest]


# --- manifests

DESCRIPTOR = {"mediaType": OCI_LAYER, "digest": str(LAYER.digest), "size": LAYER.size}


@pytest.mark.parametrize(
    ("body", "match"),
    [
        pytest.param(b"<html><body>Log in to the hotel's network</body></html>", "not JSON", id="html"),
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(IMAGE.manifest.raw[:-20], "not JSON", id="truncated-json"),
        pytest.param(b"\xff\xfe\x00garbage\x1b[2J", "not JSON", id="garbage"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep"),
        pytest.param(b'{"a":' * 50_000, "not JSON", id="deep-objects"),
        pytest.param(b"[]", "not a JSON object", id="a-list"),
        pytest.param(b"7" * 5000, "JSON", id="a-long-number"),
        pytest.param(b"{}", "list of layers", id="an-empty-object"),
        pytest.param(document(mediaType=["list"]), "manifest", id="media-type-is-a-list"),
        pytest.param(document(mediaType="text/plain"), "text/plain", id="media-type-of-something-else"),
        pytest.param(document(layers={}), "list of layers", id="layers-are-an-object"),
        pytest.param(document(layers=[7]), "descriptor", id="layer-is-a-number"),
        pytest.param(document(layers=[DESCRIPTOR] * 2000), "2000 layers", id="too-many-layers"),
        pytest.param(document(layers=[DESCRIPTOR | {"size": -1}]), "size -1", id="negative-size"),
        pytest.param(document(layers=[DESCRIPTOR | {"size": "12"}]), "size '12'", id="size-is-text"),
        pytest.param(document(layers=[DESCRIPTOR | {"size": 1e3}]), "size 1000.0", id="size-is-a-float"),
        pytest.param(
            document(layers=[DESCRIPTOR | {"digest": "sha256:../../etc"}]), "invalid digest", id="digest-is-a-path"
        ),
        pytest.param(document(layers=[DESCRIPTOR | {"digest": "md5:" + "0" * 32}]), "invalid digest", id="weak-digest"),
        pytest.param(document(annotations=[]), None, id="annotations-are-an-empty-list"),
        pytest.param(document(config=None), "descriptor", id="no-config"),
        pytest.param(document(config=DESCRIPTOR | {"size": 1 << 40}), "configuration", id="config-of-a-terabyte"),
        pytest.param(document(config=DESCRIPTOR), "not JSON", id="config-is-a-layer"),
    ],
)
def test_a_manifest_that_is_none(body: bytes, match: str | None) -> None:
    with ScriptedServer(manifests(Answer(200, {"Content-Type": OCI_MANIFEST}, body))) as server:
        if match is None:
            Client().pull(f"{server.host}/app:1")
            return
        with fails(match):
            Client().pull(f"{server.host}/app:1")


def test_a_manifest_without_an_end() -> None:
    with ScriptedServer(manifests(Answer(200, {}, b" " * (5 << 20)))) as server, fails("more than"):
        Client().pull(f"{server.host}/app:1")


def test_a_manifest_that_inflates_without_an_end() -> None:
    bomb = gzip.compress(bytes(1 << 26))
    with ScriptedServer(manifests(Answer(200, {"Content-Encoding": "gzip"}, bomb))) as server, fails("more than"):
        Client().pull(f"{server.host}/app:1")


def test_a_manifest_that_is_not_the_pinned_one() -> None:
    other = Digest.of(b"what was asked for")
    with ScriptedServer(honest()) as server, fails("does not have the digest"):
        Client().pull(f"{server.host}/app@{other}")


def test_a_manifest_that_is_not_what_its_header_says() -> None:
    headers = {"Docker-Content-Digest": str(Digest.of(b"other")), "Content-Type": OCI_MANIFEST}
    with (
        ScriptedServer(manifests(Answer(200, headers, IMAGE.manifest.raw))) as server,
        fails("does not have the digest"),
    ):
        Client().pull(f"{server.host}/app:1")


@pytest.mark.parametrize("change", [{"size": 5}, {"digest": str(Digest.of(b"other"))}])
def test_an_index_whose_manifest_is_another(change: dict[str, object]) -> None:
    entry = IMAGE.manifest.descriptor.to_json() | {"platform": AMD64.to_json()} | change
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()

    def script(asked: Asked) -> Answer | None:
        return Answer(200, {"Content-Type": OCI_INDEX}, index) if asked.path.endswith("/manifests/1") else None

    with ScriptedServer(but(script)) as server, fails("digest|by its index"):
        Client().pull(f"{server.host}/app:1")


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {"platform": {"os": ["linux"]}},
        {"platform": {"os": "linux", "architecture": "arm", "variant": "v\u00b2"}},
        {"platform": 3},
        {"annotations": {"a": 1}},
        {"mediaType": {}},
    ],
)
def test_an_index_with_nonsense_in_it(entry: object) -> None:
    whole = IMAGE.manifest.descriptor.to_json() | entry if isinstance(entry, dict) else entry
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [whole]}).encode()
    with (
        ScriptedServer(manifests(Answer(200, {"Content-Type": OCI_INDEX}, index))) as server,
        pytest.raises(RegistryError) as caught,
    ):
        Client().pull(f"{server.host}/app:1")
    assert caught.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {"rootfs": {"diff_ids": "no list"}},
        {"rootfs": {"diff_ids": [{}]}},
        {"config": 7},
        {"config": {"Env": [1]}},
        {"config": {"Env": "PATH=/"}},
        {"config": {"Cmd": "text"}},
        {"config": {"Entrypoint": [None]}},
        {"config": {"Labels": []}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"ExposedPorts": ["80/tcp"]}},
        {"config": {"OnBuild": [["RUN"]]}},
        {"config": {"User": 0}},
        {"config": {"WorkingDir": ["/"]}},
        {"config": {"Shell": {}}},
        {"history": [1]},
        {"history": {}},
        {"os": []},
    ],
)
def test_a_configuration_with_nonsense_in_it(config: dict[str, object]) -> None:
    raw = json.dumps(json.loads(IMAGE.config) | config).encode()
    described = {"mediaType": OCI_CONFIG, "digest": str(Digest.of(raw)), "size": len(raw)}

    def script(asked: Asked) -> Answer | None:
        if "/manifests/" in asked.path:
            return Answer(200, {"Content-Type": OCI_MANIFEST}, document(config=described))
        return Answer(200, body=raw) if str(Digest.of(raw)) in asked.path else None

    with ScriptedServer(but(script)) as server, fails("configuration|digest"):
        Client().pull(f"{server.host}/app:1")


# --- blobs


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        pytest.param(Answer(200, body=b"x" * LAYER.size), "has the digest", id="other-content"),
        pytest.param(Answer(200, body=b"x" * (LAYER.size + 1)), "bytes", id="too-long"),
        pytest.param(Answer(200, body=b"short"), "has 5 bytes", id="too-short"),
        pytest.param(
            Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: chaos\r\n\r\nx"),
            "cannot reach|cannot download",
            id="length-is-no-number",
        ),
        pytest.param(Answer(404), "status 404", id="not-there"),
    ],
)
def test_a_blob_that_is_another(answer: Answer, match: str) -> None:
    with ScriptedServer(layers(answer)) as server, pytest.raises(RegistryError, match=match) as caught:
        Client().pull(f"{server.host}/app:1")
    assert caught.value.hint


def test_a_blob_without_a_length_that_goes_on_too_long() -> None:
    whole = IMAGE.blobs[LAYER.digest] + b"and more"
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + whole
    with ScriptedServer(layers(Answer(raw=raw))) as server, fails("has more than"):
        Client().pull(f"{server.host}/app:1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a number\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxxxxx",
    ],
)
def test_an_answer_that_is_no_http(raw: bytes) -> None:
    script = but(lambda asked: Answer(raw=raw) if "/manifests/" in asked.path else None)
    with ScriptedServer(script) as server, fails("cannot reach", Reason.REGISTRY_UNAVAILABLE):
        Client().pull(f"{server.host}/app:1")


# --- redirects


def test_a_loop_of_redirects() -> None:
    def script(asked: Asked) -> Answer | None:
        return Answer(307, {"Location": asked.path}) if "/manifests/" in asked.path else None

    with ScriptedServer(but(script)) as server:
        with fails("more than 10 redirects"):
            Client().pull(f"{server.host}/app:1")
        assert len([a for a in server.asked if "/manifests/" in a.path]) == 11


@pytest.mark.parametrize(
    "location",
    ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "http://x:port/", "mailto:x@y"],
)
def test_a_redirect_to_nowhere(location: str) -> None:
    headers = {"Location": location} if location else {}
    with ScriptedServer(manifests(Answer(302, headers))) as server, fails("address|where to"):
        Client().pull(f"{server.host}/app:1")


def test_a_login_does_not_go_along_to_another_host() -> None:
    with ScriptedServer(honest()) as storage:
        elsewhere = f"http://localhost:{storage.port}"  # the same machine by another name, as hosts go

        def script(asked: Asked) -> Answer:
            if not asked.authorization:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
            return Answer(307, {"Location": f"{elsewhere}{asked.path}"})

        with ScriptedServer(script) as server:
            using = Client(logins={server.host: Login("user", "secret")})
            using.resolve(f"{server.host}/app:1")
            assert [a.authorization for a in server.asked if "/manifests/" in a.path] == ["", "Basic dXNlcjpzZWNyZXQ="]
    assert storage.asked
    assert not any(asked.authorization for asked in storage.asked)


def test_another_host_can_not_ask_for_the_login() -> None:
    def thief(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(200, body=b'{"token": "mine now"}')
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})

    with ScriptedServer(thief) as other:

        def script(asked: Asked) -> Answer:
            return Answer(307, {"Location": f"http://localhost:{other.port}{asked.path}"})

        with ScriptedServer(script) as server, fails("status 401", Reason.REGISTRY_AUTH_FAILED):
            using = Client(logins={server.host: Login("user", "secret")})
            using.resolve(f"{server.host}/app:1")
        assert not any(asked.authorization for asked in other.asked)
        assert not any(asked.path.startswith("/token") for asked in other.asked)


@pytest.mark.parametrize("scheme", ["Basic", "Bearer"])
@pytest.mark.parametrize(
    ("login", "flaw"),
    [
        (Login("user", "hunter2\n"), "the password ends with a newline"),
        (Login(registry_token="ready\n"), "the registry token ends with a newline"),
        (Login("user", "secret"), ""),
    ],
)
def test_who_is_refused_learns_that_the_login_ends_with_a_newline(scheme: str, login: Login, flaw: str) -> None:
    def script(asked: Asked) -> Answer:
        challenge = f'{scheme} realm="http://{asked.headers["host"]}/token"'
        return Answer(401, {} if asked.path.startswith("/token") else {"WWW-Authenticate": challenge})

    with ScriptedServer(script) as server, fails(".", Reason.REGISTRY_AUTH_FAILED) as caught:
        using = Client(logins={server.host: login})
        using.resolve(f"{server.host}/app:1")
    assert ("newline" in caught.value.hint) is bool(flaw)
    assert flaw in caught.value.hint
    assert "hunter2" not in caught.value.render()


# --- pushes


def test_a_web_page_for_everything_is_no_push() -> None:
    page = Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>")
    with ScriptedServer(lambda _: page) as server:
        with fails("status 200", Reason.PUSH_FAILED):
            Client().push(IMAGE, f"{server.host}/app:1")
        with fails("status 200", Reason.PUSH_FAILED):
            Client().pusher.check_push(Reference.parse(f"{server.host}/app:1"))


def test_a_manifest_that_was_maybe_not_stored() -> None:
    def script(asked: Asked) -> Answer:
        return Answer(200, {"Content-Length": ""} if asked.method == "HEAD" else {})

    with ScriptedServer(script) as server, fails("may not be stored|status 200", Reason.PUSH_FAILED):
        Client().push(IMAGE, f"{server.host}/app:1")

    def holds_all(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            digest = Digest.parse(asked.path.rpartition("/")[2])
            return Answer(200, {"Content-Length": str(len(IMAGE.blobs[digest]))})
        return Answer(200)

    with ScriptedServer(holds_all) as server, fails("may not be stored"):
        Client().push(IMAGE, f"{server.host}/app:1")


def test_a_manifest_that_was_changed_on_its_way() -> None:
    def script(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            digest = Digest.parse(asked.path.rpartition("/")[2])
            return Answer(200, {"Content-Length": str(len(IMAGE.blobs[digest]))})
        return Answer(201, {"Docker-Content-Digest": str(Digest.of(b"changed\x1b[31m"))})

    with ScriptedServer(script) as server, fails("stored .* not as"):
        Client().push(IMAGE, f"{server.host}/app:1")


@pytest.mark.parametrize("location", ["", "http://[::1", "gopher://x/"])
def test_an_upload_to_nowhere(location: str) -> None:
    def script(asked: Asked) -> Answer:
        return Answer(202, {"Location": location}) if asked.method == "POST" else Answer(404)

    with ScriptedServer(script) as server, fails("address|Location", Reason.PUSH_FAILED):
        Client().push(IMAGE, f"{server.host}/app:1")


def test_a_refusal_in_the_registrys_own_words() -> None:
    words = {"errors": [{"code": "DENIED", "message": "quota\x1b[2J exceeded\nby far" + "!" * 5000}]}

    def script(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(413, {"Content-Type": "application/json"}, json.dumps(words).encode())
        return Answer(404)

    with ScriptedServer(script) as server, fails(r"DENIED: quota \[2J exceeded by far", Reason.PUSH_FAILED):
        Client().push(IMAGE, f"{server.host}/app:1")


# Answers to the PUT of an OCI manifest: of Quay 2, of Quay's later releases, of Docker's registry before OCI, of
# GitLab, of Amazon ECR in 2018, of a registry without words.
_KNOW_NO_OCI = [
    (415, "MANIFEST_INVALID", "manifest invalid", {"message": "manifest schema version not supported"}),
    (400, "MANIFEST_INVALID", "manifest invalid", {}),
    (400, "MANIFEST_INVALID", "manifest invalid", "OCI manifests not allowed"),
    (
        405,
        "UNSUPPORTED",
        "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'",
        None,
    ),
    (422, "UNKNOWN", "unsupported media type application/vnd.oci.image.manifest.v1+json", None),
    (415, "", "", None),
]
_OTHER_REFUSALS = [
    (400, "MANIFEST_INVALID", "manifest invalid", {"description": "HTTP 403 Forbidden"}),  # Artifactory: no overwriting
    (400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", {"digest": "sha256:0"}),
    (405, "UNSUPPORTED", "The operation is unsupported.", None),  # a registry that is read-only
    (404, "NAME_UNKNOWN", "repository name not known to registry", {"name": "app"}),
]


def refuses_the_manifest(status: int, code: str, message: str, detail: object) -> Script:
    error = {"code": code, "message": message} | ({} if detail is None else {"detail": detail})

    def script(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            digest = Digest.parse(asked.path.rpartition("/")[2])
            return Answer(200, {"Content-Length": str(len((IMAGE.blobs | DOCKER_IMAGE.blobs)[digest]))})
        return Answer(status, {}, json.dumps({"errors": [error]}).encode() if code else b"<html>")

    return script


@pytest.mark.parametrize("answer", _KNOW_NO_OCI)
def test_a_registry_without_oci_manifests_gets_docker_s_by_a_flag(answer: tuple[int, str, str, object]) -> None:
    with ScriptedServer(refuses_the_manifest(*answer)) as server:
        with fails(f"status {answer[0]}", Reason.PUSH_FAILED) as caught:
            Client().push(IMAGE, f"{server.host}/app:1")
        assert "--image-format=docker" in caught.value.hint
        with fails(f"status {answer[0]}", Reason.PUSH_FAILED) as caught:
            Client().push(DOCKER_IMAGE, f"{server.host}/app:1")
        assert "--image-format" not in caught.value.hint, "it was Docker's already"


@pytest.mark.parametrize("answer", _OTHER_REFUSALS)
def test_another_refusal_of_a_manifest_is_not_taken_for_one_of_its_format(answer: tuple[int, str, str, object]) -> None:
    with ScriptedServer(refuses_the_manifest(*answer)) as server, fails(answer[2], Reason.PUSH_FAILED) as caught:
        Client().push(IMAGE, f"{server.host}/app:1")
    assert "--image-format" not in caught.value.hint
    assert caught.value.message.count("cannot push") == 1, "what was attempted is said once"


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ({"message": "manifest schema\x1b version"}, "(CODE: text, manifest schema  version)"),
        ({"description": "HTTP 403 Forbidden"}, "(CODE: text, HTTP 403 Forbidden)"),
        ("quota", "(CODE: text, quota)"),
        (["Class"], "(CODE: text)"),
        ({"message": {"deep": 1}}, "(CODE: text)"),
        ("long" * 500, f"(CODE: text, {('long' * 50)})"),
    ],
)
def test_what_a_registry_says_in_detail_is_told(detail: object, shown: str) -> None:
    with ScriptedServer(refuses_the_manifest(400, "CODE", "text", detail)) as server:
        with fails("CODE", Reason.PUSH_FAILED) as caught:
            Client().push(IMAGE, f"{server.host}/app:1")
        assert caught.value.message.endswith(shown)


@pytest.mark.parametrize(
    "body", [b"", b"null", b'{"errors": []}', b'{"errors": [7]}', b'{"errors": "x"}', b"\x1b[2J" * 9000]
)
def test_a_refusal_without_words(body: bytes) -> None:
    with (
        ScriptedServer(lambda asked: Answer(403, body=body) if "/v2/app" in asked.path else Answer()) as server,
        fails("status 403", Reason.REGISTRY_AUTH_FAILED),
    ):
        Client().push(IMAGE, f"{server.host}/app:1")
