"""Where kaniko's context comes from becomes ``spec.source``, ``contextDir`` and ``dockerfile``.

No I/O. Called by ``conversion``.
"""

from __future__ import annotations

import posixpath
import re

from imagewright.cli.arguments import Arguments
from imagewright.contract.request import BuildRequest
from imagewright.contract.sources import DirectorySource, GitSource, SourceModel, TarSource, kind_of
from imagewright.streams import own_descriptor, stream_name
from imagewright_kubectl.kaniko.container import Json, Mounts, Variables
from imagewright_kubectl.kaniko.diagnostics import Problems
from imagewright_kubectl.kaniko.manifest import Found

_CHECKOUT = "/kaniko/buildcontext"  # where kaniko has a context that it fetches
_LOGIN = re.compile(r"^(https?|git)://[^/@]*@")
_ELSEWHERE = "name where the files come from: --git URL --revision BRANCH, or a volume that stays (--volume CLAIM)"
_GIT_LOGIN = ("GIT_USERNAME", "GIT_PASSWORD")
_OF_ANY_GIT = ("submodules", "depth", "secretRef")  # fields that hold of another address, too


class Sources:
    """Fills the fields of one spec. ``left`` is what holds of a git source that the user gives in the place of the manifest's."""

    def __init__(
        self, found: Found, arguments: Arguments, variables: Variables, mounts: Mounts, problems: Problems
    ) -> None:
        self._found, self._arguments, self._variables = found, arguments, variables
        self._mounts, self._problems = mounts, problems
        self.left: Json = {}

    def fill(self, request: BuildRequest, spec: Json) -> None:
        """``source``, ``contextDir`` and ``dockerfile``."""
        root, folder = _CHECKOUT, ""
        match request.context.source:
            case GitSource() as git:
                source: Json = {"git": self._git(git)}
                folder = git.subdir
            case DirectorySource() as directory:
                root = self._found.path(directory.path)
                source, folder = self._directory(root)
            case TarSource() as tar:
                source = {}
                what = "standard input" if tar.path == "-" else tar.path
                message = f"--context=tar://…: an ImageBuild can't read {what}: put the archive into a bucket, behind a URL or into an OCI artifact"
                self._problems.must(message, "context")
            case given:
                source = self._same_fields(given)
        if source and not self._problems.is_dropped("context"):
            spec["source"] = source
        else:
            fields = source.get("git", {})
            self.left = {name: fields[name] for name in _OF_ANY_GIT if name in fields}
        context = posixpath.normpath(posixpath.join(folder.strip("/") or ".", request.context.directory))
        if context != ".":
            spec["contextDir"] = context
        dockerfile = self._dockerfile(request, posixpath.join(root, request.context.directory))
        if dockerfile != "Dockerfile":
            spec["dockerfile"] = dockerfile

    def _git(self, source: GitSource) -> Json:
        url = self._without_login(source.url)
        if self._variables.plain.get("GIT_PULL_METHOD") == "http":
            url = re.sub(r"^git://", "http://", url)
        self._variables.used.add("GIT_PULL_METHOD")
        git: Json = {"url": url}
        ref: Json = {}
        if source.ref.startswith("refs/tags/"):
            ref["tag"] = source.ref.removeprefix("refs/tags/")
        elif source.ref.startswith("refs/heads/"):
            ref["branch"] = source.ref.removeprefix("refs/heads/")
        elif source.ref.startswith("refs/"):
            self._problems.must(
                f"--context=…#{source.ref}: neither a branch nor a tag: name one, or a commit", "context"
            )
        elif source.ref:
            ref["branch"] = source.ref
            if "branch=" not in self._arguments.text("git"):
                self._problems.note(f"{source.ref} is taken for a branch; if it is a tag, write source.git.ref.tag")
        if source.commit:
            ref["commit"] = source.commit
        if ref:
            git["ref"] = ref
        if source.submodules:
            git["submodules"] = True
        if source.depth != 1:
            git["depth"] = source.depth
        if source.insecure_skip_tls_verify:
            self._problems.add(
                "git", "--git=insecure-skip-tls: put the server's authority into the key ca.crt of source.git.secretRef"
            )
        if secret := self._git_secret():
            git["secretRef"] = {"name": secret}
        return git

    def _git_secret(self) -> str:
        """The Secret with ``username`` and ``password`` that variables are taken from.

        One with other keys stays what it is, a variable of the executor: ``surroundings`` passes it on.
        """
        keys = {name: (self._variables.references.get(name) or {}).get("secretKeyRef") or {} for name in _GIT_LOGIN}
        names = {key.get("name") for key in keys.values()}
        if [key.get("key") for key in keys.values()] == ["username", "password"] and len(names) == 1:
            self._variables.used |= set(keys)
            return str(names.pop())
        return ""

    def _without_login(self, url: str) -> str:
        if not _LOGIN.match(url):
            return url
        if not self._problems.is_dropped("source-secret"):
            self._problems.must(
                "--context: the address holds a login: put it into a Secret, and name that (--source-secret)", "context"
            )
        return _LOGIN.sub(r"\1://", url)

    def _same_fields(self, source: SourceModel) -> Json:
        """For a kind whose fields the resource has by the same names."""
        kind = kind_of(source)
        self._variables.used |= set(kind.address_variables)
        fields = source.model_dump(by_alias=True, exclude_defaults=True, exclude={"credentials_dir"})
        if "url" in fields:
            fields["url"] = self._without_login(fields["url"])
        return {kind.field: fields}

    def _directory(self, path: str) -> tuple[Json, str]:
        """The source that a folder of the container is, and the context's folder in it."""
        if name := self._mounts.config_map(path):
            return {"configMap": {"name": name}}, ""
        claim = self._mounts.claim(path)
        if claim is not None:
            name, sub_path, folder = claim
            return {"volume": {"claimName": name, **({"subPath": sub_path} if sub_path else {})}}, folder
        mount = self._mounts.at(path)
        if mount is None:
            what = "nothing is mounted there"
        elif mount.kind == "emptyDir":
            what = "it is on an emptyDir, which another container fills"
        elif mount.kind == "configMap":
            what = "it is a part of a ConfigMap, and only a whole one is a source"
        else:
            what = f"it is on a volume of type {mount.kind}" if mount.kind else "the manifest doesn't show its volume"
        self._problems.must(f"--context={path}: {what}: {_ELSEWHERE}", "context")
        return {}, ""

    def _dockerfile(self, request: BuildRequest, context: str) -> str:
        path = posixpath.normpath(request.plan.dockerfile)
        descriptor = own_descriptor(request.plan.dockerfile)
        if "://" in request.plan.dockerfile or descriptor is not None:
            what = "an address" if descriptor is None else f"an ImageBuild can't read {stream_name(descriptor, path)}"
            given = self._arguments.text("dockerfile")
            self._problems.add("dockerfile", f"--dockerfile={given}: {what}: put it into the context")
            return "Dockerfile"
        if path.startswith("/"):
            base = posixpath.normpath(context)
            if not path.startswith(base.rstrip("/") + "/"):
                if not self._problems.is_dropped("context"):
                    self._problems.add(
                        "dockerfile",
                        f"--dockerfile={path} is not in the context {base}: put it there, and write its path in it",
                    )
                return posixpath.basename(path)
            path = path[len(base) :].lstrip("/")
        if path.startswith(".."):
            self._problems.add(
                "dockerfile", f"--dockerfile={request.plan.dockerfile} leads out of the context: put it there"
            )
        return path
