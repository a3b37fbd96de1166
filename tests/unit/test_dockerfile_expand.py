"""Expansion: modifiers, quotes and escapes of the reference, compared with a POSIX shell where both have them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagewright.dockerfile.expand import Allowance, ExpansionError, ExpansionOptions, expand
from imagewright.errors import Reason

_VALUES = {
    "v": "value",
    "e": "",
    "path": "/usr/lib/libc.so.6",
    "x_1": "one",
    "1": "first",
    "é": "accent",
    "go": "<$0|${0}|$1${name}$00|$$|$-|${x|>",
    "two": "$0$0 ",
}


def text(word: str) -> str:
    return expand(word, _VALUES).text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$v", "value"),
        ("${v}s", "values"),
        ("$vs", ""),
        ("$v-$x_1.", "value-one."),
        ("$", "$"),
        ("a$", "a$"),
        ("$.", "$."),
        ("$1a", "firsta"),
        ("$é", "accent"),
        ("\\$v", "$v"),
        ("'$v'", "$v"),
        ('"$v"', "value"),
        ('"\\$v \\a \\" \\\\"', '$v \\a " \\'),
        ("\\a\\ b\\\\", "a b\\"),
        ("a\\", "a"),
        ("'a'\"b\"c", "abc"),
        ("${v:-w}${e:-w}${u:-w}", "valueww"),
        ("${v-w}${e-w}${u-w}", "valuew"),
        ("${v:+w}${e:+w}${u:+w}", "w"),
        ("${v+w}${e+w}${u+w}", "ww"),
        ("${v:?no}${e?no}", "value"),
        ("${u:-$v}${u:-${u:-${v}}}", "valuevalue"),
        ("${u:-'a }'}", "a }"),
        ('${u:-"$v }"}', "value }"),
        ("${u:-a\\}b}", "a}b"),
        ("${path#*/}", "usr/lib/libc.so.6"),
        ("${path##*/}", "libc.so.6"),
        ("${path%.*}", "/usr/lib/libc.so"),
        ("${path%%.*}", "/usr/lib/libc"),
        ("${path%/*}", "/usr/lib"),
        ("${path#?usr}", "/lib/libc.so.6"),
        ("${path#x}${path%x}", "/usr/lib/libc.so.6" * 2),
        ("${path#}${path%}", "/usr/lib/libc.so.6" * 2),
        ("${path/lib/LIB}", "/usr/LIB/libc.so.6"),
        ("${path//lib/LIB}", "/usr/LIB/LIBc.so.6"),
        ("${path//\\//-}", "-usr-lib-libc.so.6"),
        ("${path//[.]/x}", "/usr/lib/libc.so.6"),
        ("${path/l*c/_}", "/usr/_.so.6"),
        ("${path//./}", "/usr/lib/libcso6"),
        ("${v/a/$x_1}", "vonelue"),
        ("${v//*/x}${v/*/y}${e//*/z}", "xyz"),  # one match, and no empty one after it
        ("${v//l*/x}${v/*l/x}${v//a*u/x}", "vaxxuevxe"),
        ("${v//?/x}${v//a?/x}${v//?u/x}", "xxxxxvxuevaxe"),
        ("${v///-}", "-v-a-l-u-e-"),
        ("${v//a/$go}", "v<a|a||$|$-|${x|>lue"),  # the replacement is a template of Go's, if all matches are replaced
        ("${v/a/$go}", "v<$0|${0}|$1${name}$00|$$|$-|${x|>lue"),
        ("${v//?/$two}", "vv aa ll uu ee "),
        ("${v/a/\\\\1}", "v\\\\1lue"),
        ("${v#\\v}", "error"),
    ],
)
def test_text(word: str, expected: str) -> None:
    if expected == "error":
        with pytest.raises(ExpansionError):
            text(word)
    else:
        assert text(word) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'a", "unterminated single quote"),
        ('"a', "unterminated double quote"),
        ('"${v"', "unsupported modifier"),
        ("${v", "unterminated ${"),
        ("${", "unterminated ${"),
        ("${}", "missing variable name"),
        ("${:-a}", "missing variable name"),
        ("${v:-a", 'missing "}"'),
        ("${v/a}", 'missing "/"'),
        ("${v^}", "unsupported modifier"),
        ("${v:#a}", "unsupported modifier"),
        ("${u:?}", "u is not set"),
        ("${e:?}", "e is empty"),
        ("${u?tell me}", "u: tell me"),
        ("${u:-" * 60 + "}" * 60, "nested more than 50 levels"),
    ],
)
def test_errors(word: str, message: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        text(word)
    assert message in str(caught.value)


def test_expansion_respects_the_escape_directive() -> None:
    options = ExpansionOptions(escape="`")
    assert expand('C:\\$v `$v `` "`" `a"', _VALUES, options).text == 'C:\\value $v ` " `a'


def test_values_and_their_sum_are_limited() -> None:
    million = {"v": "x" * 1_000_000}
    assert len(expand("a$v", million).text) == 1_000_001
    assert len(expand("x" * 3_000_000 + "$v", million).text) == 4_000_000
    for word in ("$v$v", "'$v'\"$v$v\"", "${v//x/xxx}", "${u:-$v$v}", "${v/x/$v}"):
        with pytest.raises(ExpansionError, match="variables may add 1048576 characters") as caught:
            expand(word, million)
        assert caught.value.reason is Reason.LIMIT_EXCEEDED
        assert caught.value.hint
    for word in ("${v#" + "?" * 5000 + "}", "${v/" + "?" * 5000 + "/}"):
        with pytest.raises(ExpansionError, match="5000 characters is too long") as caught:
            expand(word, million)
        assert caught.value.reason is Reason.LIMIT_EXCEEDED
    values = {"v": "x" * 100_000}
    for word in ("${v}", "${v##*x}", "${v%%x*}", "${v//x/}", "${u:-$v}"):
        options = ExpansionOptions(allowance=Allowance(250_000))
        with pytest.raises(ExpansionError, match="in total") as caught:
            expand(word * 3, values, options)
        assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_words_are_split_after_expansion_but_not_in_quotes() -> None:
    values = {"ports": "80 443"}
    assert expand('$ports "$ports" a\\ b "" c', values).words == ("80", "443", "80 443", "a b", "c")


def test_unset_names_are_reported_unless_the_modifier_handles_them() -> None:
    assert expand("$a ${b} ${c#x} ${d:-x} ${f+x} $v", _VALUES).unset == ("a", "b", "c")


def test_raw_options_keep_quotes_and_escapes() -> None:
    options = ExpansionOptions(raw_quotes=True, raw_escapes=True, keep_unset=True)
    word = '"$v" \'x\' \\$v "\\$v \\a" $u ${u} ${u:-w} ${u##w} ${u//a/b}'
    assert expand(word, _VALUES, options).text == word.replace('"$v"', '"value"')


def test_quotes_are_ordinary_characters_without_the_option() -> None:
    assert expand('it\'s "$v"', _VALUES, ExpansionOptions(quotes=False)).text == 'it\'s "value"'


_PATTERN = st.text(alphabet="ab/*?.", max_size=5)
_FORMS = st.one_of(
    st.sampled_from(["${%s}", "${%s:-w}", "${%s-w}", "${%s:+w}", "${%s+w}"]),
    st.builds(
        lambda operator, pattern: f"${{%s{operator}{pattern}}}", st.sampled_from(["#", "##", "%%", "%%%%"]), _PATTERN
    ),
)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_FORMS, st.text(alphabet="ab/.*", max_size=6)), min_size=20, max_size=20))
def test_agrees_with_the_shell(cases: list[tuple[str, str]]) -> None:
    values = {f"v{index}": value for index, (_, value) in enumerate(cases) if value != "*"}
    words = [form % f"v{index}" for index, (form, _) in enumerate(cases) if not _starts_doubled(form)]
    script = "\n".join(f'printf "%s\\n" "{word}"' for word in words)
    run = subprocess.run(["sh", "-c", script], env=values, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [expand(word, values).text for word in words]


def _starts_doubled(form: str) -> bool:
    """``${v###x}`` and the like: shells differ among themselves."""
    return "###" in form or "%%%%%%" in form
