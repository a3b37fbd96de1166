"""``create``: an ImageBuild from flags, from a manifest that runs kaniko or from kaniko's own flags, or from several.

I/O: reads the manifest, asks the API server unless nothing is to be created, writes to standard output and error. Called by
``main``.
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
from imagewright_kubectl.options import place_of
from imagewright_kubectl.printing import Json, note
from imagewright_kubectl.specflags import given_fields, joined_source, merged
from imagewright_operator.api import API_VERSION, KIND, MAX_NAME, ImageBuild
from imagewright_operator.api.base import describe

_RULES = "`kubectl explain imagebuild.spec` has the rules."


def run(options: argparse.Namespace) -> int:
    """Create it, or show what would be created; 0."""
    given = given_fields(options)
    name, namespace = options.name, options.namespace
    if options.manifest and options.kaniko:
        raise UsageError("--from and kaniko's flags are given", hint="The one or the other says what is built.")
    if options.manifest or options.kaniko:
        found_name, found_namespace, spec = _from_manifest(options, given)
        name, namespace = name or found_name, namespace or found_namespace
    else:
        spec = _from_flags(options, given)
    _check_whole(spec)
    if not name:
        raise UsageError("no name is given", hint="kubectl imagewright create NAME …")
    if len(name) > MAX_NAME:
        raise UsageError(
            f"the name {name} is longer than {MAX_NAME} characters", hint="Pods are named after it: give a NAME."
        )
    body: Json = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    _check(body)
    if options.dry_run == "client":
        if namespace:
            body["metadata"]["namespace"] = namespace
        printing.show(body, options.output or "yaml")
        return 0
    connection = connect(place_of(options))
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
            raise UsageError(f"{flag} is given without --from", hint="It says how a manifest is converted.")
    return given


def _check_whole(spec: Json) -> None:
    if "source" not in spec:
        hint = "One of --git, --http, --oci, --configmap, --volume, --inline; or --from FILE, which runs kaniko."
        raise UsageError("nothing says what to build", hint=hint)
    if not spec.get("output", {}).get("tags"):
        raise UsageError("nothing says where to push the image", hint="--tag registry.example.com/team/app:1.0")


def _from_manifest(options: argparse.Namespace, given: Json) -> tuple[str, str, Json]:
    # Here, since the executor's code for kaniko's flags is slow to load, and only made for Linux.
    from imagewright_kubectl.kaniko import convert, find, of_words  # noqa: PLC0415

    if options.kaniko:
        found = of_words(options.kaniko)
    else:
        found = find(_documents(options.manifest), options.container)
    dropped = {name.removeprefix("--") for name in options.drop}
    replaced = _replaced(given) | ({"source-secret"} if options.source_secret else set())
    converted = convert(found, frozenset(dropped), frozenset(replaced))
    for line in converted.notes:
        note(line)
    spec = merged(converted.spec, given)
    if "source" in given:
        _keep_of_git(converted.git, spec["source"])
    elif source := joined_source(converted.spec.get("source", {}), options):
        spec["source"] = source
    return found.name, found.namespace, spec


def _keep_of_git(kept: Json, source: Json) -> None:
    """What the manifest says of its git source, said of the one that the user gives instead."""
    login = kept.get("secretRef", {}).get("name")
    if "git" not in source:
        if login:
            note(f"the Secret {login} with the manifest's login for git is left out: the source isn't git any more")
        return
    if login and "secretRef" not in source["git"]:
        note(f"the Secret {login} with the manifest's login for git is kept for --git; --source-secret names another")
    source["git"] = {**source["git"], **{name: value for name, value in kept.items() if name not in source["git"]}}


def _replaced(given: Json) -> set[str]:
    """kaniko's flags that flags of ``create`` take the place of: they need not be converted."""
    output, cache = given.get("output", {}), given.get("cache", {})
    found = {
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
    return {name for name, is_given in found.items() if is_given}


def _documents(place: str) -> list[Any]:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
        return [*yaml.safe_load_all(text)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--from={place}: it can't be read: {error}", hint="Name a manifest, or - for standard input."
        ) from None
    except yaml.YAMLError as error:
        raise UsageError(
            f"--from={place}: no YAML: {error}", hint="Name a manifest as kubectl apply takes it."
        ) from None


def _check(body: Json) -> None:
    """What the resource's models say of types and lengths."""
    try:
        ImageBuild.parse(body)
    except ValidationError as error:
        raise ImagewrightError(describe(error), reason=Reason.INVALID_SPEC, hint=_RULES) from None
