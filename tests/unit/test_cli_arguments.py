"""The command line is read by pflag's rules, and nothing is ignored."""

import pytest

from imagewright.cli.arguments import deprecation_warnings, parse, parse_build
from imagewright.errors import UsageError


def test_forms_of_a_flag() -> None:
    arguments = parse(["--context=dir:///a", "--destination", "r.example/a", "-d", "r.example/b", "-f=Other"], {})
    assert arguments.text("context") == "dir:///a"
    assert arguments.all("destination") == ("r.example/a", "r.example/b")
    assert arguments.text("dockerfile") == "Other"


def test_boolean_never_takes_the_next_word() -> None:
    with pytest.raises(UsageError, match='unexpected argument "false"'):
        parse(["--no-push", "false"], {})
    assert parse(["--no-push"], {}).flag("no-push")
    assert not parse(["--no-push=false"], {}).flag("no-push")


def test_environment_is_used_without_the_flag() -> None:
    assert parse([], {"KANIKO_NO_PUSH": "true"}).flag("no-push")
    assert not parse(["--no-push=false"], {"KANIKO_NO_PUSH": "true"}).flag("no-push")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--push-retry=some", "not a whole number"),
        ("--compression=estargz", 'invalid --compression value "estargz"'),
        ("--image-format=tar", 'invalid --image-format value "tar"'),
        ("--snapshot-mode=fast", 'invalid --snapshot-mode value "fast"'),
        ("--cache=maybe", "not a boolean"),
    ],
)
def test_invalid_value_is_refused(word: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse([word], {})


def test_invalid_value_in_the_environment_names_the_variable() -> None:
    with pytest.raises(UsageError, match='invalid KANIKO_CLEANUP value "perhaps": not a boolean'):
        parse([], {"KANIKO_CLEANUP": "perhaps"})


def test_flags_without_effect_warn_in_one_line_each() -> None:
    arguments = parse(["--cleanup", "--snapshot-mode=redo", "--destination=a"], {"KANIKO_PRE_CLEANUP": "true"})
    assert deprecation_warnings(arguments, {"FF_KANIKO_OCI_WARMER": "1"}) == [
        "--cleanup has no effect here: the work directory is always removed",
        "--pre-cleanup has no effect here: every build starts with an empty directory",
        "--snapshot-mode has no effect here: changes are found by inodes and their ctime, which is as exact as full and as fast as time",
        "FF_KANIKO_OCI_WARMER: kaniko's feature flags have no effect here",
    ]


def test_typo_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--destinatoin=x"], {})
    assert "--destination" in caught.value.hint


def test_missing_value_is_named() -> None:
    with pytest.raises(UsageError, match="--context needs a value"):
        parse(["--context"], {})


# --- imagewright build, beside kaniko's executor


@pytest.mark.parametrize("words", [["."], [".", "--no-push"], ["--no-push", "."], ["-f", "x", "."]])
def test_context_may_be_a_positional_argument(words: list[str]) -> None:
    arguments = parse_build(words, {})
    assert arguments.all("context") == (".",)
    assert arguments.words == []
    with pytest.raises(UsageError, match=r'unexpected argument "\."'):
        parse(words, {})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a", "b"], "2 contexts given"),
        (["--build-arg", "A=b", "c", "."], "2 contexts given"),
        ([".", "--context=."], "context given twice"),
        (["-c", ".", "."], "context given twice"),
        (["--cache", "true"], 'unexpected argument "true"'),
        (["--no-push", "False", "."], 'unexpected argument "False"'),
    ],
)
def test_a_build_has_one_context(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_build(words, {})


def test_a_tag_is_a_destination_in_their_order() -> None:
    words = [
        "-t",
        "r.example/a",
        "--destination=r.example/b",
        "--tag",
        "r.example/c",
        "-t=r.example/d",
        "-d",
        "r.example/e",
    ]
    arguments = parse_build(words, {})
    assert arguments.all("destination") == tuple(f"r.example/{name}" for name in "abcde")
    assert set(arguments.values) == {"destination"}


@pytest.mark.parametrize("word", ["-t", "--tag", "--tag=x"])
def test_executor_does_not_take_tag(word: str) -> None:
    with pytest.raises(UsageError, match="unknown flag") as caught:
        parse([word], {})
    assert caught.value.hint == "Did you mean --destination?"
