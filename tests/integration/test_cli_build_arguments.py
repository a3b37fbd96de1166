"""A build argument's value is in the image, and in nothing that is said of the build: log, result, plan, the cache's
notes.

``unit/test_plan_written.py`` shows the same of what planning says.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from leaks.needles import Needles

from imagewright.contract import REQUEST_ENV, RESULT_LOG_KEY
from imagewright.contract.coding import read
from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    ContextSettings,
    OutputSettings,
    PlanSettings,
    RunSettings,
)
from imagewright.contract.result import BuildResult
from imagewright.contract.sources import DirectorySource
from imagewright.errors import Reason

BUSYBOX = shutil.which("busybox")
needs_root_and_busybox = pytest.mark.skipif(
    os.geteuid() != 0 or BUSYBOX is None, reason="runs a command in a sandbox: needs root and busybox"
)
VALUE = "Needle-4f1d0c77ab"
NEEDLES = Needles(VALUE, VALUE.lower())
NOBODY = "127.0.0.1:9"  # where no server listens


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


def run(*words: str, environment: dict[str, str] | None = None) -> Ended:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-m", "imagewright", *words], env=env, capture_output=True, check=False, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "file").write_text("content\n")
    (folder / VALUE).write_text("content\n")
    if BUSYBOX is not None:
        shutil.copy2(BUSYBOX, folder / "busybox")
    return folder


def write(context: Path, text: str) -> None:
    (context / "Dockerfile").write_text(f"FROM scratch\nARG N\n{text}\n")


BUILDS = """\
COPY busybox /bin/sh
LABEL l=$N
ENV E=$N
COPY --chown=7 $N /$N
WORKDIR /w-$N
RUN test "$N" = "$E" && \\
    /bin/sh -c "test -e /$N"
