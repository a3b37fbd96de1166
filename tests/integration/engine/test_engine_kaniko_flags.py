"""kaniko's flags in whole builds, as far as no other test covers them."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from servers.scripted import Answer, ScriptedServer

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]


def test_dockerfile_outside_the_context(engine: Engine) -> None:
    other = engine.folder / "Elsewhere"
    other.write_text("FROM scratch\nCOPY f /f\nLABEL from=elsewhere\n")
    built = engine.build(engine.context("FROM nowhere\n", {"f": "x"}), f"--dockerfile={other}")
    assert built.code == 0, built.stderr
    assert built.config["config"]["Labels"] == {"from": "elsewhere"}


def test_dockerfile_at_a_url(engine: Engine) -> None:
    context = engine.context("FROM nowhere\n", {"f": "x", "g": "x", ".dockerignore": "g\n"})
    bodies = {"/good": b"FROM scratch\nCOPY f /\nLABEL from=an-address\n", "/ignored": b"FROM scratch\nCOPY g /\n"}
    with ScriptedServer(
        lambda asked: Answer(200 if asked.path in bodies else 404, {}, bodies.get(asked.path, b""))
    ) as at:
        built = engine.build(context, f"--dockerfile=http://{at.host}/good")
        assert built.code == 0, built.stderr
        assert built.config["config"]["Labels"] == {"from": "an-address"}
        ignored = engine.build(context, f"--dockerfile=http://{at.host}/ignored")
        missing = engine.build(context, f"--dockerfile=http://{at.host}/missing")
    assert "excluded by .dockerignore" in ignored.stderr
    assert "Dockerfile:2" in ignored.stderr
    assert f"http://{at.host}/missing" in missing.stderr


def test_no_push(engine: Engine) -> None:
    built = engine.image("FROM scratch\nLABEL a=b\n", {}, "--no-push")
    host, _, rest = built.name.partition("/")
    name, _, tag = rest.partition(":")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{host}/v2/{name}/manifests/{tag}")
    caught.value.close()
    assert caught.value.code == 404
    assert built.digest in built.stdout


def test_no_check(engine: Engine) -> None:
    nobody = "--destination=127.0.0.1:1/app:1"
    context = engine.context("FROM busybox\nRUN exit 3\n")
    checked = engine.build(context, nobody)
    assert "RUN exit 3" not in checked.stderr
    unchecked = engine.build(context, nobody, "--skip-push-permission-check")
    assert unchecked.code == 7, unchecked.stderr


def test_work_folder(engine: Engine) -> None:
    built = engine.build(engine.context("FROM scratch\n"), "--kaniko-dir=/proc/none")
    assert 'cannot create a work folder in "/proc/none"' in built.stderr


def test_image_of_another_platform(engine: Engine) -> None:
    built = engine.image("FROM scratch\nCOPY f /f\n", {"f": "x"}, "--custom-platform=linux/arm64/v8")
    assert (built.config["os"], built.config["architecture"]) == ("linux", "arm64")


def test_mirrors_only(engine: Engine) -> None:
    context = engine.context("FROM busybox\nLABEL a=b\n")
    nobody = "--registry-mirror=127.0.0.1:1"
    assert engine.build(context, nobody).code == 0
    alone = engine.build(context, nobody, "--skip-default-registry-fallback")
    assert alone.code == 5, alone.stderr
    assert "127.0.0.1:1" in alone.stderr


def test_flags_without_effect_are_reported_and_change_nothing(engine: Engine) -> None:
    flags = ["--cleanup", "--snapshot-mode=redo", "--use-new-run", "--compressed-caching=false", "--force"]
    plain = engine.image("FROM busybox\nRUN echo a >/a\n", {}, "--reproducible")
    built = engine.build(engine.context("FROM busybox\nRUN echo a >/a\n"), "--reproducible", *flags)
    assert built.digest == plain.digest
    assert built.stderr.count("has no effect here: ") == len(flags)
