"""The command line is read by pflag's rules, and nothing is ignored."""

import pytest

from imagewright.cli.arguments import parse
from imagewright.cli.flags import LATER_FLAGS
from imagewright.errors import UnsupportedError, UsageError


def test_forms_of_a_flag() -> None:
    arguments = parse(["--context=dir:///a", "--destination", "r.example/a", "-d", "r.example/b", "-f=Other"], {})
    assert arguments.text("context") == "dir:///a"
    assert arguments.all("destination") == ("r.example/a", "r.example/b")
    assert arguments.text("dockerfile") == "Other"


def test_boolean_never_takes_the_next_word() -> None:
    with pytest.raises(UsageError, match="unexpected word 'false'"):
        parse(["--no-push", "false"], {})
    assert parse(["--no-push"], {}).flag("no-push")
    assert not parse(["--no-push=false"], {}).flag("no-push")


def test_environment_serves_where_the_command_line_does_not() -> None:
    assert parse([], {"KANIKO_NO_PUSH": "true"}).flag("no-push")
    assert not parse(["--no-push=false"], {"KANIKO_NO_PUSH": "true"}).flag("no-push")


@pytest.mark.parametrize("name", sorted(LATER_FLAGS))
def test_flag_of_a_later_release_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"--{name} is not supported yet"):
        parse([f"--{name}=x"], {})


def test_typo_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--destinatoin=x"], {})
    assert "--destination" in caught.value.hint


def test_missing_value_is_named() -> None:
    with pytest.raises(UsageError, match="--context needs a value"):
        parse(["--context"], {})