RUN --mount=type=cache,target=/c-$N,id=$N --mount=source=$N,target=/mnt/$N test -e "/mnt/$E"
RUN <<END
test "$N"
END
EXPOSE 80
"""


@pytest.mark.root
@needs_root_and_busybox
@pytest.mark.parametrize("log_format", ["text", "json", "color"])
def test_a_build_shows_its_instructions_as_written(context: Path, tmp_path: Path, log_format: str) -> None:
    write(context, BUILDS)
    flags = ["--no-push", f"--context={context}", f"--build-arg=N={VALUE}", f"--cache-dir={tmp_path / 'caches'}"]
    layout = tmp_path / "layout"
    ended = run("build", *flags, f"--log-format={log_format}", "--verbosity=trace", f"--oci-layout-path={layout}")
    assert ended.code == 0, ended.err
    assert NEEDLES.in_text(ended.out + ended.err) == set()
    assert "/sh -c" in ended.err
    shown = json.dumps('RUN test "$N" = "$E" && /bin/sh -c "test -e /$N"')[1:-1]
    assert (shown if log_format == "json" else json.loads(f'"{shown}"')) in ended.err
    assert "RUN <<END (test" in ended.err
    image = "".join(path.read_text(errors="replace") for path in (layout / "blobs/sha256").iterdir())
    assert f"RUN |1 N={VALUE} /bin/sh -c" in image, "the history is BuildKit's"


@pytest.mark.root
@needs_root_and_busybox
def test_the_live_display_shows_instructions_as_written(context: Path) -> None:
    write(context, BUILDS)
    command = [sys.executable, "-m", "imagewright", "build", "--no-push", f"--context={context}", "--build-arg=N"]
    master, slave = pty.openpty()
    shown = b""
    environment = {**os.environ, "N": VALUE, "TERM": "xterm"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:  # EIO: nobody has the other end open any more
            pass
        finally:
            os.close(master)
    assert process.returncode == 0, shown
    assert b"LABEL" not in shown
    assert b"RUN test" in shown
    assert NEEDLES.in_bytes(shown) == set()


@pytest.mark.root
@needs_root_and_busybox
def test_what_the_cache_keeps_of_a_stage_that_is_only_copied_from(context: Path, tmp_path: Path) -> None:
    """Its entries and its notes are of instructions as written; so is why a step missed."""
    text = "COPY busybox /bin/sh\nCOPY file /$N\nRUN echo made >/made-$N\nFROM scratch\nCOPY --from=0 /bin/sh /"
    write(context, text)
    cache = tmp_path / "cache"
    flags = ["--no-push", f"--context={context}", "--cache", f"--cache-repo=oci:{cache}", "--explain-cache"]
    for value in (VALUE, VALUE, f"{VALUE}2"):
        ended = run("build", *flags, f"--build-arg=N={value}")
        assert ended.code == 0, ended.err
        assert NEEDLES.in_text(ended.out + ended.err) == set()
    texts = [path.read_text() for path in cache.rglob("*") if path.is_file() and path.read_bytes()[:1] == b"{"]
    assert any("COPY file /$N" in text for text in texts)
    assert NEEDLES.in_text("".join(texts)) == set()


@pytest.mark.root
@needs_root_and_busybox
def test_what_the_operator_is_told_has_instructions_as_written(context: Path, tmp_path: Path) -> None:
    write(context, BUILDS)
    result = told(context, tmp_path)
    assert [step.name.partition("] ")[2][:9] for step in result.steps][3:5] == ["RUN test ", "RUN --mou"]


def told(context: Path, tmp_path: Path) -> BuildResult:
    """What the operator makes the status of, and Events of that: searched, with the log."""
    request = BuildRequest(
        context=ContextSettings(source=DirectorySource(path=str(context))),
        plan=PlanSettings(build_args=(BuildArg(name="N", value=VALUE),)),
        run=RunSettings(cache_dir=str(tmp_path / "caches")),
        output=OutputSettings(push=False),
        work_dir=str(tmp_path / "work"),
    )
    ended = run("execute", environment={REQUEST_ENV: request.encode()})
    assert NEEDLES.in_text(ended.out + ended.err) == set()
    result = read(BuildResult, json.loads(ended.out.splitlines()[-1])[RESULT_LOG_KEY])
    assert NEEDLES.in_text(result.termination_message()) == set()
    return result


@pytest.mark.parametrize(
    ("lines", "reason", "said"),
    [
        ("COPY not-$N /x", Reason.FILE_NOT_FOUND, '"/not-$N" not found in'),
        ("COPY file /$N\nCOPY file /$N/", Reason.PATH_NOT_ALLOWED, "/$N"),
        ("COPY --chown=$N file /x", Reason.FILE_NOT_FOUND, 'user "$N" not found'),
        ("COPY --chown=1:$N file /x", Reason.FILE_NOT_FOUND, 'group "$N" not found'),
        ("COPY file /$N\nWORKDIR /$N/x", Reason.PATH_NOT_ALLOWED, "/$N"),
        ("COPY file /$N\nWORKDIR /$N\nCOPY file x/", Reason.PATH_NOT_ALLOWED, "/$N"),
        ("USER $N\nRUN x", Reason.FILE_NOT_FOUND, 'user "$N" not found'),
        ("ENV M=x-$N\nUSER $M\nRUN x", Reason.FILE_NOT_FOUND, 'user "$M" not found'),
        (f"ADD http://{NOBODY}/$N /x", None, f"http://{NOBODY}/$N"),
        ("ADD http://$N.invalid/x /x", None, "$N.invalid"),
        (f"ADD http://{NOBODY}/$N.git#$N /x", None, f"http://{NOBODY}/$N.git"),
        ("RUN --mount=type=secret,id=$N,required x", Reason.SECRET_NOT_FOUND, 'required secret "$N" was not provided'),
        ("RUN --mount=type=ssh,id=$N,required x", Reason.SECRET_NOT_FOUND, 'required ssh agent "$N" was not provided'),
    ],
)
def test_no_failure_has_the_value(context: Path, tmp_path: Path, lines: str, reason: Reason | None, said: str) -> None:
    write(context, lines)
    failure = told(context, tmp_path).failure
    assert failure is not None
    assert reason in (None, failure.reason), failure
    assert said in failure.message
    assert failure.hint.endswith("Run imagewright plan --values to see what the variables stand for.")
    flags = ["--no-push", f"--context={context}", f"--build-arg=N={VALUE}", "--verbosity=trace", "--log-format=json"]
    ended = run("build", *flags)
    assert ended.code
    assert NEEDLES.in_text(ended.out + ended.err) == set()


@pytest.mark.parametrize("address", [f"http://{NOBODY}/$N", f"http://{NOBODY}/$N.git"])
def test_no_failure_of_a_stage_that_gives_the_time_has_the_value(context: Path, tmp_path: Path, address: str) -> None:
    when = f"ARG SOURCE_DATE_EPOCH=when\nFROM scratch AS when\nARG N\nADD {address} /\nFROM scratch\n"
    (context / "Dockerfile").write_text(when)
    failure = told(context, tmp_path).failure
    assert failure is not None
    assert address in failure.message


@pytest.mark.root
@needs_root_and_busybox
def test_what_is_said_of_a_cache_that_is_waited_for_has_no_value(context: Path) -> None:
    mount = "--mount=type=cache,target=/c,id=$N,sharing=locked"
    run_line = f"RUN {mount} touch /c/$$; sleep 2; ls /c"
    write(context, f"COPY busybox /bin/sh\n{run_line} 1\nFROM scratch AS b\nARG N\nCOPY busybox /bin/sh\n{run_line} 2")
    with (context / "Dockerfile").open("a") as file:
        file.write("FROM scratch\nCOPY --from=0 /c* /bin/sh /a/\nCOPY --from=b /c* /bin/sh /b/\n")
    ended = run("build", "--no-push", f"--context={context}", f"--build-arg=N={VALUE}")
    assert 'waiting for cache "$N", locked' in ended.err
    assert NEEDLES.in_text(ended.out + ended.err) == set()


@pytest.mark.root
@needs_root_and_busybox
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("RUN exit 3 # $N", '"RUN exit 3 # $N" failed with exit code 3'),
        ("RUN --mount=source=not-$N,target=/x true", 'cannot mount "/not-$N" of'),
        ("RUN --mount=type=tmpfs,target=/bin/sh/$N true", "File exists"),
        ("USER $N\nRUN true", 'user "$N" not found'),
        ("USER 0:$N\nRUN true", 'group "$N" not found'),
        ("COPY file /$N\nRUN --mount=source=busybox,target=/$N/x true", "$N: File exists"),
        (f"ENV PATH=/{'x' * 200_000}\nRUN true $N", '"RUN true $N"'),
    ],
)
def test_no_failure_of_a_run_has_the_value(context: Path, tmp_path: Path, lines: str, said: str) -> None:
    write(context, f"COPY busybox /bin/sh\n{lines}")
    failure = told(context, tmp_path).failure
    assert failure is not None
    assert said in failure.message


def test_plan_shows_values_only_where_they_are_asked_for(context: Path) -> None:
    write(context, BUILDS)
    flags = [f"--context={context}", f"--build-arg=N={VALUE}"]
    for words in (["plan"], ["build", "--dryrun"]):
        ended = run(*words, *flags)
        assert ended.code == 0
        assert "ENV E=$N" in ended.out
        assert NEEDLES.in_text(ended.out + ended.err) == set()
    asked = run("plan", "--values", *flags)
    assert "config Env: [" in asked.out
    assert f"env N={VALUE}" in asked.out


def test_no_error_of_the_command_line_has_the_value(context: Path) -> None:
    ended = run("build", "--no-push", f"--context={context}", f"--build-arg=={VALUE}")
    assert "[UsageInvalid]" in ended.err
    assert NEEDLES.in_text(ended.out + ended.err) == set()


def test_no_error_of_a_request_that_can_not_be_read_has_the_value() -> None:
    arguments = [{"name": "N", "value": VALUE, "x": VALUE}]
    request = json.dumps({"context": {"source": {"directory": 1}}, "plan": {"buildArgs": arguments}})
    ended = run("execute", environment={REQUEST_ENV: base64.b64encode(request.encode()).decode()})
    assert Reason.USAGE_INVALID.value in ended.out
    assert NEEDLES.in_text(ended.out + ended.err) == set()
