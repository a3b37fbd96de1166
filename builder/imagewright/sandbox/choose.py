"""Chooses the sandbox mode: the requested one, or the first one that works in a trial run.

Forks the runners and tries modes. To be called before the first thread is started.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from imagewright.contract.request import SandboxKind
from imagewright.errors import Reason, SandboxError
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.kernel.ids import Ids
from imagewright.sandbox.model import RunCommand, Sandbox, SandboxOptions
from imagewright.sandbox.runner.client import RunnerPool

# Exists only in the executor image: elsewhere the root mode would replace the machine's own file system.
IMAGE_MARKER = "/imagewright/executor-image"
_EXECUTOR_OWN = frozenset({"imagewright", "kaniko", "proc", "sys", "dev"})


@dataclass(slots=True)
class _Chosen:
    kind: SandboxKind
    reason: str
    runners: RunnerPool
    ids: Ids
    build_root: str | None = None
    excluded: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()

    @property
    def parallel(self) -> int:
        return len(self.runners)

    @property
    def mounts(self) -> bool:
        return self.kind is SandboxKind.NAMESPACE

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        return self.runners.run(self.kind, self.ids.check(command), output)

    def close(self) -> None:
        self.runners.close()


def start(kind: SandboxKind, options: SandboxOptions) -> Sandbox:
    """Start a sandbox of this kind; AUTO is ``namespace`` if it works, else ``root`` in the executor image.

    Raises:
        SandboxError: naming what was tried and why it failed.
    """
    linux.set_dumpable(False)  # the engine's memory will hold credentials; inherited by all forks
    linux.hide_arguments()
    runners = RunnerPool(options.work_dir, options.parallel)
    try:
        return _choose(kind, runners, options)
    except BaseException:
        runners.close()
        raise


def _choose(kind: SandboxKind, runners: RunnerPool, options: SandboxOptions) -> Sandbox:
    ids = Ids.read()
    if kind is SandboxKind.ROOT:
        return _root(runners, ids, options, "requested explicitly")
    if kind is SandboxKind.CHROOT:
        failure = _try(SandboxKind.CHROOT, runners, options)
        if failure is not None:
            raise SandboxError(
                f"the chroot sandbox is not available: {failure.message}",
                hint="Add the capability SYS_CHROOT, or use --sandbox=namespace.",
            )
        return _Chosen(kind, "requested explicitly; it is not a security boundary", runners, ids)
    failure = _try(SandboxKind.NAMESPACE, runners, options)
    if failure is None:
        reason = "user and mount namespaces are available"
        if kind is not SandboxKind.AUTO:
            reason = f"requested explicitly; {reason}"
        return _Chosen(SandboxKind.NAMESPACE, reason, runners, ids)
    why = failure.message + _confinement()
    if kind is SandboxKind.AUTO and os.path.exists(IMAGE_MARKER):
        return _root(runners, ids, options, f"namespaces are not available: {why}")
    raise SandboxError(
        f"the namespace sandbox is not available: {why}",
        hint=failure.hint
        or "Allow user namespaces: use seccomp and AppArmor profiles that permit them, and set "
        "user.max_user_namespaces above 0. Or build in the executor image, which also has the root sandbox.",
    )


def _try(kind: SandboxKind, runners: RunnerPool, options: SandboxOptions) -> SandboxError | None:
    """Try a mode; None if it works, else the error."""
    with tempfile.TemporaryDirectory(prefix="trial-", dir=options.work_dir) as rootfs:
        try:
            code = runners.run(kind, RunCommand(rootfs, (), (), "/"), lambda _: None)
        except SandboxError as error:
            if error.reason is Reason.DISK_FULL:
                raise  # no other mode would have more space
            return error
    return None if code == 0 else SandboxError(f"the trial run exited with code {code}")


def _confinement() -> str:
    """The confinement of this process, the likely cause of a refusal: " (seccomp filter, AppArmor or SELinux: x)"."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        if any(line.split() == ["Seccomp:", "2"] for line in file):
            found.append("seccomp filter")
    with contextlib.suppress(OSError), open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
        profile = file.read().strip("\0\n ")
        if profile and not profile.startswith("unconfined"):
            found.append(f"AppArmor or SELinux: {profile}")
    return f" ({', '.join(found)})" if found else ""


def _root(runners: RunnerPool, ids: Ids, options: SandboxOptions, why: str) -> Sandbox:
    if not os.path.exists(IMAGE_MARKER):
        raise SandboxError(
            "the root sandbox is only available in the executor image: it builds in place of the machine's file system",
            hint="Use --sandbox=namespace or --sandbox=chroot here.",
        )
    runners.keep_one()  # there is only one /
    reason = f"{why}; it is not a security boundary: RUN can read whatever the container can"
    # The build's /etc/nsswitch.conf must not determine which libraries are loaded into the engine.
    linux.pin_name_services()
    kept = frozenset(os.path.realpath(path).strip("/") for path in (options.work_dir, *options.kept))
    # At this point / is still the executor image's: a /busybox is that of its debug variant.
    excluded = _EXECUTOR_OWN | ({"busybox"} if os.path.exists("/busybox") else frozenset())
    return _Chosen(SandboxKind.ROOT, reason, runners, ids, "/", excluded, kept - {""})
