"""Chooses the sandbox mode: the requested one, or the first one that works in a trial run.

Forks the runners and tries modes. To be called before the first thread is started.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import field, replace

from imagewright.contract.request import SandboxKind
from imagewright.descent import temporary_directory
from imagewright.errors import Reason, SandboxError
from imagewright.records import dataclass
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.kernel.ids import Ids
from imagewright.sandbox.kernel.memory import OomScore, counts
from imagewright.sandbox.model import BuildDirectory, Counts, RunCommand, RunnerContainer, Sandbox, SandboxOptions
from imagewright.sandbox.runner import server
from imagewright.sandbox.runner.client import RunnerPool
from imagewright.sandbox.runner.container import ContainerRunner, RunnerListener

# Exists only in the executor image: elsewhere the root mode would replace the machine's own file system.
IMAGE_MARKER = "/imagewright/executor-image"
_EXECUTOR_OWN = frozenset({"imagewright", "kaniko", "proc", "sys", "dev"})


@dataclass(slots=True)
class _Chosen:
    """Commands are run by this container's ``runners``; the runner of another container sleeps at ``idle``."""

    kind: SandboxKind
    reason: str
    runners: RunnerPool
    ids: Ids
    build_directory: BuildDirectory | None = None
    idle: RunnerListener | None = None
    score: OomScore = field(default_factory=OomScore)

    @property
    def parallel(self) -> int:
        return len(self.runners)

    @property
    def mounts(self) -> bool:
        return self.kind is SandboxKind.NAMESPACE

    def memory(self) -> Counts:
        return counts()

    def check_available(self) -> None:
        return

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        try:
            return self.runners.run(self.kind, self.ids.check(command), output)
        finally:
            self.score.restore()

    def close(self) -> None:
        self.runners.close()
        if self.idle is not None:
            self.idle.close()


@dataclass(slots=True)
class _InRunnerContainer:
    """Commands are run by another container of the Pod, which has none of the engine's files."""

    kind: SandboxKind
    reason: str
    runner: ContainerRunner
    ids: Ids
    build_directory: BuildDirectory | None
    isolated: bool
    parallel: int = 1
    mounts: bool = False

    def memory(self) -> Counts:
        return self.runner.memory()

    def check_available(self) -> None:
        return

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        # The Pod's containers share a network, where a login may be sent over plain HTTP.
        command = replace(self.ids.check(command), listens=not self.isolated)
        return self.runner.run(self.kind, command, output)

    def close(self) -> None:
        self.runner.close()


@dataclass(frozen=True, slots=True)
class _Unavailable:
    """Runs no command. An ordinary user without namespaces can still build what consists of copied files."""

    refusal: SandboxError
    parallel: int
    idle: RunnerListener | None
    kind = None
    mounts = True
    build_directory = None

    @property
    def reason(self) -> str:
        return f"{self.refusal.message}; owners and modes that user {os.geteuid()} may not set are recorded"

    def memory(self) -> Counts:
        return counts()

    def check_available(self) -> None:
        raise SandboxError(f"cannot execute RUN: {self.refusal.message}", hint=self.refusal.hint)

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        self.check_available()
        raise AssertionError("unreachable")

    def close(self) -> None:
        if self.idle is not None:
            self.idle.close()


def start(kind: SandboxKind, options: SandboxOptions) -> Sandbox:
    """Start a sandbox of this kind; AUTO is ``namespace`` if it works, else ``root`` in the executor image.

    With ``options.refusal`` it refuses every command, whatever its kind.

    Raises:
        SandboxError: naming what was tried and why it failed.
    """
    linux.set_dumpable(False)  # the engine's memory will hold credentials; inherited by all forks
    linux.hide_arguments()
    listener = RunnerListener(options.runner_socket) if options.runner_socket else None
    try:
        if options.refusal is not None:
            why = SandboxError(options.refusal.message + _confinement(), hint=options.refusal.hint)
            return _Unavailable(why, options.parallel, listener)
        runners = RunnerPool(options.work_dir, options.parallel)
        try:
            return _choose(kind, runners, listener, options)
        except BaseException:
            runners.close()
            raise
    except BaseException:
        if listener is not None:
            listener.close()
        raise


def _choose(
    kind: SandboxKind, runners: RunnerPool, listener: RunnerListener | None, options: SandboxOptions
) -> Sandbox:
    """The namespace sandbox if it works and may be taken, else another, in the runner's container if there is one."""
    ids = Ids.read()
    reason = "requested explicitly"
    # An ordinary user cannot replace /, and the runner of such a Pod gives none.
    ordinary = os.geteuid() != 0 or ids.ordinary_user
    if ordinary and (kind is SandboxKind.ROOT or (kind is SandboxKind.CHROOT and listener is not None)):
        raise SandboxError(
            f"the {kind} sandbox needs root, and this build runs as an ordinary user",
            hint="Run it as root (runAsUser: 0), or use the namespace sandbox.",
        )
    if kind in (SandboxKind.AUTO, SandboxKind.NAMESPACE):
        failure = _try(SandboxKind.NAMESPACE, runners, options)
        if failure is None:
            return _in_namespaces(kind, runners, ids, listener)
        elsewhere = not ordinary and (listener is not None or os.path.exists(IMAGE_MARKER))
        if kind is SandboxKind.NAMESPACE or not elsewhere:
            raise _without_namespaces(failure)
        kind, reason = SandboxKind.ROOT, f"namespaces are not available: {failure.message}{_confinement()}"
    if listener is not None:
        runners.close()
        return _in_runner_container(kind, reason, listener.accept(), ids, isolated=options.isolated)
    make = _root if kind is SandboxKind.ROOT else _chroot
    return _isolated(make(runners, ids, options, reason), options)


