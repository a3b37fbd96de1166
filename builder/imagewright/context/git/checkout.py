"""Checkouts of git repositories: one revision, its submodules, one directory of it.

Writes below the work directory. The repository and its server are hostile: git runs confined (``context.git.program``),
arguments of its commands are validated (``context.git.address``), and the resulting directory lies inside the checkout.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable

from imagewright.context.git.address import Address, check_ref, find_login, is_commit, pull_method
from imagewright.context.git.errors import GitError
from imagewright.context.git.program import Git
from imagewright.context.job import FetchedContext, FetchJob, Machine
from imagewright.contract.sources import GitSource
from imagewright.descent import remove_tree
from imagewright.errors import Reason, SourceError
from imagewright.records import dataclass

_MAX_SUBMODULES = 1000
_MAX_SUBMODULE_DEPTH = 10
_GITLINK = "160000"


@dataclass(frozen=True, slots=True)
class CheckoutOptions:
    """Options of ADD, which contexts don't have.

    ``checksum`` is a prefix of the commit's hash, or of the hash of the tag that was named. ``git_dir`` keeps ``.git``
    in a checkout of the whole repository. ``commit_times`` sets all times to the commit's.
    """

    checksum: str = ""
    git_dir: bool = False
    commit_times: bool = False


@dataclass(frozen=True, slots=True)
class Checkout:
    """``path`` is the directory that the source names, ``commit`` the full hash of its revision.

    ``time_s`` is the time of the commit, in seconds since 1970.
    """

    path: str
    commit: str
    time_s: int


_OF_CONTEXTS = CheckoutOptions()


def fetch_git(source: GitSource, job: FetchJob) -> FetchedContext:
    """The revision's files.

    Raises:
        SourceError: as ``clone``.
    """
    checkout = clone(source, job)
    return FetchedContext(checkout.path, commit=checkout.commit, time_s=checkout.time_s)


def clone(source: GitSource, machine: Machine, options: CheckoutOptions = _OF_CONTEXTS) -> Checkout:
    """Fetch one revision into ``git`` below the work directory, without its history, as BuildKit does.

    Raises:
        SourceError: reasons ``UsageInvalid``, ``GitAuthFailed``, ``GitRepositoryNotFound``, ``GitRevisionNotFound``,
            ``SourceUnreachable``, ``SourceCertificateUntrusted``, ``SourceFetchFailed``, ``PathNotAllowed``,
            ``FileNotFound``, ``DiskFull``.
    """
    log, work_dir = machine.log, machine.work_dir
    address, git = _open(source, machine)
    what = [address.url, source.ref, source.commit]
    log(f"fetching {' '.join(text for text in what if text)}")
    target = os.path.join(work_dir, "git")
    try:
        fetching = _Fetching(git, os.path.join(work_dir, "git-objects"), source.depth, log)
        revision = _resolve(source, git, address)
        commit, time_s = fetching.fetch(address, revision, target)
        log(f"at commit {commit}")
        if not (commit.startswith(options.checksum) or revision.tip.startswith(options.checksum)):
            raise SourceError(
                f"checksum mismatch for {address.url}: commit {commit} does not start with {options.checksum}",
                reason=Reason.GIT_REVISION_NOT_FOUND,
                hint="Find out why the branch or tag moved before you use the new checksum.",
            )
        if source.submodules:
            fetching.submodules(address, target, 1)
        if options.git_dir and not source.subdir:
            fetching.keep(address, revision, target)
    finally:
        git.close()
        remove_tree(os.path.join(work_dir, "git-objects"), ignore_errors=True)
    path = _subdirectory(target, source.subdir)
    if options.commit_times:
        _set_times(path, time_s)
    return Checkout(path, commit, time_s)


def find_commit(source: GitSource, machine: Machine) -> str:
    """The full hash of the commit that ``clone`` would check out now, without fetching it.

    Raises:
        SourceError: as ``clone``.
    """
    address, git = _open(source, machine)
    try:
        revision = _resolve(source, git, address)
        if revision.commit:
            return revision.commit
        # For an annotated tag, the server lists the commit as well.
        listed = git.run("ls-remote", "--", address.url, f"{revision.ref}^{{}}", url=address.url)
        return listed.partition("\t")[0] or revision.tip
    finally:
        git.close()


def _open(source: GitSource, machine: Machine) -> tuple[Address, Git]:
    """The address and a git program for it, which the caller closes."""
    address, written = Address.parse(source.url, pull_method(machine.environment))
    check_ref(source.ref)
    if source.commit and not is_commit(source.commit):
        raise SourceError(
            f'invalid commit "{source.commit[:80]}": not a full hash',
            reason=Reason.USAGE_INVALID,
            hint="Write all 40 digits, as git rev-parse HEAD prints them.",
        )
    login = find_login(source, written, machine.environment)
    if login and address.origin.startswith("http://"):
        machine.log(f"warning: the login for {address.origin} is sent unencrypted; use https if the server supports it")
    return address, Git(source, address, login, machine)


@dataclass(frozen=True, slots=True)
class _Revision:
    """What to fetch: ``commit``, else the target of ``ref`` (a full name). ``algorithm`` is the repository's hash.

    ``tip`` is the hash that the server gave for ``ref``, an annotated tag's own; ``""`` for a commit. ``name`` is
    HEAD's branch, or ``ref``.
    """

    ref: str
    commit: str
    algorithm: str
    tip: str = ""
    name: str = ""

    @classmethod
    def of_commit(cls, commit: str, ref: str = "") -> _Revision:
        return cls(ref, commit, _algorithm(commit))


def _algorithm(name: str) -> str:
    return "sha256" if len(name) == 64 else "sha1"


def _resolve(source: GitSource, git: Git, address: Address) -> _Revision:
    if source.commit:
        return _Revision.of_commit(source.commit, source.ref)
    if is_commit(source.ref) and source.ref_type == "any":
        return _Revision.of_commit(source.ref)
    kinds = {"any": ("refs/heads/", "refs/tags/"), "branch": ("refs/heads/",), "tag": ("refs/tags/",)}[source.ref_type]
    if not source.ref:
        names = ["HEAD"]
    else:
        names = [source.ref] if source.ref.startswith("refs/") else [kind + source.ref for kind in kinds]
    listed = git.run("ls-remote", "--symref", "--", address.url, *names, url=address.url)
    pairs = [line.split("\t") for line in listed.splitlines()]
    branches = {pair[1]: pair[0][5:] for pair in pairs if len(pair) == 2 and pair[0].startswith("ref: ")}
    found = {pair[1]: pair[0] for pair in pairs if len(pair) == 2 and not pair[0].startswith("ref: ")}
    for name in names:
        if name in found:
            return _Revision(name, "", _algorithm(found[name]), found[name], branches.get(name, name))
    if not source.ref:
        raise SourceError(
            f"cannot resolve HEAD of {address.url}: the repository is empty, or HEAD names a missing branch",
            reason=Reason.GIT_REVISION_NOT_FOUND,
            hint="Push a commit, or name a branch.",
        )
    kind = "branch or tag" if source.ref_type == "any" else source.ref_type
    raise SourceError(
        f'cannot find {kind} "{source.ref}" in {address.url}',
        reason=Reason.GIT_REVISION_NOT_FOUND,
        hint="Check the name, and that it was pushed; write a commit as its full hash.",
    )


class _Fetching:
    """Fetches repositories into directories. Objects are kept elsewhere, so that a context never has a ``.git``."""

    def __init__(self, git: Git, objects: str, depth: int, log: Callable[[str], None]) -> None:
        self._git = git
        self._objects = objects
        self._depth = depth
        self._log = log
        self._count = 0

    def fetch(self, address: Address, revision: _Revision, target: str) -> tuple[str, int]:
        """Check out the revision in ``target``; the commit's hash and time."""
        self._count += 1
        git_dir = os.path.join(self._objects, str(self._count))
        os.makedirs(git_dir, 0o700)
        os.makedirs(target, 0o755, exist_ok=True)
        os.chmod(target, 0o755)  # noqa: S103 - whatever the umask is
        made = f"--object-format={revision.algorithm}"
        self._git.run("init", "--quiet", "--bare", made, url=address.url, git_dir=git_dir)
        self._fetch_objects(address, revision, git_dir)
        checkout = ("checkout", "--quiet", "--detach", "--force")
        wanted = revision.commit or "FETCH_HEAD"
        self._git.run(*checkout, wanted, url=address.url, git_dir=git_dir, work_tree=target)
        shown = self._git.run("show", "--no-patch", "--format=%H %ct", "HEAD", url=address.url, git_dir=git_dir)
        commit, _, time_s = shown.strip().partition(" ")
        self._warn_of_lfs(address, git_dir, target)
        return commit, int(time_s)

    def _warn_of_lfs(self, address: Address, git_dir: str, target: str) -> None:
        """Warn: an image with pointers in place of files builds, and fails much later."""
        kept = ("ls-files", "--", ":(attr:filter=lfs)")
        names = self._git.run(*kept, url=address.url, git_dir=git_dir, work_tree=target).splitlines()
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self._log(
                f"warning: Git LFS is not supported yet: {names[0][:200]}{more} of {address.url} will be pointers instead of "
                "files"
            )

    def keep(self, address: Address, revision: _Revision, target: str) -> None:
        """Make the objects fetched first the checkout's ``.git``: with the address, without a login or hooks."""
        git_dir = os.path.join(self._objects, "1")
        settings = [("config", "core.bare", "false"), ("remote", "add", "origin", address.url)]
        if re.match(r"refs/(heads|tags)/", revision.name):
            settings.append(("update-ref", revision.name, revision.tip))
        for words in settings:
            self._git.run(*words, url=address.url, git_dir=git_dir)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(git_dir, "FETCH_HEAD"))
        remove_tree(os.path.join(git_dir, "logs"), ignore_errors=True)
        kept = os.path.join(target, ".git")
        os.rename(git_dir, kept)
        os.chmod(kept, 0o755)  # noqa: S103 - as git init makes it

    def _fetch_objects(self, address: Address, revision: _Revision, git_dir: str) -> None:
        shallow = [f"--depth={self._depth}"] if self._depth else []
        wanted = [revision.commit or revision.ref]
        try:
            self._run_fetch(git_dir, address, shallow, wanted)
        except GitError as error:
            if "does not support shallow" in error.stderr:
                self._log(f"{address.url} does not support shallow clones: fetching the whole history")
                self._run_fetch(git_dir, address, [], wanted)
            elif revision.commit and _gives_only_tips(error):
                self._fetch_all(address, revision, git_dir)
            else:
                raise

    def _fetch_all(self, address: Address, revision: _Revision, git_dir: str) -> None:
        """Fetch the refs with their history, and look up the commit."""
        refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        self._log(f"{address.url} does not serve single commits: fetching the whole history")
        self._run_fetch(git_dir, address, [], [revision.ref] if revision.ref.startswith("refs/") else refs)
        try:
            self._git.run("cat-file", "-e", f"{revision.commit}^{{commit}}", url=address.url, git_dir=git_dir)
        except GitError:
            where = f" in {revision.ref}" if revision.ref.startswith("refs/") else ""
            raise SourceError(
                f"cannot find commit {revision.commit}{where} in {address.url}",
                reason=Reason.GIT_REVISION_NOT_FOUND,
                hint="Check the hash, and that the commit was pushed.",
            ) from None

    def _run_fetch(self, git_dir: str, address: Address, options: list[str], refs: list[str]) -> None:
        common = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-commit-graph", "--force"]
        self._git.run(*common, *options, "--", address.url, *refs, url=address.url, git_dir=git_dir)

    def submodules(self, address: Address, target: str, level: int) -> None:
        """Fetch the submodules of the last ``fetch`` into ``target``, recursively.

        Raises:
            SourceError: also for addresses that aren't allowed, and beyond the limits of number and depth.
        """
        git_dir = os.path.join(self._objects, str(self._count))
        tree = self._git.run("ls-tree", "-r", "-z", "HEAD", url=address.url, git_dir=git_dir)
        links = {}
        for entry in tree.split("\0"):
            head, _, path = entry.partition("\t")
            if head.startswith(_GITLINK):
                links[path] = head.split()[2]
        if not links:
            return
        if level > _MAX_SUBMODULE_DEPTH or self._count + len(links) > _MAX_SUBMODULES:
            raise SourceError(
                f"cannot fetch the submodules of {address.url}: more than {_MAX_SUBMODULE_DEPTH} levels or {_MAX_SUBMODULES} modules",
                reason=Reason.LIMIT_EXCEEDED,
                hint="Check whether the repository contains itself.",
            )
        urls = self._urls(address, git_dir)
        for path, commit in sorted(links.items()):
            if path not in urls:
                continue  # git leaves an empty directory for a link that .gitmodules lacks
            where = address.submodule(urls[path])
            self._log(f"fetching submodule {path}: {where.url} {commit}")
            folder = os.path.join(target, path)
            # git validated the path at the checkout and made an empty directory; a link here isn't git's.
            if os.path.realpath(folder) != os.path.join(os.path.realpath(target), path):
                raise _leads_out(path)
            self.fetch(where, _Revision.of_commit(commit), folder)
            self.submodules(where, folder, level + 1)

    def _urls(self, address: Address, git_dir: str) -> dict[str, str]:
        """Paths and addresses in the commit's .gitmodules, not in the working tree's, which may be a link."""
        try:
            text = self._git.run(
                "config", "--blob", "HEAD:.gitmodules", "--null", "--list", url=address.url, git_dir=git_dir
            )
        except GitError:
            return {}
        paths, urls = {}, {}
        for item in text.split("\0"):
            key, _, value = item.partition("\n")
            name, _, field = key.removeprefix("submodule.").rpartition(".")
            if key.startswith("submodule.") and field == "path":
                paths[name] = value
            elif key.startswith("submodule.") and field == "url":
                urls[name] = value
        return {paths[name]: url for name, url in urls.items() if name in paths}


