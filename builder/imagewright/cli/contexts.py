"""``--context`` and ``--build-context``: where files of a build come from, as people write it.

Looks whether a named folder is there; reads nothing. Called by ``cli.request``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from imagewright.context.gitaddress import is_commit
from imagewright.contract.sources import (
    AzureBlobSource,
    ContextSource,
    DirectorySource,
    GcsSource,
    GitSource,
    HttpArchiveSource,
    HttpSource,
    ImageSource,
    LayoutSource,
    NamedContext,
    OciSource,
    S3Source,
    Source,
    TarSource,
)
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, UsageError
from imagewright.plan.gotext import parse_bool
from imagewright.reference import Reference
from imagewright.streams import own_descriptor

_AZURE = (".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net")
_DEFAULT_KEY = "context.tar.gz"  # kaniko's, where a bucket alone is named
_CONTEXT_HINT = (
    "Write a folder, tar://FILE, tar://stdin, git://… or https://….git, https://….tar.gz, s3://BUCKET/KEY, "
    "gs://BUCKET/KEY or oci://REFERENCE."
)
_GIT_SCHEMES = ("git://", "ssh://", "git@")
_GIT_HOSTS = re.compile(r"(?:https?://)?(?:github\.com|gitlab\.com|bitbucket\.org)/")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCRATCH = "scratch"  # no image, but docker-image://scratch means the empty root file system
_NAMED_HINT = (
    "Write --build-context NAME=FOLDER, docker-image://REFERENCE, oci-layout://FOLDER[:TAG][@DIGEST], "
    "or an address of git or https."
)


def parse_context(text: str, environment: Mapping[str, str]) -> Source:
    """The source that ``--context`` names. Of the environment, kaniko's settings for S3 are read.

    Raises:
        UsageError
    """
    if text == "-":
        raise UsageError(
            "--context=-: it does not say what comes from standard input",
            hint="Write tar://stdin for an archive, or a folder and --dockerfile=- for a Dockerfile.",
        )
    scheme, separator, rest = text.partition("://")
    if not text or (separator and not rest):
        raise UsageError(f"--context={text}: it names no source", hint=_CONTEXT_HINT)
    if text.startswith(_GIT_SCHEMES) or _is_git_over_http(text):
        return _git(text, "context")
    if not separator:
        return DirectorySource(path=text)
    match scheme:
        case "dir":
            return DirectorySource(path=rest)
        case "tar":
            return TarSource(path="-" if rest == "stdin" or own_descriptor(rest) == 0 else rest)
        case "https" | "http" if _is_azure(text):
            return AzureBlobSource(url=text)
        case "https" | "http":
            return HttpArchiveSource(url=text)
        case "s3":
            bucket, key = _in_bucket(text, rest)
            return S3Source(
                bucket=bucket,
                key=key,
                endpoint=environment.get("S3_ENDPOINT", ""),
                path_style=parse_bool(environment.get("S3_FORCE_PATH_STYLE", "")) is True,
            )
        case "gs":
            bucket, key = _in_bucket(text, rest)
            return GcsSource(bucket=bucket, object=key)
        case "oci":
            return OciSource(reference=str(Reference.parse(rest)))
    raise UsageError(f"--context={_shown(text)}: unknown kind of source {scheme}://", hint=_CONTEXT_HINT)


def with_git_options(source: Source, text: str) -> Source:
    """A git source cloned as kaniko's --git says: ``branch=main,depth=1,recurse-submodules=true``.

    Raises:
        UsageError: an option that is none; a source that isn't git.
    """
    if not isinstance(source, GitSource):
        raise UsageError(f"--git={text}: the context is no git repository", hint="Leave --git out.")
    changes: dict[str, object] = {}
    for option in text.split(","):
        name, _, value = option.partition("=")
        switch = parse_bool(value)
        match name:
            case "branch":
                changes["ref"] = value or source.ref
            case "depth" if value.isascii() and value.isdecimal():
                changes["depth"] = int(value)
            case "recurse-submodules" if switch is not None:
                changes["submodules"] = switch
            case "insecure-skip-tls" if switch is not None:
                changes["insecure_skip_tls_verify"] = switch
            case "single-branch" if switch is not None:
                pass  # no more than the revision is ever fetched
            case _:
                raise UsageError(
                    f"--git={text}: {option!r} is not known",
                    hint="Write branch=NAME, depth=NUMBER, recurse-submodules=true, insecure-skip-tls=true or single-branch=true.",
                )
    return source.model_copy(update=changes)


def _is_azure(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host.endswith(_AZURE)


def _in_bucket(text: str, rest: str) -> tuple[str, str]:
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UsageError(f"--context={text}: it names no bucket", hint=_CONTEXT_HINT)
    return bucket, key or _DEFAULT_KEY


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
        address.endswith(".git") or (_GIT_HOSTS.match(address) is not None and not address.endswith(_ARCHIVES))
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
