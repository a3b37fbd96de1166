"""The program as people and CI jobs call it: exit codes, what goes where, help, and no traceback for bad input."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.scripted import Answer, ScriptedServer

from imagewright.cli.flags import COMMAND_FLAGS
from imagewright.errors import Reason, exit_code

ESCAPE = "\x1b"
EXECUTOR = ("-c", "import sys; sys.argv[0] = '/kaniko/executor'; from imagewright.__main__ import main; main()")
BUSYBOX = shutil.which("busybox")
needs_root_and_busybox = pytest.mark.skipif(
    os.geteuid() != 0 or BUSYBOX is None, reason="runs a command in a sandbox: needs root and busybox"
)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def run(
    *words: str | bytes,
    environment: dict[str, str] | None = None,
    stdin: bytes = b"",
    program: tuple[str, ...] = ("-m", "imagewright"),
) -> Ended:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environment or {})}
    done = subprocess.run([sys.executable, *program, *words], env=env, input=stdin, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context whose Dockerfile a test writes; busybox is in it."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /\nLABEL a=b\n")
    (folder / "file").write_text("content\n")
    if BUSYBOX is not None:
        shutil.copy2(BUSYBOX, folder / "busybox")
    return folder


def with_command(context: Path, command: str, *more: str) -> None:
    run_line = "RUN " + json.dumps(["/busybox", "sh", "-c", command])
    (context / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY busybox /", run_line, *more]) + "\n")


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# --- help


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"], ["version", "--help"], ["execute", "--help"]])
def test_overview(words: list[str]) -> None:
    ended = run(*words)
    assert ended.code == 0
    for command in ("build", "plan", "lint", "pin", "execute", "version"):
        assert f"\n  {command} " in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("command", ["build", "plan"])
def test_help_lists_every_flag(command: str) -> None:
    ended = run(command, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"usage: imagewright {command} ")
    for flag in COMMAND_FLAGS:
        assert f"--{flag.name}" in ended.out
        assert not flag.environment or f"${flag.environment}" in ended.out


def test_help_of_kanikos_executor_lists_kanikos_flags() -> None:
    ended = run("--context=.", "--help", program=EXECUTOR)
    assert ended.code == 0
    assert ended.out.startswith("usage: executor [FLAGS]\n")
    assert "--destination" in ended.out
    assert "--tag" not in ended.out


def test_version() -> None:
    assert re.fullmatch(r"imagewright \d+\.\d+\.\d+\n", run("version").out)


# --- bad input


@pytest.mark.parametrize(
    ("words", "reason", "says"),
    [
        (["frobnicate"], Reason.USAGE_INVALID, 'unknown command "frobnicate"'),
        (["build", "--destinatoin=x"], Reason.USAGE_INVALID, "Did you mean --destination?"),
        (["build", "-x"], Reason.USAGE_INVALID, "unknown flag -x"),
        (["build", "one", "stray"], Reason.USAGE_INVALID, "2 contexts given"),
        (["build", "--no-push", "/does/not/exist"], Reason.FILE_NOT_FOUND, "/does/not/exist"),
        (["build", "--context"], Reason.USAGE_INVALID, "--context needs a value"),
        (["build", "--cache=true"], Reason.USAGE_INVALID, "cannot infer the cache's repository"),
        (["build"], Reason.USAGE_INVALID, "no destination"),
        (["build", "--destination=Up/Case"], Reason.REFERENCE_INVALID, "Up/Case"),
        (["build", "--no-push", "--context=/does/not/exist"], Reason.FILE_NOT_FOUND, "/does/not/exist"),
        (["build", "--no-push", "--verbosity=loud"], Reason.USAGE_INVALID, "loud"),
        (["build", "--no-push", "--log-format=xml"], Reason.USAGE_INVALID, "xml"),
        (["build", "--no-push", "--context=s3:///x"], Reason.USAGE_INVALID, "s3:///x"),
        (["plan", "--context=tar:///does/not/exist"], Reason.FILE_NOT_FOUND, "/does/not/exist"),
        (["execute"], Reason.USAGE_INVALID, "IMAGEWRIGHT_REQUEST is not set"),
    ],
)
def test_bad_input_is_one_error_with_its_code(words: list[str], reason: Reason, says: str) -> None:
    ended = run(*words)
    assert ended.code == exit_code(reason)
    said = ended.err + (ended.out if words[0] == "execute" else "")
    assert f"[{reason.value}]" in said
    assert says in said
    if words[0] != "execute":
        assert ended.out == ""


def test_bytes_that_are_not_utf8(context: Path) -> None:
    ended = run("plan", f"--context={context}", b"--build-arg=A=\xff")
    assert ended.code == 2
    assert "--build-arg: not UTF-8" in ended.err


@pytest.mark.parametrize("words", [["--log-format=json"], ["--log-format", "json"]])
def test_error_of_the_command_line_is_json_in_a_json_log(words: list[str]) -> None:
    (event,) = events(run("build", *words, "--frobnicate").err)
    assert event["event"] == "failed"
    assert event["reason"] == "UsageInvalid"
    assert event["level"] == "error"
    assert "--frobnicate" in str(event["msg"])


@pytest.mark.parametrize(
    ("text", "line"), [("FROM scratch\nCOPPY a b\n", 2), ("FROM scratch\nCOPY missing /\n", 2), ("RUN x\n", 1)]
)
def test_error_in_the_dockerfile_has_its_place(context: Path, text: str, line: int) -> None:
    (context / "Dockerfile").write_text(text)
    ended = run("build", "--no-push", f"--context={context}")
    assert f"--> Dockerfile:{line}" in ended.err
    (event,) = (
        e
        for e in events(run("build", "--no-push", f"--context={context}", "--log-format=json").err)
        if e["event"] == "failed"
    )
    assert (event["file"], event["line"]) == ("Dockerfile", line)


def test_dockerfile_must_be_a_regular_file(context: Path) -> None:
    (context / "Dockerfile").unlink()
    os.mkfifo(context / "Dockerfile")
    ended = run("build", "--no-push", f"--context={context}")
    assert ended.code == 3
    assert "[DockerfileInvalid]" in ended.err


@pytest.mark.parametrize("epoch", ["soon", "-1", "1e9", "99999999999", "\u0663"])
def test_invalid_source_date_epoch(context: Path, epoch: str) -> None:
    ended = run("build", "--no-push", f"--context={context}", environment={"SOURCE_DATE_EPOCH": epoch})
    assert ended.code == 2
    assert "neither seconds since 1970" in ended.err


@pytest.mark.parametrize("flag", ["oci-layout-path", "tar-path", "digest-file", "work-dir"])
def test_unwritable_output(context: Path, flag: str) -> None:
    ended = run("build", "--no-push", f"--context={context}", f"--{flag}={context}/file/below")
    assert ended.code == 6
    assert "[OutputFailed]" in ended.err
    assert f"--{flag}" in ended.err, "the hint names the flag"


# --- plan


def test_plan_prints_what_would_be_executed(context: Path) -> None:
    ended = run("plan", f"--context={context}", "--build-arg=A=1")
    assert ended.code == 0
    assert "COPY file /" in ended.out
    assert "LABEL a=b" in ended.out


def test_plan_to_a_closed_pipe(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\n" + "".join(f"LABEL l{n}={'x' * 90}\n" for n in range(3000)))
    command = f"{sys.executable} -m imagewright plan --context={context} | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# --- build


def test_outputs_without_a_registry(context: Path, tmp_path: Path) -> None:
    """Folders that are missing are created."""
    out = tmp_path / "out"
    files = [f"--digest-file={out}/digest", f"--oci-layout-path={out}/b/layout", f"--tar-path={out}/c/d/i.tar"]
    ended = run("build", "--no-push", f"--context={context}", "--destination=r.example/a:1", *files)
    assert ended.code == 0, ended.err
    assert ended.out == (out / "digest").read_text() + "\n"
    index = json.loads((out / "b/layout/index.json").read_text())
    assert index["manifests"][0]["digest"] == ended.out.strip()
    assert (out / "c/d/i.tar").stat().st_size > 0


def test_positional_context_and_tags(context: Path) -> None:
    archive = context.parent / "image.tar"
    ended = run(
        "build", str(context), "-t", "r.example/a:1", "--tag=r.example/b:2", "--no-push", f"--tar-path={archive}"
    )
    assert ended.code == 0, ended.err
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest["RepoTags"] == ["r.example/a:1", "r.example/b:2"]


@pytest.mark.parametrize("words", [["."], ["--no-push", "."], ["-t", "r.example/a:1"], ["--cache", "true"]])
def test_executor_takes_neither_positional_context_nor_tag(context: Path, words: list[str]) -> None:
    ended = run(*words, f"--context={context}", program=EXECUTOR)
    assert ended.code == 2
    assert re.search("unexpected argument|unknown flag", ended.err)


def test_the_executor_image_has_the_command_too(context: Path) -> None:
    ended = run("build", str(context), "--no-push", program=EXECUTOR)
    assert ended.code == 0, ended.err
    assert run("--no-push", f"--context={context}", program=EXECUTOR).code == 0


PIPES = {
    "-": "imagewright build CONTEXT --no-push --dockerfile - < FILE",
    "/dev/stdin": "cat FILE | imagewright build CONTEXT --no-push --dockerfile=/dev/stdin",
    "/proc/self/fd/0": "imagewright build CONTEXT --no-push -f /proc/self/fd/0 < FILE",
    "<()": "imagewright build CONTEXT --no-push -f <(cat FILE)",
    "9<": "imagewright build CONTEXT --no-push -f /dev/fd/9 9< FILE",
    "two": "tar -c -C CONTEXT . | imagewright build tar://stdin --no-push -f <(cat FILE)",
    "kaniko": "cat FILE | executor --no-push --context=CONTEXT --dockerfile=/dev/stdin",
}


@pytest.mark.parametrize("command", PIPES.values(), ids=PIPES.keys())
def test_dockerfile_from_a_pipe(context: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("FROM scratch\nLABEL from=a-pipe\n")
    (context / "Dockerfile").write_text("FROM scratch\nLABEL from=the-context\n")
    archive = tmp_path / "image.tar"
    text = command.replace("CONTEXT", str(context)).replace("FILE", str(tmp_path / "file"))
    text = text.replace("--no-push", f"--no-push --tar-path={archive}").replace(
        "imagewright ", f"{sys.executable} -m imagewright "
    )
    text = text.replace("executor ", shlex.join([sys.executable, *EXECUTOR]) + " ")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert labels(archive) == {"from": "a-pipe"}


def labels(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))  # type: ignore[arg-type]
    found: dict[str, str] = config["config"]["Labels"]
    return found


def test_dockerfile_and_context_on_standard_input(context: Path) -> None:
    ended = run("build", "--no-push", "--context=tar://stdin", "--dockerfile=-", stdin=b"FROM scratch\n")
    assert ended.code == 2
    assert "--context and --dockerfile both read standard input [UsageInvalid]" in ended.err


def test_error_in_a_dockerfile_from_a_pipe_has_its_place(context: Path) -> None:
    ended = run("build", str(context), "--no-push", "-f", "-", stdin=b"FROM scratch\nCOPPY a b\n")
    assert "--> standard input:2" in ended.err
    assert "2 | COPPY a b" in ended.err
    for words in (["-", "--context", str(context)], ["-"], ["/dev/stdin"]):
        linted = run("lint", *words, stdin=b"FROM scratch\nMAINTAINER me\n")
        assert linted.code == 3, linted.err
        assert "--> standard input:2" in linted.out


def test_warm_reads_a_dockerfile_from_a_pipe_too(tmp_path: Path) -> None:
    ended = run("warm", "--dockerfile=-", f"--cache-dir={tmp_path}", stdin=b"FROM scratch\nCOPPY a b\n")
    assert ended.code == 3
    assert "--> standard input:2" in ended.err


def test_empty_standard_input(context: Path) -> None:
    ended = run("build", str(context), "--no-push", "-f", "-")
    assert ended.code == 3
    assert "[DockerfileInvalid]" in ended.err
    assert "stdin: true" in ended.err
    closed = f"{sys.executable} -m imagewright build {context} --no-push -f - <&-"
    done = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert 'cannot read "standard input": Bad file descriptor' in done.stderr


@pytest.mark.parametrize("written", ["{}/build/app.Dockerfile", "build/app.Dockerfile"])
def test_dockerignore_beside_the_dockerfile(context: Path, tmp_path: Path, written: str) -> None:
    (context / "build").mkdir()
    (context / "build/app.Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / "build/app.Dockerfile.dockerignore").write_text("secret\nbusybox\n")
    (context / ".dockerignore").write_text("file\nbusybox\n")
    (context / "secret").write_text("x")
    archive = tmp_path / "image.tar"
    flags = [f"--dockerfile={written.format(context)}", f"--tar-path={archive}"]
    ended = run("--no-push", f"--context={context}", *flags, program=EXECUTOR)
    assert ended.code == 0, ended.err
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        with tarfile.open(fileobj=tar.extractfile(manifest["Layers"][0])) as layer:
            names = set(layer.getnames())
    assert "file" in names
    assert "secret" not in names


def test_unknown_image_is_not_a_stage(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch AS build\nFROM scratch\nCOPY --from=nosuchstage /x /y\n")
    with ScriptedServer(lambda asked: Answer(404)) as hub:
        ended = run("build", str(context), "--no-push", f"--registry-endpoint=docker.io={hub.host}")
    assert ended.code == 5
    assert f"cannot pull nosuchstage:latest: not found in {hub.host} [BaseImagePullFailed]" in ended.err
    assert "--> Dockerfile:3" in ended.err
    assert "hint: No earlier stage " in ended.err


def test_context_on_standard_input(context: Path) -> None:
    archive = subprocess.run(["tar", "-cz", "-C", context, "."], capture_output=True, check=True).stdout
    ended = run("build", "--no-push", "--context=tar://stdin", stdin=archive)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("sha256:")


@pytest.mark.parametrize(("level", "shown"), [("error", False), ("warn", False), ("info", True), ("debug", True)])
def test_verbosity(context: Path, level: str, shown: bool) -> None:
    ended = run("build", "--no-push", f"--context={context}", "--verbosity", level)
    assert ended.code == 0
    assert ("COPY file /" in ended.err) is shown


@pytest.mark.parametrize("words", [["plan"], ["build", "--dryrun", "--no-push"]])
def test_timings_of_a_plan(context: Path, tmp_path: Path, words: list[str]) -> None:
    ended = run(*words, f"--context={context}", f"--timings={tmp_path}/t.json")
    assert ended.code == 0
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {event["cat"] for event in events if event["ph"] == "X"} == {"start", "fetch", "parse", "plan"}


def test_timestamps(context: Path) -> None:
    ended = run("build", "--no-push", f"--context={context}", "--log-timestamp")
    assert ended.err
    for line in ended.err.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)


@pytest.mark.root
@needs_root_and_busybox
def test_failing_command_ends_with_its_output_and_place_and_without_its_escapes(context: Path) -> None:
    command = r"printf 'one\n\033]0;title\007\033[31mtwo\033[0m\n'; echo three >&2; exit 42"
    with_command(context, command, "RUN never")
    ended = run("build", "--no-push", f"--context={context}")
    assert ended.code == 7
    assert ended.out == ""
    assert "exit code 42" in ended.err
    assert "--> Dockerfile:3" in ended.err
    log = ended.err.partition("error:")[0]
    assert [line for line in log.splitlines() if line.startswith("  | ")] == ["  | one", "  | two", "  | three"]
    assert ESCAPE not in ended.err
    assert "never" not in log


@pytest.mark.root
@needs_root_and_busybox
def test_failing_command_in_a_json_log(context: Path) -> None:
    with_command(context, "echo one; exit 42")
    ended = run("build", "--no-push", f"--context={context}", "--log-format=json")
    assert ended.code == 7
    said = events(ended.err)
    assert [e["msg"] for e in said if e["event"] == "output"] == ["one"]
    last = said[-1]
    assert (last["event"], last["reason"], last["exitCode"], last["line"]) == ("failed", "StepFailed", 42, 3)


@pytest.mark.root
@needs_root_and_busybox
def test_live_display_on_a_terminal_leaves_the_steps_and_the_error(context: Path) -> None:
    with_command(context, "echo working; sleep 1; exit 3")
    code, shown = on_a_terminal("build", "--no-push", f"--context={context}")
    assert code == 7
    assert ESCAPE in shown
    text = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", shown)
    assert "✓ [stage-0 2/3] COPY busybox /" in text
    assert "✗ [stage-0 3/3] RUN" in text
    assert "    working" in text
    assert "failed with exit code 3: " in text
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "the cursor is given back"


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_dumb_terminal_gets_plain_lines(context: Path, environment: dict[str, str]) -> None:
    code, shown = on_a_terminal("build", "--no-push", f"--context={context}", environment=environment)
    assert code == 0
    assert ESCAPE not in shown
    assert "COPY file /" in shown


@pytest.mark.root
@needs_root_and_busybox
@pytest.mark.parametrize("number", ["TERM", "INT"])
def test_signal_ends_the_build_and_cleans_up(context: Path, tmp_path: Path, number: str) -> None:
    with_command(context, "echo started; exec sleep 4321")
    words = ["build", "--no-push", f"--context={context}", f"--work-dir={tmp_path}/work"]
    process = subprocess.Popen(
        [sys.executable, "-m", "imagewright", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        seen = ""
        while "| started" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        while not sleeping("4321"):
            time.sleep(0.01)
        subprocess.run(["kill", f"-{number}", str(process.pid)], check=True)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "[Cancelled]" in rest
    assert "Traceback" not in rest
    assert list((tmp_path / "work").iterdir()) == []
    assert not sleeping("4321")


@pytest.mark.root
def test_signal_during_a_pull_is_a_cancellation(context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM 127.0.0.1:PORT/x\nRUN true\n")
    asked = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                asked.set()
                self.connection.recv(1)  # until the client goes away
            else:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        dockerfile = context / "Dockerfile"
        dockerfile.write_text(dockerfile.read_text().replace("PORT", str(server.server_port)))
        command = [sys.executable, "-m", "imagewright", "build", "--no-push", "--insecure-pull", f"--context={context}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert asked.wait(60)
            process.terminate()
            _, said = process.communicate()
        server.shutdown()
        thread.join()
    assert process.returncode == 130, said
    assert "[Cancelled]" in said


def sleeping(seconds: str) -> list[str]:
    """The processes with this word on their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
        except OSError:
            continue
        if seconds.encode() in words:
            found.append(folder.name)
    return found


def on_a_terminal(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run with a terminal as standard error; (exit code, what the terminal got)."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm-256color", **(environment or {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "imagewright", *words], env=env, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:  # EIO: the other side was closed
        pass
    os.close(ours)
    return process.wait(), shown.decode()


def test_invalid_docker_config_is_ignored_without_a_registry(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("no JSON")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    done = subprocess.run(
        [sys.executable, "-m", "imagewright", "lint", str(tmp_path / "Dockerfile")],
        check=False, capture_output=True, text=True, env={**os.environ, "DOCKER_CONFIG": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
