"""``--context`` and ``--build-context``: where files of a build come from, as people write it.

Looks whether a named directory exists; reads nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from imagewright.context.fetch import parse_address
from imagewright.context.git.address import parse_git
from imagewright.contract.sources import (
    KINDS,
    ContextSource,
    DirectorySource,
    GitSource,
    HttpSource,
    ImageSource,
    LayoutSource,
    NamedContext,
    Source,
)
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, UsageError, quoted
from imagewright.logins import without_login
from imagewright.plan.gotext import parse_bool
from imagewright.reference import Reference

_CONTEXT_FORMS = tuple(form for kind in KINDS for form in kind.forms)
_CONTEXT_HINT = f"Write {', '.join(_CONTEXT_FORMS[:-1])} or {_CONTEXT_FORMS[-1]}."
_GIT_SCHEMES = next(kind.schemes for kind in KINDS if kind.model is GitSource)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCRATCH = "scratch"  # no image, but docker-image://scratch means the empty root file system
_NAMED = "build-context"
_NAMED_HINT = (
    "Write --build-context NAME=FOLDER, docker-image://REFERENCE, oci-layout://FOLDER[:TAG][@DIGEST], "
    "or a URL of git or https."
)


def parse_context(text: str, environment: Mapping[str, str]) -> Source:
    """The source that ``--context`` names. Of the environment, the kinds' ``address_variables`` are read.

    Raises:
        UsageError
        ImagewrightError: reason ``ReferenceInvalid``, for ``oci://``.
    """
    if text == "-":
        raise UsageError(
            'ambiguous --context value "-": standard input can be an archive or a Dockerfile',
            hint="Write tar://stdin for an archive, or a directory and --dockerfile=- for a Dockerfile.",
        )
    scheme, separator, rest = text.partition("://")
    if not text or (separator and not rest):
        raise _invalid("context", text, "it names no source")
    try:
        source = parse_address(text, environment)
    except UsageError as error:
        raise _invalid("context", text, error.message, error.hint) from None
    if source is None:
        raise _invalid("context", text, f"unknown scheme {scheme}://")
    return source


def with_git_options(source: Source, text: str) -> Source:
    """A git source cloned as kaniko's --git says: ``branch=main,depth=1,recurse-submodules=true``.

    Raises:
        UsageError: an unknown option; a source that isn't git.
    """
    if not isinstance(source, GitSource):
        raise UsageError(f'invalid --git value "{text}": the context is not a git repository', hint="Leave --git out.")
    changes: dict[str, Any] = {}
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
                pass  # nothing but the revision is ever fetched
            case _:
                raise UsageError(
                    f'invalid --git value "{text}": invalid option "{option}"',
                    hint="Write branch=NAME, depth=NUMBER, recurse-submodules=true, insecure-skip-tls=true or single-branch=true.",
                )
    return replace(source, **changes)


def named_contexts(values: Iterable[str]) -> tuple[NamedContext, ...]:
    """The values of ``--build-context NAME=VALUE`` (docker buildx build, "--build-context").

    Raises:
        UsageError: no name, the same name twice, a directory that doesn't exist, an unknown scheme.
    """
    contexts: dict[str, NamedContext] = {}
    for text in values:
        written, equals, value = text.partition("=")
        if not written or not equals or not value:
            raise _invalid(_NAMED, text, "not NAME=SOURCE")
        name = _context_name(written)
        if name in contexts:
            raise UsageError(
                f'duplicate --build-context for "{name}"', hint="Leave one of them out: each name has one source."
            )
        try:
            contexts[name] = NamedContext(name=name, source=_named_source(name, value))
        except ImagewrightError as error:
            raise _invalid(_NAMED, text, error.message, error.hint) from None
    return tuple(contexts.values())


def _context_name(text: str) -> str:
    """The one form that a stage's or an image's name is looked up in."""
    try:
        return Reference.parse(text).familiar().removesuffix(":latest")
    except ImagewrightError as error:
        raise UsageError(
            f"invalid --build-context name {quoted(text)}: {error.why}", hint="Give the name of a stage or of an image."
        ) from None


def _named_source(name: str, value: str) -> ContextSource:
    git = parse_git(value, "", {}) if value.startswith(_GIT_SCHEMES) else None
    if git is not None:
        return git
    if value.startswith(("https://", "http://")):
        return HttpSource(url=value)
    found = _SCHEME.match(value)
    if found is None:
        return DirectorySource(path=_directory(name, value))
    rest = value[found.end() :]
    match found[1]:
        case "docker-image":
            return ImageSource(reference=rest if rest == _SCRATCH else str(Reference.parse(rest)))
        case "oci-layout":
            return _layout(name, rest)
        case scheme:
            raise UsageError(f"unknown scheme {scheme}://")


def _layout(name: str, rest: str) -> LayoutSource:
    place, _, digest = rest.partition("@")
    path, _, tag = place.partition(":")
    if not path:
        raise UsageError("the directory's name is missing")
    if digest:
        Digest.parse(digest)
    return LayoutSource(path=_directory(name, path), tag=tag, digest=digest)


def _directory(name: str, path: str) -> str:
    if os.path.isdir(path):
        return os.path.abspath(path)
    if os.path.exists(path):
        raise UsageError("not a directory")
    raise UsageError("no such directory", hint=f"For an image, write {name}=docker-image://{path}.")


def _invalid(flag: str, text: str, why: str, hint: str = "") -> UsageError:
    """The value is shown without a login in it: errors end up in logs."""
    hint = hint or (_NAMED_HINT if flag == _NAMED else _CONTEXT_HINT)
    return UsageError(f'invalid --{flag} value "{without_login(text)}": {why}', hint=hint)
