"""The Pod's other container at its limits: a full disk, a root that is read-only, an ordinary user's Pod.

What an error says is what the operator shows: the disk that it names is the one that is full.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.pod import Pod, empty_pod

pytestmark = [pytest.mark.root]
MIB = 1 << 20
NODE = 'hint: Free disk space on the node, or raise the limit of ephemeral storage: the image is built in the container "runner".'
CACHES = "hint: Free some space on the volume of the caches, or name another with spec.cache.volume (command line: --cache-dir)."


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return empty_pod(tmp_path / "pod")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of 1 MiB."""
    place = tmp_path / "volume"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


# --- full disks


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("COPY big /big", 'cannot copy to "/big": no space left on device'),
        ("ADD big.tar /", 'cannot unpack "/big": no space left on device'),
        (
            "RUN --mount=type=bind,target=/c true",
            'cannot copy the source of the mount "/c" to the runner: no space left',
        ),
        (
            "RUN --mount=type=bind,source=big,target=/c true",
            'cannot copy the source of the mount "/c" to the runner: no',
        ),
        ("RUN cat /dev/zero >/full; true\nRUN --mount=type=secret,id=it true", "No space left on device"),
        ("RUN cat /dev/zero >/full; true\nWORKDIR /new\nCOPY it /it", 'cannot copy to "/it": no space left on device'),
    ],
)
def test_a_full_disk_of_the_runner_is_that_of_the_node(pod: Pod, steps: str, said: str) -> None:
    pod.runner.disk_bytes = 8 * MIB
    context = pod.context(f"FROM base\n{steps}\nRUN true\n", {"it": "x" * 400_000})
    (context / "big").write_bytes(b"x" * (6 * MIB))
    if "big.tar" in steps:
        with tarfile.open(context / "big.tar", "w") as tar:
            tar.add(context / "big", "big")
    pod.execute(pod.request(context, {"secrets": [{"id": "it", "file": str(context / "it")}]}))
    assert f"error: {said}" in pod.log or said == "No space left on device", pod.log
    assert '"reason":"DiskFull"' in pod.log
    assert said in pod.log
    assert NODE in pod.log


def test_a_base_that_is_larger_than_the_disk_of_the_runner_is_told(pod: Pod) -> None:
    pod.runner.disk_bytes = 3 * MIB
    pod.execute(pod.request(pod.context("FROM base\nRUN true\n")))
    assert 'error: cannot unpack "/bin/sh": no space left on device [DiskFull]' in pod.log
    assert NODE in pod.log


def test_a_full_volume_of_caches_is_named(pod: Pod, volume: Path) -> None:
    run = "FROM base\nRUN --mount=type=cache,target=/c {}\n"
    pod.build(run.format("echo old >/c/f"), cache_dir=str(volume))
    pod.execute(pod.request(pod.context(run.format("head -c 2097152 /dev/zero >/c/f")), {"cache_dir": str(volume)}))
    assert 'error: cannot keep what RUN wrote to the cache mount "/c": no space left on device [DiskFull]' in pod.log
    assert CACHES in pod.log
    mounted = [path for path in volume.rglob("*") if "indexes" not in path.relative_to(volume).parts]
    files = {path.name: path.read_text() for path in mounted if path.is_file() and not path.name.endswith("lock")}
    assert {name: text for name, text in files.items() if text} == {"f": "old\n"}, "what was there is kept, and no half"
    assert list(volume.glob("*.changed")) == []
    assert pod.build(run.format("cp /c/f /seen"), cache_dir=str(volume))[-1].contents == {"seen": "old\n"}


# --- a read-only root


def test_a_read_only_root_does_not_matter_where_namespaces_work(pod: Pod) -> None:
    pod.runner.read_only = True
    assert pod.build("FROM base\nRUN echo x >/x\n", sandbox="auto")[-1].contents == {"x": "x\n"}
    assert pod.runner_code == 0


@pytest.mark.parametrize("sandbox", ["root", "chroot"])
def test_a_read_only_root_is_named_where_the_image_is_built_in_it(pod: Pod, sandbox: str) -> None:
    pod.runner.read_only = True
    pod.execute(pod.request(pod.context("FROM base\nRUN echo x >/x\n"), {"sandbox": sandbox}))
    assert (
        'error: cannot create "/imagewright/runner/scratch" in the container "runner", where the image is to be built: '
        "Read-only file system [SandboxUnavailable]" in pod.log
    )
    assert "hint: Leave readOnlyRootFilesystem out of the podTemplate" in pod.log
    assert (pod.code, pod.runner_code) == (8, 0)


# --- an ordinary user


@pytest.mark.parametrize("sandbox", ["root", "chroot"])
def test_an_ordinary_user_is_told_at_once(pod: Pod, sandbox: str) -> None:
    """Root of a user namespace of its own, as ``rootless`` makes it: its runner, an ordinary user, does not come."""
    request = pod.request(pod.context("FROM base\nRUN echo x >/x\n"), {"sandbox": sandbox})
    executor = pod.start_executor(request, "unshare", "--user", "--map-root-user")
    log = executor.communicate(timeout=300)[0]
    assert (
        f"error: the {sandbox} sandbox needs root, and this build runs as an ordinary user [SandboxUnavailable]" in log
    )
    assert "hint: Run it as root (runAsUser: 0), or use the namespace sandbox." in log


def test_an_ordinary_user_without_namespaces_is_not_sent_to_the_runner(pod: Pod) -> None:
    request = pod.request(pod.context("FROM base\nRUN echo x >/x\n"), {"sandbox": "auto"})
    none = 'echo 0 >/proc/sys/user/max_mnt_namespaces; exec "$@"'
    log = pod.start_executor(request, "unshare", "--user", "--map-root-user", "sh", "-c", none, "sh").communicate()[0]
    assert "error: the namespace sandbox is not available: unshare: too many namespaces" in log


# --- what is made for one command


def test_bind_mounts_are_in_the_runner_once(pod: Pod) -> None:
    """They are moved to their targets: nothing of them remains where they were copied to."""
    layers = pod.build(
        "FROM base\n"
        "RUN --mount=type=bind,target=/c --mount=type=bind,source=file,target=/etc/f \\\n"
        "  cat /c/file /c/sub/file /etc/f >/seen && find / -xdev -name file | sort >>/seen\n"
        "RUN ls -A /imagewright/runner/sources >/left\n",
        {"file": "a\n", "sub/file": "b\n"},
    )
    assert layers[-2].contents["seen"] == "a\nb\na\n/c/file\n/c/sub/file\n"
    assert layers[-1].contents["left"].count("\n") == 1, "its own, which is empty"
