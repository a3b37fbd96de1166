"""Prints objects and tables as kubectl does.

I/O: standard output and error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from imagewright_operator.api import GROUP, KIND

Json = dict[str, Any]

FORMATS = ("json", "yaml", "name")


def named(body: Json) -> str:
    """``imagebuild.imagewright.dev/app``."""
    return f"{KIND.lower()}.{GROUP}/{body['metadata']['name']}"


def done(body: Json, what: str, output: str) -> None:
    """Report what was done to an ImageBuild; with an output format, print the ImageBuild instead."""
    if output:
        show(body, output)
    else:
        print(f"{named(body)} {what}")


def say(text: str) -> None:
    """Write to standard error."""
    print(text, file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Write a note to standard error."""
    say(f"note: {text}")


def show(body: Json, output: str) -> None:
    """Print an object in one of FORMATS."""
    match output:
        case "name":
            print(named(body))
        case "json":
            print(json.dumps(_plain(body), indent=4, ensure_ascii=False))
        case _:
            print(as_yaml(_plain(body)), end="")


def show_all(bodies: Sequence[Json], output: str) -> None:
    """Print a list of objects."""
    if output == "name":
        for body in bodies:
            print(named(body))
        return
    show({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [_plain(body) for body in bodies]}, output)


def as_yaml(body: Json) -> str:
    """YAML with keys in their order and multi-line text as blocks."""
    text: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def columns(rows: Iterable[Sequence[str]]) -> str:
    """A table with columns aligned as kubectl aligns them."""
    listed = [[*row] for row in rows]
    if not listed:
        return ""
    widths = [max(len(row[index]) for row in listed) for index in range(len(listed[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in listed)
    return "\n".join(line.rstrip() for line in lines)


class _Dumper(yaml.SafeDumper):
    """Represents multi-line text as literal blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _plain(body: Json) -> Json:
    """Without managedFields."""
    metadata = body.get("metadata") or {}
    if "managedFields" not in metadata:
        return body
    return {**body, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