def _isolated(sandbox: Sandbox, options: SandboxOptions) -> Sandbox:
    """The sandbox, whose commands can read the engine's files, unless that is refused."""
    if not options.isolated:
        return sandbox
    sandbox.close()
    raise SandboxError(
        f"the {sandbox.kind} sandbox does not isolate RUN from the credentials of this build: {sandbox.reason}",
        reason=Reason.NOT_ISOLATED,
        hint="Allow user namespaces (docs/sandbox.md), or build with an ImageBuild, whose Pod runs commands in a container "
        "without credentials.",
    )


def _in_runner_container(
    kind: SandboxKind, reason: str, runner: ContainerRunner, ids: Ids, *, isolated: bool
) -> Sandbox:
    reason += '; commands run in the container "runner", which has no credentials'
    path = f"/proc/self/fd/{runner.root}"
    _make_directories(runner, path)
    container = RunnerContainer(path, runner.mounts, server.CONTAINER_OWN, server.SOURCES)
    if kind is SandboxKind.ROOT:
        directory = BuildDirectory(path, "/", _EXECUTOR_OWN | _debug_tools(), container=container)
    else:
        directory = BuildDirectory(path + server.CHROOT, server.CHROOT, container=container)
    return _InRunnerContainer(kind, reason, runner, ids, directory, isolated)


def _make_directories(runner: ContainerRunner, path: str) -> None:
    """Create the runner's own directories below the engine's ``path`` of its root."""
    for directory in (server.SCRATCH, server.SOURCES, server.CHROOT):
        try:
            os.makedirs(path + directory, mode=0o755, exist_ok=True)
        except OSError as error:
            runner.close()
            raise SandboxError(
                f'cannot create "{directory}" in the container "runner", where the image is to be built: {error.strerror}',
                hint="Leave readOnlyRootFilesystem out of the podTemplate, or allow user namespaces.",
            ) from error


def _in_namespaces(kind: SandboxKind, runners: RunnerPool, ids: Ids, listener: RunnerListener | None) -> Sandbox:
    reason = "user and mount namespaces are available"
    if kind is not SandboxKind.AUTO:
        reason = f"requested explicitly; {reason}"
    return _Chosen(SandboxKind.NAMESPACE, reason, runners, ids, idle=listener)


def _without_namespaces(failure: SandboxError) -> SandboxError:
    return SandboxError(
        f"the namespace sandbox is not available: {failure.message}{_confinement()}",
        hint=failure.hint
        or "Allow user namespaces: use seccomp and AppArmor profiles that permit them, and set "
        "user.max_user_namespaces above 0. Or build in the executor image, which also has the root sandbox.",
    )


def _try(kind: SandboxKind, runners: RunnerPool, options: SandboxOptions) -> SandboxError | None:
    """Try a mode; None if it works, else the error."""
    with temporary_directory("trial-", options.work_dir) as rootfs:
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
            hint="Use --sandbox=namespace or --sandbox=chroot (ImageBuild: spec.sandbox) here.",
        )
    runners.keep_one()  # there is only one /
    reason = f"{why}; it is not a security boundary: RUN can read whatever the container can"
    # The build's /etc/nsswitch.conf must not determine which libraries are loaded into the engine.
    linux.pin_name_services()
    kept = frozenset(os.path.realpath(path).strip("/") for path in (options.work_dir, *options.kept))
    directory = BuildDirectory("/", "/", _EXECUTOR_OWN | _debug_tools(), kept - {""})
    return _Chosen(SandboxKind.ROOT, reason, runners, ids, directory)


def _chroot(runners: RunnerPool, ids: Ids, options: SandboxOptions, why: str) -> Sandbox:
    failure = _try(SandboxKind.CHROOT, runners, options)
    if failure is not None:
        raise SandboxError(
            f"the chroot sandbox is not available: {failure.message}",
            hint="Add the capability SYS_CHROOT, or use --sandbox=namespace (ImageBuild: spec.sandbox).",
        )
    return _Chosen(SandboxKind.CHROOT, f"{why}; it is not a security boundary", runners, ids)


def _debug_tools() -> frozenset[str]:
    """At this point / is still the executor image's: a /busybox is that of its debug variant."""
    return frozenset({"busybox"} if os.path.exists("/busybox") else ())
