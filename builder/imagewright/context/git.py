"""Git repositories as build contexts, through the git program.

Runs git and writes below the work folder it is given. Called by ``context.fetch``. The repository and its server are
hostile: no hooks, no configuration but ours, only protocols on a list, nothing that begins with ``-`` as an argument,
and no login in an argument, a log or an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from imagewright.contract import GitSource
from imagewright.errors import Reason, SourceError

_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+@=,#%-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)")
_PASSED_ON = (
    "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "GIT_EXEC_PATH", "GIT_SSL_CAINFO", "GIT_TEMPLATE_DIR",
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSH_AUTH_SOCK",
)  # fmt: skip
# Run by the interpreter that runs us: a shell need not be there.
_ASKPASS = """#!{interpreter} -S
import os, sys
sys.stdout.write(os.environ["IMAGEWRIGHT_GIT_" + ("USERNAME" if sys.argv[1].startswith("Username") else "PASSWORD")] + "\\n")
"""
_MAX_SECRET_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Checkout:
    """``path`` is the folder that the source names, ``commit`` the full hash of what is checked out."""

    path: str
    commit: str


@dataclass(frozen=True, slots=True)
class _Login:
    username: str = ""
    password: str = ""
    bearer: str = ""


def clone(source: GitSource, work_dir: str, log: Callable[[str], None]) -> Checkout:
    """Fetch one revision.

    Raises:
        SourceError: reasons ``GitAuthFailed``, ``GitRevisionNotFound``, ``SourceFetchFailed``, ``UsageInvalid``.
    """
    url, login = _address(source)
    target = os.path.join(work_dir, "git")
    runner = _Git(url, target, work_dir, _environment(source, login, work_dir, url))
    _check_ref(source.ref)
    if source.commit and not _COMMIT.fullmatch(source.commit):
        raise SourceError(
            f"{source.commit[:80]!r} is no full commit hash", reason=Reason.USAGE_INVALID, hint="Write all 40 digits."
        )
    log(f"fetching {url}" + (f" {source.ref}" if source.ref else "") + (f" {source.commit}" if source.commit else ""))
    runner.run("init", "--quiet", target, inside=False)
    wanted, commit = _resolve(source, runner)
    _fetch(source, runner, wanted, commit)
    runner.run("checkout", "--quiet", "--detach", "--force", commit or "FETCH_HEAD")
    commit = runner.run("rev-parse", "HEAD").strip()
    if source.submodules:
        depth = [f"--depth={source.depth}"] if source.depth else []
        runner.run("submodule", "update", "--init", "--recursive", "--quiet", *depth)
    log(f"at commit {commit}")
    # As with BuildKit, the history is no part of the context.
    shutil.rmtree(os.path.join(target, ".git"), ignore_errors=True)
    return Checkout(_subdirectory(target, source.subdir), commit)


def _resolve(source: GitSource, runner: _Git) -> tuple[str, str]:
    """(what to fetch, the commit to check out or "" for what is fetched)."""
    if source.commit:
        return source.ref, source.commit
    if _COMMIT.fullmatch(source.ref) and source.ref_type == "any":
        return "", source.ref
    if not source.ref:
        return "HEAD", ""
    kinds = {"any": ("refs/heads/", "refs/tags/"), "branch": ("refs/heads/",), "tag": ("refs/tags/",)}[source.ref_type]
    names = [source.ref] if source.ref.startswith("refs/") else [kind + source.ref for kind in kinds]
    listed = runner.run("ls-remote", "--", runner.url, *names, inside=False)
    found = {line.split("\t")[1] for line in listed.splitlines() if "\t" in line}
    for name in names:
        if name in found:
            return name, ""
    raise SourceError(
        f"{runner.url} has no {'branch or tag' if source.ref_type == 'any' else source.ref_type} {source.ref!r}",
        reason=Reason.GIT_REVISION_NOT_FOUND,
        hint="Check the name; a commit is written as its full hash.",
    )


def _fetch(source: GitSource, runner: _Git, wanted: str, commit: str) -> None:
    depth = [f"--depth={source.depth}"] if source.depth else []
    common = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--force"]
    if not commit:
        runner.run(*common, *depth, "--", runner.url, wanted)
        return
    try:
        runner.run(*common, *depth, "--", runner.url, commit)
    except SourceError as error:
        if error.reason is Reason.GIT_AUTH_FAILED:
            raise
        # The server gives only what its refs point at: fetch these with their history, then look for the commit.
        _check_ref(wanted)
        runner.run(
            *common, "--", runner.url, wanted or "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"
        )
        try:
            runner.run("cat-file", "-e", f"{commit}^{{commit}}")
        except SourceError:
            raise SourceError(
                f"{runner.url} has no commit {commit}" + (f" in {wanted}" if wanted else ""),
                reason=Reason.GIT_REVISION_NOT_FOUND,
                hint="Check the hash, and that it was pushed.",
            ) from error


def _subdirectory(root: str, subdir: str) -> str:
    if not subdir.strip("/"):
        return root
    path = os.path.realpath(os.path.join(root, subdir.strip("/")))
    if os.path.commonpath([path, os.path.realpath(root)]) != os.path.realpath(root):
        raise SourceError(
            f"the folder {subdir!r} leads out of the repository",
            reason=Reason.PATH_NOT_ALLOWED,
            hint="Name a folder inside it, without '..' and without links that lead elsewhere.",
        )
    if not os.path.isdir(path):
        raise SourceError(
            f"the repository has no folder {subdir!r}", reason=Reason.FILE_NOT_FOUND, hint="Check the path and the ref."
        )
    return path


def _check_ref(ref: str) -> None:
    if ref and (not _REF.fullmatch(ref) or ".." in ref or ref.endswith(("/", ".lock"))):
        raise SourceError(
            f"{ref[:100]!r} is no name of a branch or tag",
            reason=Reason.USAGE_INVALID,
            hint="See git check-ref-format for what names may hold.",
        )


# --- where and as whom


def _address(source: GitSource) -> tuple[str, _Login]:
    """The address without a login in it, and the login."""
    url = source.url
    scp = _SCP.fullmatch(url) if "://" not in url else None
    if scp is not None:
        return url, _login(source, "", "")
    parts = urlsplit(url)
    scheme = {"git": "https"}.get(parts.scheme, parts.scheme)  # kaniko's users write git:// and mean https
    if scheme not in ("https", "http", "ssh") or not parts.hostname or parts.hostname.startswith("-"):
        raise SourceError(
            f"{_without_login(url)[:200]!r} is no address of a git repository",
            reason=Reason.USAGE_INVALID,
            hint="Write https://host/path.git, ssh://git@host/path.git or git@host:path.git.",
        )
    if scheme == "ssh":
        return urlunsplit((scheme, parts.netloc, parts.path, "", "")), _login(source, "", "")
    netloc = parts.netloc.rpartition("@")[2]
    login = _login(source, unquote(parts.username or ""), unquote(parts.password or ""))
    return urlunsplit((scheme, netloc, quote(parts.path, safe="/%~"), "", "")), login


def _login(source: GitSource, username: str, password: str) -> _Login:
    """The mounted Secret's, else that in the address, else kaniko's variables."""
    folder = source.credentials_dir
    if folder:
        return _Login(_secret(folder, "username"), _secret(folder, "password"), _secret(folder, "bearerToken"))
    if username or password:
        return _Login(username, password)
    username, password = os.environ.get("GIT_USERNAME", ""), os.environ.get("GIT_PASSWORD", "")
    token = os.environ.get("GIT_TOKEN", "")
    if token:  # as kaniko: the token is the user name, unless one is given
        return _Login(username, token) if username else _Login(token, "")
    return _Login(username, password)


def _secret(folder: str, key: str) -> str:
    try:
        with open(os.path.join(folder, key), "rb") as file:
            return file.read(_MAX_SECRET_BYTES).decode("utf-8", "surrogateescape").rstrip("\r\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SourceError(f"{folder}/{key} can't be read: {error.strerror}", reason=Reason.GIT_AUTH_FAILED) from error


def _environment(source: GitSource, login: _Login, work_dir: str, url: str) -> dict[str, str]:
    askpass = os.path.join(work_dir, "askpass")
    with open(os.open(askpass, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w", encoding="ascii") as file:
        file.write(_ASKPASS.format(interpreter=sys.executable))
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env |= {
        "HOME": work_dir,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": askpass,
        "GIT_ALLOW_PROTOCOL": "https:http:ssh",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "IMAGEWRIGHT_GIT_USERNAME": login.username,
        "IMAGEWRIGHT_GIT_PASSWORD": login.password,
    }
    configuration = {
        "core.hooksPath": "/dev/null",
        "credential.helper": "",
        "safe.directory": "*",
        "http.followRedirects": "initial",
        "core.fsmonitor": "false",
        "gc.auto": "0",
        "advice.detachedHead": "false",
    }
    if login.bearer:
        scheme, host = urlsplit(url)[:2]
        configuration[f"http.{scheme}://{host}/.extraHeader"] = f"Authorization: Bearer {login.bearer}"
    if source.insecure_skip_tls_verify:
        configuration["http.sslVerify"] = "false"
    folder = source.credentials_dir
    if folder and os.path.exists(os.path.join(folder, "ca.crt")):
        env["GIT_SSL_CAINFO"] = os.path.join(folder, "ca.crt")
    ssh = ["ssh", "-o", "BatchMode=yes"]
    if folder and os.path.exists(os.path.join(folder, "identity")):
        known = os.path.join(folder, "known_hosts")
        ssh += ["-i", os.path.join(folder, "identity"), "-o", "IdentitiesOnly=yes"]
        ssh += ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes"]
    env["GIT_SSH_COMMAND"] = " ".join(ssh)
    env["GIT_CONFIG_COUNT"] = str(len(configuration))
    for index, (key, value) in enumerate(configuration.items()):
        env[f"GIT_CONFIG_KEY_{index}"], env[f"GIT_CONFIG_VALUE_{index}"] = key, value
    return env


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


# --- running git


@dataclass(frozen=True, slots=True)
class _Git:
    url: str
    target: str
    work_dir: str
    env: dict[str, str]

    def run(self, *words: str, inside: bool = True) -> str:
        """Run git, in the checkout or outside; its standard output."""
        place = ["-C", self.target] if inside else []
        try:
            done = subprocess.run(
                ["git", *place, *words],
                env=self.env,
                cwd=self.work_dir,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise SourceError(
                "the git program isn't installed", hint="Install git, or use another kind of context."
            ) from None
        if done.returncode:
            raise _explain(self.url, words, done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode("utf-8", "surrogateescape")


_KNOWN: tuple[tuple[str, Reason, str, str], ...] = (
    (
        r"Authentication failed|could not read (Username|Password)|Permission denied \(|HTTP Basic: Access denied|returned error: 40[13]|Invalid username",
        Reason.GIT_AUTH_FAILED,
        "it refuses the login",
        "Give user name and password or a token: secretRef in the ImageBuild, GIT_USERNAME and GIT_PASSWORD or GIT_TOKEN elsewhere.",
    ),
    (r"couldn't find remote ref|unadvertised object|not our ref", Reason.GIT_REVISION_NOT_FOUND, "it has no such revision", "Check ref and commit."),
    (r"[Rr]epository .*not found|returned error: 404|does not appear to be a git repository", Reason.SOURCE_FETCH_FAILED, "there is no such repository", "Check the address; a private repository may hide itself without a login."),
    (r"certificate|SSL|TLS", Reason.SOURCE_FETCH_FAILED, "its certificate can't be verified", "Give its CA as ca.crt in the git Secret."),
    (r"Could not resolve host", Reason.SOURCE_FETCH_FAILED, "its host name can't be resolved", "Check the address and the cluster's DNS."),
    (r"Failed to connect|Connection refused|timed out|unable to access", Reason.SOURCE_FETCH_FAILED, "it can't be reached", "Check the address and the network."),
    (r"Host key verification failed", Reason.GIT_AUTH_FAILED, "its host key isn't known", "Put it into known_hosts of the git Secret (ssh-keyscan)."),
    (r"No space left", Reason.DISK_FULL, "no space is left for the checkout", "Give the build a larger work folder."),
    (r"transport '.*' not allowed", Reason.SOURCE_FETCH_FAILED, "it uses a protocol that isn't allowed", "Only https and ssh are; submodules too."),
)  # fmt: skip


def _explain(url: str, words: Sequence[str], stderr: str) -> SourceError:
    lines = [_without_login(line)[:300] for line in stderr.strip().splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:", "remote:"))), "")
    for pattern, reason, why, hint in _KNOWN:
        if re.search(pattern, stderr):
            return SourceError(f"{url} can't be fetched: {why} ({said or lines[-1]})", reason=reason, hint=hint)
    return SourceError(f"git {words[0]} of {url} failed: {said or (lines[-1] if lines else 'it said nothing')}")
