"""Flags of kaniko's that an ImageBuild has no field for: those that it does without, and those that it can't be without.

No I/O. Called by ``conversion``.
"""

from __future__ import annotations

from imagewright.cli.arguments import Arguments
from imagewright.cli.flags import BUILD_FLAGS, Kind
from imagewright_kubectl.kaniko.diagnostics import Problems

_STAYS = "such a build stays a Pod"
_BY_ITSELF = "the engine tries again by itself, and spec.retry when a node is lost"
_TRUST = "name the registry's authority: spec.output.caBundleRef, spec.registries[].caBundleRef"

_KINDS = {flag.name: flag.kind for flag in BUILD_FLAGS}

# What to do about those that would change the build or its outcome.
_REFUSED = {
    "no-push": f"an ImageBuild always pushes: {_STAYS}",
    "dryrun": f"an ImageBuild always builds: {_STAYS}; `imagewright plan` prints what would be executed",
    "tar-path": f"an ImageBuild leaves no file: pull the image from the registry, or {_STAYS}",
    "oci-layout-path": f"an ImageBuild leaves no file: pull the image from the registry, or {_STAYS}",
    "skip-tls-verify": f"there is no field that accepts any certificate: {_TRUST}",
    "skip-tls-verify-pull": f"there is no field that accepts any certificate: {_TRUST}",
    "skip-tls-verify-registry": f"there is no field that accepts any certificate: {_TRUST}",
    "insecure-pull": "there is no field for all registries: name each in spec.registries[].insecure (--insecure-registry)",
    "registry-endpoint": "only the installation says where a registry is: IMAGEWRIGHT_REGISTRIES",
    "single-snapshot": f"there is no field for it: {_STAYS}, or use COPY --from of an earlier stage to have one layer",
    "ignore-path": f"there is no field for it: remove the files in the same RUN, or mount a cache there, or {_STAYS}",
    "credential-helpers": "the engine looks for a cloud's login by itself: without the flag, or spec.output.pushSecretRef",
    "push-retry": _BY_ITSELF,
    "image-download-retry": _BY_ITSELF,
    "image-fs-extract-retry": _BY_ITSELF,
    "no-push-cache": f"there is no field for it: {_STAYS}",
    "build-context": f"there is no field for it: {_STAYS}",
    "skip-push-permission-check": "the push is always tried before the build",
    "push-ignore-immutable-tag-errors": f"there is no field for it: {_STAYS}",
}
# Those that are of use when they are on (the default), so an ImageBuild can't do without.
_ALWAYS_ON = ("cache-copy-layers", "cache-run-layers")
# Those whose purpose an ImageBuild serves in another way.
_SERVED = {
    "digest-file": "status.image.digest has it",
    "image-name-with-digest-file": "status.image.reference has it",
    "image-name-tag-with-digest-file": "status.image.reference has it",
    "result-file": "the status has it",
    "explain-cache": "status.build.steps[].cacheMiss says it of every build",
    "verbosity": "the log has what a person needs",
    "log-format": "the log is text",
    "log-timestamp": "kubectl logs --timestamps adds them",
    "work-dir": "the operator gives every build a volume of its own",
    "kaniko-dir": "the operator gives every build a volume of its own",
}


def look(arguments: Arguments, problems: Problems) -> None:
    """Take them out, and say what to do."""
    for name, advice in _REFUSED.items():
        if _is_asked(arguments, name):
            problems.add(name, f"--{name}: {advice}")
        arguments.values.pop(name, None)
    for name in _ALWAYS_ON:
        if not arguments.is_on(name):
            problems.add(name, f"--{name}=false: there is no field for it: {_STAYS}")
        arguments.values.pop(name, None)
    for name, where in _SERVED.items():
        if arguments.values.pop(name, None):
            problems.note(f"--{name} is left out: {where}")


def _is_asked(arguments: Arguments, name: str) -> bool:
    """Whether a flag changes anything: ``--no-push=false`` doesn't, ``--tar-path=false`` is the name of a file."""
    match _KINDS[name]:
        case Kind.BOOLEAN:
            return arguments.flag(name)
        case Kind.NUMBER:
            return bool(arguments.number(name))
        case Kind.TEXT:
            return bool(arguments.text(name))
        case Kind.LIST:
            return name in arguments.values  # --credential-helpers= is none of them
