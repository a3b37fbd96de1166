"""Converts kaniko's context to ``spec.source``, ``contextDir`` and ``dockerfile``.

No I/O.
"""

from __future__ import annotations

import posixpath
import re

from imagewright.cli.arguments import Arguments
from imagewright.contract.coding import write
from imagewright.contract.request import BuildRequest
from imagewright.contract.sources import DirectorySource, GitSource, SourceModel, TarSource, kind_of
from imagewright.logins import without_login
from imagewright.streams import own_descriptor, stream_name
from imagewright_kubectl.kaniko.container import Environment, Json, Mounts
from imagewright_kubectl.kaniko.diagnostics import Diagnostics
from imagewright_kubectl.kaniko.manifest import Workload

_CHECKOUT = "/kaniko/buildcontext"  # where kaniko puts a context that it fetches
_USE_INSTEAD = "use --git URL --revision BRANCH, or a persistent volume (--volume CLAIM)"
_GIT_LOGIN = ("GIT_USERNAME", "GIT_PASSWORD")
_OF_ANY_GIT = ("submodules", "depth", "secretRef")  # fields that apply to another repository as well


class SourceConverter:
    """Fills these fields of one spec.

    ``git_settings`` are the fields of a git source that still apply when the user replaces its URL.
    """

    def __init__(
        self,
        workload: Workload,
        arguments: Arguments,
        environment: Environment,
        mounts: Mounts,
        diagnostics: Diagnostics,
    ) -> None:
        self._workload, self._arguments, self._environment = workload, arguments, environment
        self._mounts, self._diagnostics = mounts, diagnostics
        self.git_settings: Json = {}

    def fill(self, request: BuildRequest, spec: Json) -> None:
        """``source``, ``contextDir`` and ``dockerfile``."""
        root, folder = _CHECKOUT, ""
        match request.context.source:
            case GitSource() as git:
                source: Json = {"git": self._git(git)}
                folder = git.subdir
            case DirectorySource() as directory:
                root = self._workload.path(directory.path)
                source, folder = self._directory(root)
            case TarSource() as tar:
                source = {}
                what = "standard input" if tar.path == "-" else f'"{tar.path}"'
                self._diagnostics.missing(
                    "context",
                    f"--context=tar://…: an ImageBuild cannot read {what}: upload the archive to a bucket, a web server "
                    "or an OCI registry",
                )
            case given:
                source = self._same_fields(given)
        if source and not self._diagnostics.is_dropped("context"):
            spec["source"] = source
        else:
            fields = source.get("git", {})
            self.git_settings = {name: fields[name] for name in _OF_ANY_GIT if name in fields}
        context = posixpath.normpath(posixpath.join(folder.strip("/") or ".", request.context.directory))
        if context != ".":
            spec["contextDir"] = context
        dockerfile = self._dockerfile(request, posixpath.join(root, request.context.directory))
        if dockerfile != "Dockerfile":
            spec["dockerfile"] = dockerfile

    def _git(self, source: GitSource) -> Json:
        url = self._without_login(source.url)
        if self._environment.values.get("GIT_PULL_METHOD") == "http":
            url = re.sub(r"^git://", "http://", url)
        self._environment.used.add("GIT_PULL_METHOD")
        git: Json = {"url": url}
        ref: Json = {}
        if source.ref.startswith("refs/tags/"):
            ref["tag"] = source.ref.removeprefix("refs/tags/")
        elif source.ref.startswith("refs/heads/"):
            ref["branch"] = source.ref.removeprefix("refs/heads/")
        elif source.ref.startswith("refs/"):
            self._diagnostics.missing(
                "context", f'--context: unsupported ref "{source.ref}": use a branch, a tag or a commit'
            )
        elif source.ref:
            ref["branch"] = source.ref
            if "branch=" not in self._arguments.text("git"):
                self._diagnostics.note(f'assuming that "{source.ref}" is a branch; for a tag, set source.git.ref.tag')
        if source.commit:
            ref["commit"] = source.commit
        if ref:
            git["ref"] = ref
        if source.submodules:
            git["submodules"] = True
        if source.depth != 1:
            git["depth"] = source.depth
        if source.insecure_skip_tls_verify:
            self._diagnostics.error(
                "git",
                "--git=insecure-skip-tls: an ImageBuild cannot skip TLS verification: put the server's CA under the key "
                "ca.crt of the Secret of source.git.secretRef",
            )
        if secret := self._git_secret():
            git["secretRef"] = {"name": secret}
        return git

    def _git_secret(self) -> str:
        """The Secret whose keys ``username`` and ``password`` the variables refer to.

        A reference to other keys stays a variable of the executor: ``podsettings`` keeps it.
        """
        references = self._environment.references
        keys = {name: (references.get(name) or {}).get("secretKeyRef") or {} for name in _GIT_LOGIN}
        names = {key.get("name") for key in keys.values()}
        if [key.get("key") for key in keys.values()] == ["username", "password"] and len(names) == 1:
            self._environment.used |= set(keys)
            return str(names.pop())
        return ""

    def _without_login(self, url: str) -> str:
        shown = without_login(url)
        if shown == url:
            return url
        if not self._diagnostics.is_dropped("source-secret"):
            self._diagnostics.missing(
                "context",
                "--context: the URL contains credentials: put them into a Secret and name it with --source-secret",
            )
        return shown

    def _same_fields(self, source: SourceModel) -> Json:
        """For a kind whose fields the resource has by the same names."""
        kind = kind_of(source)
        self._environment.used |= set(kind.address_variables)
        fields = write(source, defaults=False)
        fields.pop("credentialsDir", None)
        if "url" in fields:
            fields["url"] = self._without_login(fields["url"])
        return {kind.field: fields}

    def _directory(self, path: str) -> tuple[Json, str]:
        """The source behind a directory of the container, and the context's directory in it."""
        if name := self._mounts.config_map(path):
            return {"configMap": {"name": name}}, ""
        on_claim = self._mounts.claim(path)
        if on_claim is not None:
            sub_path = {"subPath": on_claim.sub_path} if on_claim.sub_path else {}
            return {"volume": {"claimName": on_claim.claim, **sub_path}}, on_claim.directory
        mount = self._mounts.innermost(path)
        if mount is None:
            problem = "no volume is mounted there"
        elif mount.type == "emptyDir":
            problem = "it is on an emptyDir that another container fills"
        elif mount.type == "configMap":
            problem = "it is a part of a ConfigMap, and a source is a whole one"
        else:
            problem = (
                f"it is on a volume of type {mount.type}" if mount.type else "the manifest does not have its volume"
            )
        self._diagnostics.missing("context", f"--context={path}: {problem}: {_USE_INSTEAD}")
        return {}, ""

    def _dockerfile(self, request: BuildRequest, context: str) -> str:
        path = posixpath.normpath(request.plan.dockerfile)
        descriptor = own_descriptor(request.plan.dockerfile)
        if "://" in request.plan.dockerfile or descriptor is not None:
            what = "a URL" if descriptor is None else stream_name(descriptor, path)
            given = self._arguments.text("dockerfile")
            self._diagnostics.error(
                "dockerfile",
                f"--dockerfile={given}: an ImageBuild cannot read {what}: put the Dockerfile into the context",
            )
            return "Dockerfile"
        if path.startswith("/"):
            base = posixpath.normpath(context)
            if not path.startswith(base.rstrip("/") + "/"):
                if not self._diagnostics.is_dropped("context"):
                    self._diagnostics.error(
                        "dockerfile",
                        f'--dockerfile={path}: outside the context "{base}": put the Dockerfile into the context',
                    )
                return posixpath.basename(path)
            path = path[len(base) :].lstrip("/")
        if path.startswith(".."):
            self._diagnostics.error(
                "dockerfile",
                f"--dockerfile={request.plan.dockerfile}: outside the context: put the Dockerfile into the context",
            )
        return path
