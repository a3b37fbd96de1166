"""``imagewright execute``, as the operator's Pods run it: the log, its last line, and the termination message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagewright.contract import REQUEST_ENV, RESULT_LOG_KEY, TERMINATION_MESSAGE_PATH
from imagewright.contract.request import BuildRequest, ContextSettings, OutputSettings
from imagewright.contract.result import BuildResult
from imagewright.contract.sources import DirectorySource

BUSYBOX = shutil.which("busybox")
needs_root_and_busybox = pytest.mark.skipif(
    os.geteuid() != 0 or BUSYBOX is None, reason="runs a command in a sandbox: needs root and busybox"
)


def with_command(tmp_path: Path, command: str, mounts: str = "") -> BuildRequest:
    """A request for a build with one RUN, with ``mounts`` before its command."""
    context = tmp_path / "context"
    context.mkdir()
    assert BUSYBOX is not None
    shutil.copy2(BUSYBOX, context / "busybox")
    run_line = f"RUN {mounts} " + json.dumps(["/busybox", "sh", "-c", command])
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY busybox /\n{run_line}\n")
    return BuildRequest(
        context=ContextSettings(source=DirectorySource(path=str(context))),
        output=OutputSettings(push=False),
        work_dir=str(tmp_path / "work"),
    )


# A /dev with the file that the kubelet makes, and the devices that are needed.
LIKE_A_POD = """
    set -eu
    mount --make-rprivate /
    mkdir {dev}; mount -t tmpfs tmpfs {dev}
    for name in null zero full random urandom tty; do touch {dev}/$name; mount --bind /dev/$name {dev}/$name; done
    touch {dev}/termination-log
    mount --rbind {dev} /dev
    {command} && code=0 || code=$?
    echo; cat /dev/termination-log; exit $code
"""


def execute(tmp_path: Path, request: BuildRequest) -> tuple[int, str, dict[str, object], BuildResult]:
    """(exit code, the log before its last line, that line, the termination message)."""
    script = LIKE_A_POD.format(dev=tmp_path / "dev", command=f"{sys.executable} -m imagewright execute")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", REQUEST_ENV: request.encode()},
        capture_output=True,
        text=True,
        check=False,
    )
    log, _, message = done.stdout.rpartition("\n")
    log, _, last = log.rstrip("\n").rpartition("\n")
    result = BuildResult.parse(message)
    assert result is not None, done
    return done.returncode, log, json.loads(last), result


@pytest.mark.root
@needs_root_and_busybox
def test_result_of_a_failing_build_for_the_operator(tmp_path: Path) -> None:
    code, log, last, result = execute(tmp_path, with_command(tmp_path, "echo one; exit 42"))
    assert code == 7
    assert "  | one" in log
    assert "[StepFailed]" in log
    assert result.failure is not None
    assert (result.failure.reason, result.failure.exit_code, result.failure.line) == ("StepFailed", 42, 3)
    assert result.sandbox == "namespace"
    assert [step.exit_code for step in result.steps] == [None, 42]
    assert last == {RESULT_LOG_KEY: json.loads(result.to_json())}


@pytest.mark.root
@needs_root_and_busybox
def test_result_of_a_build_for_the_operator(tmp_path: Path) -> None:
    code, _, _, result = execute(tmp_path, with_command(tmp_path, "true"))
    assert code == 0
    assert result.failure is None
    assert result.digest.startswith("sha256:")


@pytest.mark.root
@needs_root_and_busybox
@pytest.mark.parametrize(
    ("mount", "what", "how"),
    [
        ("secret,id=token", 'secret "token"', "spec.secrets (command line: --secret id=token,src=FILE)"),
        ("ssh", 'ssh agent "default"', "spec.ssh (command line: --ssh default or --ssh default=KEYFILE)"),
    ],
)
def test_a_secret_that_the_imagebuild_lacks_is_named_with_line_and_field(
    tmp_path: Path, mount: str, what: str, how: str
) -> None:
    request = with_command(tmp_path, "cat /run/secrets/token || exit 3", f"--mount=type={mount}")
    _, log, last, result = execute(tmp_path, request)
    warning = f"Dockerfile:3: {what} was not provided: RUN does without it. Provide it with {how}."
    assert f"warning: {warning}" in log
    hint = f"Its {what} was not provided. Provide it with {how}."
    assert f"hint: {hint}" in log
    assert result.failure is not None
    assert result.failure.hint == hint
    assert last == {RESULT_LOG_KEY: json.loads(result.to_json())}


@pytest.mark.root
@needs_root_and_busybox
def test_a_secret_that_a_variable_names_is_named_as_written(tmp_path: Path) -> None:
    request = with_command(tmp_path, "exit 3", "--mount=type=secret,id=a-$HIDDEN")
    file = tmp_path / "context" / "Dockerfile"
    file.write_text(file.read_text().replace("RUN", "ARG HIDDEN=value-of-the-variable\nRUN"))
    _, log, _, result = execute(tmp_path, request)
    assert 'warning: Dockerfile:4: secret "a-$HIDDEN" was not provided' in log
    assert result.failure is not None
    assert 'secret "a-$HIDDEN"' in result.failure.hint
    assert "a-value-of" not in log + result.to_json()


@pytest.mark.root
@needs_root_and_busybox
def test_a_required_secret_that_the_imagebuild_lacks_is_refused_with_its_field(tmp_path: Path) -> None:
    _, log, _, result = execute(tmp_path, with_command(tmp_path, "true", "--mount=type=secret,id=token,required"))
    assert result.failure is not None
    assert (result.failure.reason, result.failure.line) == ("SecretNotFound", 3)
    assert result.failure.hint == "Provide it with spec.secrets (command line: --secret id=token,src=FILE)."
    assert "warning" not in log


def test_execute_makes_no_file_in_the_machine_s_dev() -> None:
    there = os.path.exists(TERMINATION_MESSAGE_PATH)
    subprocess.run([sys.executable, "-m", "imagewright", "execute"], env={}, capture_output=True, check=False)
    assert os.path.exists(TERMINATION_MESSAGE_PATH) == there