def _set_times(root: str, time_s: int) -> None:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    os.utime(entry.path, (time_s, time_s), follow_symlinks=False)
        os.utime(folder, (time_s, time_s))


def _gives_only_tips(error: GitError) -> bool:
    """Whether the server may have the commit although it refuses to serve it by its hash (protocol version 0, JGit)."""
    return error.reason is Reason.GIT_REVISION_NOT_FOUND and "not our ref" not in error.stderr


def _subdirectory(root: str, subdir: str) -> str:
    """The directory inside the checkout.

    Raises:
        SourceError: reasons ``PathNotAllowed`` if it leads out of the checkout, ``FileNotFound``.
    """
    if not subdir.strip("/"):
        return root
    if "\0" in subdir or ".." in subdir.split("/"):
        raise _leads_out(subdir)
    path = os.path.realpath(os.path.join(root, subdir.strip("/")))
    real_root = os.path.realpath(root)
    if path != real_root and not path.startswith(real_root + "/"):
        raise _leads_out(subdir)
    if not os.path.isdir(path):
        raise SourceError(
            f'cannot find the directory "{subdir}" in the repository',
            reason=Reason.FILE_NOT_FOUND,
            hint="Check the path and the ref.",
        )
    return path


def _leads_out(path: str) -> SourceError:
    return SourceError(
        f'cannot use the directory "{path}": it leads out of the repository',
        reason=Reason.PATH_NOT_ALLOWED,
        hint="Name a directory inside it, without '..' and without links that lead elsewhere.",
    )
