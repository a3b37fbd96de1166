"""``imagewright pin`` and a registry that lies, or is none: the file stays as it was, and the user learns why and
where.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers.scripted import Answer, ScriptedServer

from imagewright.digest import Digest
from imagewright.oci.mediatypes import OCI_INDEX

INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
HONEST = {"Content-Type": OCI_INDEX}


def pin(server: ScriptedServer, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY --from={server.host}/app:1 / /\n")
    command = [sys.executable, "-m", "imagewright", "pin", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_play_itself_is_honest(tmp_path: Path) -> None:
    with ScriptedServer(lambda asked: Answer(200, HONEST, INDEX)) as server:
        done = pin(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"/app:1@{Digest.of(INDEX)} / /" in (tmp_path / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(Answer(404), "not found in", id="no-such-tag"),
        pytest.param(
            Answer(200, HONEST | {"Docker-Content-Digest": str(Digest.of(b"another"))}, INDEX),
            "does not have the digest",
            id="digest-of-another",
        ),
        pytest.param(
            Answer(200, HONEST | {"Docker-Content-Digest": "sha256:\x1b[2J"}, INDEX),
            "invalid digest",
            id="digest-is-none",
        ),
        pytest.param(Answer(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "not JSON", id="login-page"),
        pytest.param(Answer(200, HONEST, b"{}"), "RegistryProtocolError", id="an-object"),
        pytest.param(Answer(200, HONEST, b" " * (5 << 20)), "more than", id="without-an-end"),
        pytest.param(Answer(403), "access denied", id="forbidden"),
    ],
)
def test_a_wrong_answer_leaves_the_file_alone(tmp_path: Path, answer: Answer, said: str) -> None:
    with ScriptedServer(lambda asked: answer) as server:
        done = pin(server, tmp_path)
        expected = f"FROM scratch\nCOPY --from={server.host}/app:1 / /\n"
    assert done.returncode == 5, done.stderr
    assert said in done.stderr
    assert "--> Dockerfile:2:13" in done.stderr
    assert "^^^" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stdout == ""
    assert (tmp_path / "Dockerfile").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"]
