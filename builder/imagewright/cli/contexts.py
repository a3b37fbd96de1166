"""``--context`` and ``--build-context``: where files of a build come from, as people write it.

Looks whether a named folder is there; reads nothing. Called by ``cli.request``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from imagewright.context.gitaddress import is_commit
from imagewright.contract import (
    ContextSource,
    DirectorySource,
    GitSource,
    HttpSource,
    ImageSource,
    LayoutSource,
    NamedContext,
    Source,
    TarSource,
)
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, UnsupportedError, UsageError
from imagewright.reference import Reference

_LATER_SCHEMES = ("s3://", "gs://", "https://", "http://", "oci://")
_GIT_SCHEMES = ("git://", "ssh://", "git@")
_GIT_HOSTS = re.compile(r"(?:https?://)?(?:github\.com|gitlab\.com|bitbucket\.org)/")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCRATCH = "scratch"  # no image, but docker-image://scratch means the empty root file system
_NAMED_HINT = (
    "Write --build-context NAME=FOLDER, docker-image://REFERENCE, oci-layout://FOLDER[:TAG][@DIGEST], "
    "or an address of git or https."
)


def parse_context(text: str) -> Source:
    """The source that ``--context`` names.

    Raises:
        UsageError
        UnsupportedError
    """
    if text in ("", "dir://", "tar://"):
        raise UsageError(
            f"--context={text}: it names no source", hint="A folder, tar://FILE, git://… or https://….git."
        )
    if text.startswith("tar://"):
        path = text.removeprefix("tar://")
        return TarSource(path="-" if path == "stdin" else path)
    if text.startswith("dir://"):
        return DirectorySource(path=text.removeprefix("dir://"))
    if text.startswith(_GIT_SCHEMES) or _is_git_over_http(text):
        return _git(text, "context")
    for scheme in _LATER_SCHEMES:
        if text.startswith(scheme):
            raise UnsupportedError(
                f"--context={_shown(text)}: {scheme} contexts are not supported yet",
                hint="Use a folder, tar://FILE, or a git repository (git://…, https://….git).",
            )
    if "://" in text:
        raise UsageError(
            f"--context={_shown(text)}: unknown scheme", hint="dir://, tar://, git:// and https://….git are known."
        )
    return DirectorySource(path=text)


def named_contexts(values: Iterable[str]) -> tuple[NamedContext, ...]:
    """What ``--build-context NAME=VALUE`` gives (docker buildx build, "--build-context").

    Raises:
        UsageError: no name, the same name twice, a folder that is not there, an unknown kind of value.
    """
    contexts: dict[str, NamedContext] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise UsageError(f"--build-context={_shown(text)}: not NAME=VALUE", hint=_NAMED_HINT)
        name = _context_name(name)
        if name in contexts:
            raise UsageError(
                f"--build-context names {name} twice",
                hint="Each stage or image is replaced by one thing; leave one of them out.",
            )
        contexts[name] = NamedContext(name=name, source=_named_source(name, value))
    return tuple(contexts.values())


def _context_name(text: str) -> str:
    """As the Dockerfile is searched for it: names of stages and images have one form each."""
    try:
        return Reference.parse(text).familiar().removesuffix(":latest")
    except ImagewrightError as error:
        raise UsageError(
            f"--build-context: {text!r} is neither the name of a stage nor of an image",
            hint=f"{error.message}.",
        ) from None


def _named_source(name: str, value: str) -> ContextSource:
    if value.startswith(_GIT_SCHEMES) or _is_git_over_http(value):
        return _git(value, f"build-context={name}")
    if value.startswith(("https://", "http://")):
        return HttpSource(url=value)
    found = _SCHEME.match(value)
    if found is None:
        return DirectorySource(path=_folder(name, value, value))
    scheme, rest = found[1], value[found.end() :]
    readers: dict[str, Callable[[str, str], ContextSource]] = {"docker-image": _image, "oci-layout": _layout}
    if scheme not in readers:
        raise UsageError(f"--build-context={name}: unknown kind of source {scheme}://", hint=_NAMED_HINT)
    return readers[scheme](name, rest)


def _image(name: str, reference: str) -> ContextSource:
    if reference != _SCRATCH:
        try:
            reference = str(Reference.parse(reference))
        except ImagewrightError as error:
            raise UsageError(f"--build-context={name}: {error.message}", hint=error.hint) from None
    return ImageSource(reference=reference)


def _layout(name: str, rest: str) -> ContextSource:
    place, _, digest = rest.partition("@")
    path, _, tag = place.partition(":")
    if not path:
        raise UsageError(f"--build-context={name}: oci-layout:// names no folder", hint=_NAMED_HINT)
    if digest:
        try:
            Digest.parse(digest)
        except ImagewrightError as error:
            raise UsageError(f"--build-context={name}: {error.message}", hint=error.hint) from None
    return LayoutSource(path=_folder(name, path, f"oci-layout://{rest}"), tag=tag, digest=digest)


def _folder(name: str, path: str, written: str) -> str:
    if os.path.isdir(path):
        return os.path.abspath(path)
    what = "not a folder" if os.path.exists(path) else "no such folder"
    raise UsageError(
        f"--build-context={name}={written}: {what}",
        hint=f"If an image is meant, write {name}=docker-image://{path}." if what == "no such folder" else _NAMED_HINT,
    )


def _is_git_over_http(text: str) -> bool:
    address = text.partition("#")[0]
    return address.startswith(("https://", "http://")) and (
        address.endswith(".git") or _GIT_HOSTS.match(address) is not None
    )


def _git(text: str, flag: str) -> GitSource:
    """``#ref``, ``#ref#commit`` and ``#commit`` as kaniko writes them, ``#ref:subdir`` as BuildKit does."""
    url, _, fragment = text.partition("#")
    ref, _, commit = fragment.partition("#")
    ref, _, subdir = ref.partition(":")
    if ":" in commit:
        commit, _, subdir = commit.partition(":")
    if is_commit(ref) and not commit:
        ref, commit = "", ref
    if commit and not is_commit(commit):
        raise UsageError(
            f"--{flag}={_shown(text)}: {commit!r} is no full commit hash", hint="Write #ref#commit with 40 digits."
        )
    return GitSource(url=url, ref=ref, commit=commit, subdir=subdir)


def _shown(text: str) -> str:
    """An address without the login in it: it goes into an error, and from there into a log."""
    return re.sub(r"//[^/@]*@", "//", text)
