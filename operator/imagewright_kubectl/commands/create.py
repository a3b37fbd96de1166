"""``create``: an ImageBuild from flags, from a manifest that runs kaniko, from kaniko's flags, or from several.

I/O: reads the manifest, asks the API server except for a client-side dry run, writes to standard output and error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from imagewright.errors import ImagewrightError, Reason, UsageError
from imagewright_kubectl import printing
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.printing import Json, note
from imagewright_kubectl.specflags import given_fields, joined_source, merged
from imagewright_operator.api import API_VERSION, KIND, MAX_NAME, ImageBuild
from imagewright_operator.api.base import describe


def run(options: argparse.Namespace) -> int:
    """Create it, or print what would be created; 0."""
    given = given_fields(options)
    name, namespace = options.name, options.namespace
    if options.manifest and options.kaniko:
        raise UsageError("--from and kaniko's flags cannot be combined", hint="Use one of them.")
    if options.manifest or options.kaniko:
        manifest_name, manifest_namespace, spec = _from_kaniko(options, given)
        name, namespace = name or manifest_name, namespace or manifest_namespace
    else:
        spec = _from_flags(options, given)
    _check_required(spec)
    if not name:
        raise UsageError("missing NAME", hint="Use kubectl imagewright create NAME …")
    if len(name) > MAX_NAME:
        raise UsageError(
            f'invalid name "{name}": longer than {MAX_NAME} characters',
            hint="Choose a shorter NAME: Pods are named after it.",
        )
    body: Json = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    _validate(body)
    if options.dry_run == "client":
        if namespace:
            body["metadata"]["namespace"] = namespace
        printing.show(body, options.output or "yaml")
        return 0
    connection = connect(config_flags(options))
    body["metadata"]["namespace"] = namespace or connection.namespace
    created = connection.api.create(body, dry_run=options.dry_run == "server")
    if options.dry_run == "server":
        printing.show(created, options.output or "yaml")
    else:
        printing.done(created, "created", options.output)
    return 0


def _from_flags(options: argparse.Namespace, given: Json) -> Json:
    for flag, value in (("--container", options.container), ("--drop", options.drop)):
        if value:
            raise UsageError(f"{flag} requires --from", hint="It applies to the conversion of a manifest.")
    return given


def _check_required(spec: Json) -> None:
    if "source" not in spec:
        hint = "Use one of --git, --http, --oci, --configmap, --volume and --inline, or --from FILE."
        raise UsageError("missing source", hint=hint)
    if not spec.get("output", {}).get("tags"):
        raise UsageError(
            "missing --tag", hint="Name the image to push, for example --tag registry.example.com/team/app:1.0."
        )


def _from_kaniko(options: argparse.Namespace, given: Json) -> tuple[str, str, Json]:
    # Here, because the executor's code for kaniko's flags is slow to load, and only made for Linux.
    from imagewright_kubectl.kaniko import convert, find_workload, workload_of_flags  # noqa: PLC0415

    if options.kaniko:
        workload = workload_of_flags(options.kaniko)
    else:
        file = "standard input" if options.manifest == "-" else options.manifest
        workload = find_workload(_documents(options.manifest), options.container, file)
    dropped = {name.removeprefix("--") for name in options.drop}
    replaced = _replaced(given) | ({"source-secret"} if options.source_secret else set())
    conversion = convert(workload, frozenset(dropped), frozenset(replaced))
    for line in conversion.notes:
        note(line)
    spec = merged(conversion.spec, given)
    if "source" in given:
        _keep_git_settings(conversion.git_settings, spec["source"])
    elif source := joined_source(conversion.spec.get("source", {}), options):
        spec["source"] = source
    return workload.name, workload.namespace, spec


def _keep_git_settings(settings: Json, source: Json) -> None:
    """Apply the settings of the manifest's git source to the one that the user gave."""
    login = settings.get("secretRef", {}).get("name")
    if "git" not in source:
        if login:
            note(f'ignored the Secret "{login}" with the manifest\'s git login: the source is not git')
        return
    if login and "secretRef" not in source["git"]:
        note(f'--git uses the Secret "{login}" with the manifest\'s git login; choose another with --source-secret')
    source["git"] = {
        **source["git"],
        **{name: value for name, value in settings.items() if name not in source["git"]},
    }


def _replaced(given: Json) -> set[str]:
    """kaniko's flags that flags of ``create`` replace: they aren't converted."""
    output, cache = given.get("output", {}), given.get("cache", {})
    replaced = {
        "context": "source" in given,
        "dockerfile": "dockerfile" in given,
        "destination": "tags" in output,
        "build-arg": "buildArgs" in given,
        "secret": "secrets" in given,
        "ssh": "ssh" in given,
        "login": "pushSecretRef" in output,
        "cache-repo": "repository" in cache,
        "cache-dir": "volume" in cache,
    }
    return {name for name, is_given in replaced.items() if is_given}


def _documents(file: str) -> list[Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return [*yaml.safe_load_all(text)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read --from={file}: {getattr(error, 'strerror', None) or error}",
            hint="Name a manifest, or - for standard input.",
        ) from None
    except yaml.YAMLError as error:
        raise UsageError(
            f"cannot parse --from={file}: invalid YAML: {error}", hint="Check it with `kubectl apply --dry-run=client`."
        ) from None


def _validate(body: Json) -> None:
    """Fields, types and lengths by the resource's models."""
    try:
        ImageBuild.parse(body)
    except ValidationError as error:
        raise ImagewrightError(
            describe(error), reason=Reason.INVALID_SPEC, hint="See `kubectl explain imagebuild.spec`."
        ) from None
