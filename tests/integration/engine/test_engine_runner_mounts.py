"""Mounts of a RUN in the Pod's other container: sockets, caches, and disks that are full."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from containers.container import layers_of
from containers.pod import Pod, empty_pod

from imagewright.contract.request import BuildRequest

pytestmark = [pytest.mark.root]

# Asks for the list of keys as often as somebody takes the request, and reads no answer.
FLOOD = r"""
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    static char requests[2000000];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(place.sun_path, argv[1], sizeof place.sun_path - 1);
    for (int i = 0; i < sizeof requests; i += 5)
        memcpy(requests + i, "\0\0\0\1\13", 5);
    if (connect(fd, (struct sockaddr *)&place, sizeof place))
        return 1;
    for (int refused = 0; refused < 100; usleep(10000))
        refused = send(fd, requests, sizeof requests, MSG_DONTWAIT) < 0 ? refused + 1 : 0;
    puts("flooded");
    fflush(stdout);
    return argc > 2 ? pause() : 0;
}
"""


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return empty_pod(tmp_path / "pod")


def flooding(pod: Pod, dockerfile: str) -> BuildRequest:
    """The request for a build that has an ssh key and the program ``/flood``."""
    key, source = pod.directory / "key", pod.directory / "flood.c"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    context = pod.context(f"FROM base\nCOPY flood /flood\n{dockerfile}")
    source.write_text(FLOOD)
    subprocess.run(["gcc", "-O1", "-w", "-static", "-o", context / "flood", source], check=True)
    return pod.request(context, {"ssh": [{"id": "default", "paths": [str(key)]}]})


def test_a_command_that_floods_the_agent_and_exits_holds_up_nothing(pod: Pod) -> None:
    pod.execute(flooding(pod, 'RUN --mount=type=ssh /flood "$SSH_AUTH_SOCK"\nRUN --mount=type=ssh echo next >/next\n'))
    assert pod.code == 0, pod.log
    assert layers_of(pod.layout)[-1].contents["next"] == "next\n"


def test_a_command_that_floods_the_agent_is_cancelled(pod: Pod) -> None:
    runner = pod.start_runner()
    executor = pod.start_executor(flooding(pod, 'RUN --mount=type=ssh /flood "$SSH_AUTH_SOCK" and stay\n'))
    assert executor.stdout is not None
    assert any(line.strip() == "| flooded" for line in executor.stdout)
    executor.send_signal(signal.SIGTERM)
    assert '"reason":"Cancelled"' in executor.communicate(timeout=120)[0]
    assert runner.communicate(timeout=60)[0] == ""


# --- caches


@pytest.mark.parametrize("options", [("", ""), (",ro", "")])
def test_a_cache_at_two_targets_is_refused(pod: Pod, tmp_path: Path, options: tuple[str, str]) -> None:
    """Each target would have a copy of its own, and the last one would replace what was written to the others."""
    mounts = " ".join(f"--mount=type=cache,id=a,target=/c{at}{more}" for at, more in enumerate(options))
    dockerfile = f"FROM base\nRUN {mounts} echo lost >/c0/f; echo >/c1/f\n"
    pod.execute(pod.request(pod.context(dockerfile), {"cache_dir": str(tmp_path / "caches")}))
    assert '"reason":"PathNotAllowed"' in pod.log
    assert 'cannot mount the source of \\"/c0\\" at \\"/c1\\" as well' in pod.log


def test_a_cache_that_is_read_only_and_bind_mounts_can_be_at_two_targets(pod: Pod) -> None:
    layers = pod.build(
        "FROM base\nRUN --mount=type=bind,target=/a --mount=type=bind,target=/b,rw --mount=type=cache,ro,id=c,target=/c "
        "--mount=type=cache,ro,id=c,target=/d echo changed >/b/file && cat /a/file >/seen && ls /c /d >>/seen\n",
        {"file": "context\n"},
    )
    assert layers[-1].contents["seen"] == "context\n/c:\n\n/d:\n"
