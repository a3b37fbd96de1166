"""The table of source kinds: what it says of each kind is there, so that a new row can't be half done."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from imagewright.cli.contexts import parse_context
from imagewright.cli.docs import CONTEXTS_PAGE, contexts_page
from imagewright.cli.flags import SOURCE_FLAGS
from imagewright.context.fetch import HANDLERS
from imagewright.contract.sources import KINDS, LoginSource, Source, SourceKind, kind_of
from imagewright.errors import UsageError
from imagewright_operator.api.source import Source as SourceField

ROOT = Path(__file__).parents[2]
IDS = [kind.model.__name__ for kind in KINDS]


def test_every_source_of_a_request_has_one_row_and_a_fetcher() -> None:
    models = set(get_args(Source))
    assert {kind.model for kind in KINDS} == models == set(HANDLERS)
    assert len(KINDS) == len(models)


def test_every_field_of_the_resource_has_one_row() -> None:
    fields = sorted(str(field.alias) for field in SourceField.model_fields.values())
    assert sorted(kind.field for kind in KINDS if kind.field) == fields


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_secret_is_taken_by_the_request_and_by_the_resource_alike(kind: SourceKind) -> None:
    assert bool(kind.secret_keys) == issubclass(kind.model, LoginSource)
    if kind.field:
        annotation = next(f.annotation for f in SourceField.model_fields.values() if f.alias == kind.field)
        (model, _) = get_args(annotation)
        assert bool(kind.secret_keys) == ("secret_ref" in model.model_fields)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_addresses_of_every_form_are_of_their_kind(kind: SourceKind) -> None:
    assert bool(kind.forms) == bool(kind.schemes) == (HANDLERS[kind.model].parse is not None)
    for form in kind.forms:
        if form != "oci://REFERENCE":  # names of images are in lower case
            assert kind_of(parse_context(form, {})) is kind
    for scheme in kind.schemes:
        assert any(form.startswith(scheme) for form in kind.forms) or scheme == "http://"


def test_help_and_hint_name_every_scheme() -> None:
    (context,) = [flag.help for flag in SOURCE_FLAGS if flag.name == "context"]
    with pytest.raises(UsageError) as caught:
        parse_context("ftp://host/path", {})
    for kind in KINDS:
        assert all(form in caught.value.hint for form in kind.forms)
        assert not kind.schemes or any(scheme in context for scheme in kind.schemes)


def test_the_page_has_the_table() -> None:
    page = (ROOT / CONTEXTS_PAGE).read_text(encoding="utf-8")
    assert page == contexts_page(page), "run `python -m imagewright.cli.docs`"
    assert page.count("| `--context` | `spec.source` |") == 1
    assert all(kind.summary in page for kind in KINDS)
    assert all(f"`{key}`" in page for kind in KINDS for key in kind.secret_keys)
