"""kaniko's flags that an ImageBuild has no field for: those that are an error, and those that it can do without.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.arguments import Arguments
from imagewright.cli.command import Kind
from imagewright.cli.flags import BUILD_FLAGS
from imagewright_kubectl.kaniko.diagnostics import Diagnostics

_KEEP_POD = "keep a Pod for this build"
_NO_FIELD = f"an ImageBuild has no such field: {_KEEP_POD}"
_RETRIED = "not needed: the engine retries requests, and spec.retry repeats a build whose node is lost"
_NO_FILE = f"an ImageBuild writes no file: pull the image from the registry, or {_KEEP_POD}"
_TRUST = "an ImageBuild cannot skip TLS verification: set spec.output.caBundleRef or spec.registries[].caBundleRef"

_KINDS = {flag.name: flag.kind for flag in BUILD_FLAGS}

# They would change the build or its outcome: what to do instead.
_UNSUPPORTED = {
    "no-push": f"an ImageBuild always pushes: {_KEEP_POD}",
    "dryrun": f"an ImageBuild always builds: {_KEEP_POD}, or print the plan with `imagewright plan`",
    "tar-path": _NO_FILE,
    "oci-layout-path": _NO_FILE,
    "skip-tls-verify": _TRUST,
    "skip-tls-verify-pull": _TRUST,
    "skip-tls-verify-registry": _TRUST,
    "insecure-pull": "an ImageBuild has no field for all registries: set spec.registries[].insecure for each (--insecure-registry)",
    "registry-endpoint": "only the installation sets the endpoint of a registry (IMAGEWRIGHT_REGISTRIES)",
    "single-snapshot": f"{_NO_FIELD}, or use COPY --from of an earlier stage to get one layer",
    "ignore-path": f"{_NO_FIELD}, or remove the files in the same RUN, or mount a cache there",
    "credential-helpers": "not needed: the engine uses a cloud's login by itself, others belong into spec.output.pushSecretRef",
    "push-retry": _RETRIED,
    "image-download-retry": _RETRIED,
    "image-fs-extract-retry": _RETRIED,
    "build-context": _NO_FIELD,
    "skip-push-permission-check": "not needed: push access is always checked before the build",
    "push-ignore-immutable-tag-errors": _NO_FIELD,
}
# On by default; an ImageBuild cannot turn them off.
_ALWAYS_ON = ("cache-copy-layers", "cache-run-layers")
# An ImageBuild serves their purpose in another way.
_SERVED = {
    "digest-file": "see status.image.digest",
    "image-name-with-digest-file": "see status.image.reference",
    "image-name-tag-with-digest-file": "see status.image.reference",
    "result-file": "see the status",
    "explain-cache": "see status.build.steps[].cacheMiss",
    "verbosity": "the log has one level",
    "log-format": "the log is text",
    "log-timestamp": "use kubectl logs --timestamps",
    "timings": "see the times in status.build.steps",
    "work-dir": "the operator gives every build a volume of its own",
    "kaniko-dir": "the operator gives every build a volume of its own",
}


def remove_unsupported(arguments: Arguments, diagnostics: Diagnostics) -> None:
    """Remove these flags from ``arguments`` and report them."""
    for name, advice in _UNSUPPORTED.items():
        if _has_effect(arguments, name):
            diagnostics.error(name, f"--{name}: {advice}")
        arguments.values.pop(name, None)
    for name in _ALWAYS_ON:
        if not arguments.is_on(name):
            diagnostics.error(name, f"--{name}=false: {_NO_FIELD}")
        arguments.values.pop(name, None)
    for name, where in _SERVED.items():
        if arguments.values.pop(name, None):
            diagnostics.note(f"ignored --{name}: {where}")


def _has_effect(arguments: Arguments, name: str) -> bool:
    """Whether a flag changes anything: ``--no-push=false`` doesn't, ``--tar-path=false`` names a file."""
    match _KINDS[name]:
        case Kind.BOOLEAN:
            return arguments.flag(name)
        case Kind.NUMBER:
            return bool(arguments.number(name))
        case Kind.TEXT:
            return bool(arguments.text(name))
        case Kind.LIST:
            return name in arguments.values  # --credential-helpers= turns all of them off
