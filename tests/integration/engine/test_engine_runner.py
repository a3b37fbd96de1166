"""RUN in the Pod's other container: it sees nothing of the engine's, and the image is the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from containers.container import REPOSITORY, Layer, layers_of
from containers.pod import Pod, empty_pod

from imagewright.sandbox.kernel.linux import NET_RAW

pytestmark = [pytest.mark.root]
PASSWORD = "registry-password-of-this-build"


ASK = """
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    unsigned char answer[5];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(place.sun_path, argv[1], sizeof place.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&place, sizeof place) || write(fd, "\\0\\0\\0\\1\\13", 5) != 5 || read(fd, answer, 5) != 5)
        return 1;
    printf("%d", answer[4]);
}
"""  # the list of an agent's keys: SSH_AGENTC_REQUEST_IDENTITIES


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return empty_pod(tmp_path / "pod")


def shape(layers: list[Layer]) -> list[dict[str, object]]:
    """What the layers have, but for times."""
    return [
        {
            name: (info.mode, info.uid, info.gid, info.type, info.linkname, layer.contents.get(name))
            for name, info in layer.entries.items()
        }
        for layer in layers
    ]


# --- the image


IMAGE = """\
FROM base AS first
RUN mkdir -p /etc/conf /var/run && echo a >/etc/conf/a && ln -s conf/a /etc/b && echo r >/run-file
RUN chown 12:34 /etc/conf/a && chmod 4750 /etc/conf/a && ln /etc/conf/a /etc/conf/hard && mkfifo /fifo
RUN rm /run-file && mv /etc/conf /etc/moved
FROM base
COPY --from=first /etc/moved /copied
RUN --mount=type=bind,from=first,target=/first cat /first/etc/moved/a >/from-bind
RUN --mount=type=bind,target=/context cat /context/file >/from-context
RUN --mount=type=tmpfs,target=/t touch /t/x && echo done >/from-tmpfs
RUN <<EOF
echo script >/from-script
EOF
WORKDIR /work/dir
RUN pwd >/from-workdir && umask >/mask
"""


def test_the_image_is_that_of_the_namespace_sandbox(pod: Pod) -> None:
    inside = pod.build(IMAGE, {"file": "context\n"})
    alone = pod.build(IMAGE, {"file": "context\n"}, sandbox="namespace")
    assert shape(inside) == shape(alone)
    assert inside[-1].contents["from-workdir"] == "/work/dir\n"


def test_name_resolution_is_the_engines_and_enters_no_layer(pod: Pod) -> None:
    layers = pod.build(
        "FROM base\nRUN echo mine >/etc/hosts\n"
        "RUN cat /etc/hosts >/seen && echo attack >/etc/hosts && echo nameserver 192.0.2.1 >/etc/resolv.conf\n"
        "RUN cat /etc/hosts >/seen-later\n"
    )
    hosts = Path("/etc/hosts").read_text()
    assert (layers[-2].contents["seen"], layers[-1].contents["seen-later"]) == (hosts, hosts)
    assert [name for layer in layers for name in layer.contents if name.startswith("etc/")] == []


def test_a_dockerfiles_own_mount_of_the_hosts_file_wins(pod: Pod) -> None:
    layers = pod.build(
        "FROM base\nRUN --mount=type=bind,source=file,target=/etc/hosts cp /etc/hosts /seen\n", {"file": "x"}
    )
    assert layers[-1].contents["seen"] == "x"


@pytest.mark.parametrize("etc", ["RUN rm -rf /etc && echo file >/etc", "RUN rm -rf /etc && ln -s /nowhere /etc"])
def test_an_image_whose_etc_is_no_directory_is_built(pod: Pod, etc: str) -> None:
    assert pod.build(f"FROM base\n{etc}\nRUN echo done >/done\n")[-1].contents["done"] == "done\n"


def test_caches_keep_what_commands_write(pod: Pod, tmp_path: Path) -> None:
    caches = tmp_path / "caches"
    run = "FROM base\nRUN --mount=type=cache,target=/c {}\n"
    pod.build(run.format("echo one >>/c/f && ln -s f /c/link && ln /c/f /c/hard"), cache_dir=str(caches))
    assert pod.build(run.format("echo two >>/c/f && rm /c/link && cp /c/hard /seen"), cache_dir=str(caches))
    layers = pod.build(run.format("cp /c/f /seen && ls /c >>/seen"), cache_dir=str(caches))
    assert layers[-1].contents["seen"] == "one\ntwo\nf\nhard\n"


def test_a_chroot_is_made_in_the_other_container(pod: Pod) -> None:
    layers = pod.build("FROM base\nRUN ls /imagewright >/seen 2>&1; echo $? >>/seen\n", sandbox="chroot")
    assert layers[-1].contents["seen"].endswith("1\n")
    assert 'commands run in the container "runner"' in pod.log


# --- what commands may see


def test_mounts_of_the_container_are_gone_before_the_first_command(pod: Pod) -> None:
    token = pod.runner.volume("var/run/secrets/cloud/token-volume", {"token": PASSWORD, "deep/token": PASSWORD})
    pod.runner.file("etc/secret.conf", PASSWORD)
    pod.runner.volume("kaniko/injected", {"token": PASSWORD})
    layers = pod.build(
        "FROM base\nRUN grep -r -s -l 'registry[-]password' $(ls -d /* | grep -v -e /proc -e /sys -e /dev) >/found; "
        "grep -c 'registry[-]password' /etc/resolv.conf >>/found; "
        "cut -d' ' -f5 /proc/self/mountinfo | grep -v -e ^/proc -e ^/dev -e ^/sys >/seen; true\n"
    )
    assert layers[-1].contents["found"] == "0\n"
    assert layers[-1].contents["seen"].strip() in ("", "/")
    assert (token / "token").read_text() == PASSWORD, "the volume itself is as it was"


@pytest.fixture
def secretive(pod: Pod, tmp_path: Path) -> Callable[[str], str]:
    """Runs a command in a build with secrets, as root, and returns what it printed."""
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text(PASSWORD)
    other.write_text(PASSWORD + "-other")

    def run(script: str) -> str:
        secrets = [{"id": "one", "file": str(secret)}, {"id": "two", "file": str(other)}]
        dockerfile = (
            f"FROM base\nRUN --mount=type=secret,id=two cat /run/secrets/two | wc -c\nRUN <<'EOF'\n{script}\nEOF\n"
        )
        pod.execute(pod.request(pod.context(dockerfile), {"secrets": secrets}))
        assert pod.code == 0, pod.log
        return pod.log

    return run


def test_no_credential_is_within_reach(secretive: Callable[[str], str]) -> None:
    log = secretive(
        """
        for each in /proc/[0-9]*; do
          for file in environ cmdline maps mem; do cat $each/$file; done
          ls -la $each/fd $each/cwd/ $each/root/
        done 2>/dev/null | grep -a -c 'registry[-]password'
        grep -r -s -l 'registry[-]password' $(ls -d /* | grep -v -e /proc -e /sys -e /dev)
        echo found: $(ls -d /proc/[0-9]* | wc -l) processes
        """
    )
    assert "  | 0\n  | found: " in log, log
    assert int(log.partition("found: ")[2].split()[0]) <= 6  # runner, its child, shell, subshell, ls, wc


def test_commands_cannot_kill_the_runner(secretive: Callable[[str], str]) -> None:
    assert "  | alive" in secretive("kill -9 1; kill -STOP 1; kill -TERM 1; sleep 0.2; echo alive")


# --- hostile commands


@pytest.mark.parametrize(
    "change",
    [
        "echo evil >/imagewright/executor-image",
        "mv /imagewright /away && mkdir /imagewright",
        "rm -rf /imagewright/runner/sources && ln -s / /imagewright/runner/sources",
        "mv /imagewright/runner/scratch /away",
    ],
)
def test_a_changed_program_of_the_runner_ends_the_build_before_a_secret_is_sent(
    pod: Pod, tmp_path: Path, change: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    dockerfile = f"FROM base AS evil\nRUN {change}\nFROM base\nCOPY --from=evil /bin/sh /sh\n"
    dockerfile += "RUN --mount=type=secret,id=one cat /run/secrets/one\n"
    pod.execute(pod.request(pod.context(dockerfile), {"secrets": [{"id": "one", "file": str(secret)}]}))
    assert '"reason":"NotIsolated"' in pod.log
    assert PASSWORD not in pod.log
    assert pod.code == 8


def test_links_that_commands_leave_lead_nowhere_outside(pod: Pod, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(PASSWORD)
    layers = pod.build(
        f"FROM base\nRUN ln -s {outside} /imagewright/runner/sources/link && "
        f"ln -s {outside} /link && ln -s {outside} /etc2 && mkdir -p {outside} && echo mine >{outside}/file\n"
        "RUN --mount=type=cache,target=/c echo x >/c/f\n"
        "COPY . /link/\nWORKDIR /etc2/sub\nRUN cat /link/file >/seen\n"
    )
    assert layers[-1].contents["seen"] == "mine\n"
    assert sorted(path.name for path in outside.iterdir()) == ["file"]
    assert (outside / "file").read_text() == PASSWORD


def started(pod: Pod, command: str, sandbox: str = "root") -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Runner and executor of a build whose RUN has begun."""
    runner = pod.start_runner()
    context = pod.context(f"FROM base\nRUN echo started && {command}\n")
    executor = pod.start_executor(pod.request(context, {"sandbox": sandbox}))
    assert executor.stdout is not None
    for line in executor.stdout:
        if line.strip() == "| started":
            break
    return runner, executor


def test_a_killed_first_process_of_the_runner_is_reported(pod: Pod) -> None:
    """Within its own PID namespace nothing can kill it; a container's memory limit does."""
    runner, executor = started(pod, "sleep 100")
    runner.kill()
    pod.log = executor.communicate(timeout=60)[0]
    assert executor.returncode == 8
    assert '"reason":"SandboxUnavailable"' in pod.log
    assert 'container \\"runner\\"' in pod.log
    assert '"exitCode":' not in pod.log, "no step has ended by itself"
    runner.communicate()


@pytest.mark.parametrize("sandbox", ["root", "auto"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_runner_and_its_command_end_with_the_executor(pod: Pod, number: signal.Signals, sandbox: str) -> None:
    sleep = f"sleep 9{uuid.uuid4().int % 10**9}"  # other tests of this machine have theirs
    runner, executor = started(pod, f"exec {sleep}", sandbox)
    with pytest.raises(subprocess.TimeoutExpired):  # a Pod of which a container has ended is shown as not ready
        runner.wait(1)
    executor.send_signal(number)
    assert '"exitCode"' not in executor.communicate(timeout=60)[0], "no command has ended by itself"
    assert runner.communicate(timeout=60)[0] == ""
    assert runner.returncode == 0
    assert subprocess.run(["pgrep", "-f", sleep], capture_output=True, check=False).stdout == b""


# --- which sandbox


def test_an_idle_runner_ends_with_a_build_in_namespaces(pod: Pod) -> None:
    pod.build("FROM base\nRUN echo x >/x\n", sandbox="auto")
    assert "sandbox namespace" in pod.log
    assert pod.runner_code == 0


def test_a_runner_that_comes_late_exits(pod: Pod) -> None:
    executor = pod.start_executor(pod.request(pod.context("FROM base\n"), {"sandbox": "auto"}))
    executor.communicate(timeout=60)
    late = pod.start_runner()
    assert late.communicate(timeout=30)[0] == ""
    assert late.returncode == 0


def test_isolation_is_given_with_a_runner_and_not_without(pod: Pod) -> None:
    dockerfile = "FROM base\nRUN grep CapBnd /proc/self/status >/x\n"
    bounds = [
        int(pod.build(dockerfile, require_isolation=isolated)[-1].contents["x"].split()[1], 16)
        for isolated in (False, True)
    ]
    assert bounds[0] ^ bounds[1] == 1 << NET_RAW, "what others send over plain HTTP can't be read"
    pod.runner.execute(pod.runner.context("FROM base\nRUN echo x >/x\n"), "--require-isolation")
    assert pod.runner.code == 8
    assert "NotIsolated" in pod.runner.log
    assert "ImageBuild" in pod.runner.log


def test_a_mount_that_stays_ends_the_build(pod: Pod) -> None:
    """It covers a directory with files, which can't be removed to detach it."""
    below = pod.runner.root / "opt/token"
    below.mkdir(parents=True)
    (below / "file").write_text("below")
    pod.runner.volume("opt/token", {"token": PASSWORD})
    pod.execute(pod.request(pod.context("FROM base\nRUN cat /opt/token/token\n")))
    assert '"reason":"NotIsolated"' in pod.log
    assert "/opt/token" in pod.log
    assert PASSWORD not in pod.log


def test_a_forwarded_agent_answers_commands_and_nobody_later(pod: Pod, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (tmp_path / "ask.c").write_text(ASK)
    subprocess.run(["gcc", "-O1", "-w", "-static", "-o", tmp_path / "ask", tmp_path / "ask.c"], check=True)
    context = pod.context(
        "FROM base\nCOPY ask /ask\n"
        'RUN --mount=type=ssh echo "$SSH_AUTH_SOCK" >/where && /ask "$SSH_AUTH_SOCK" >/answer\n'
        'RUN test ! -e "$(cat /where)" && find / -xdev -type s >/sockets\n'
    )
    shutil.copy(tmp_path / "ask", context)
    ssh = [{"id": "default", "paths": [str(tmp_path / "key")]}]
    pod.execute(pod.request(context, {"ssh": ssh}))
    assert pod.code == 0, pod.log
    layers = layers_of(pod.layout)
    assert layers[-2].contents["answer"] == "12", "SSH_AGENT_IDENTITIES_ANSWER"
    assert layers[-1].contents["sockets"] == ""


def test_the_runner_refuses_to_serve_where_it_would_replace_a_machine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imagewright", "runner"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "builder")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Use the executor image." in done.stderr
