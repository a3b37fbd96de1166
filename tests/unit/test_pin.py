"""``pin`` adds digests to images and changes no other byte; images that it can't pin are reported and left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.digest import Digest
from imagewright.dockerfile.parser import parse
from imagewright.errors import DockerfileError, ImagewrightError, Reason
from imagewright.pin.pinning import pin
from imagewright.reference import Reference

OLD = "sha256:" + "0" * 64


def digest_of(reference: Reference) -> Digest:
    """A digest that depends on the reference."""
    return Digest.of(str(reference).encode())


def d(text: str) -> str:
    return str(digest_of(Reference.parse(text)))


def pinned(text: str, *, update: bool = False) -> str:
    return pin(text.encode(), "Dockerfile", digest_of, update=update).content.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FROM alpine\n", f"FROM alpine:latest@{d('alpine')}\n"),
        ("FROM alpine:3.20", f"FROM alpine:3.20@{d('alpine:3.20')}"),
        (
            "from  docker.io/library/alpine:3\tas  Base  \n",
            f"from  docker.io/library/alpine:3@{d('alpine:3')}\tas  Base  \n",
        ),
        (
            "FROM --platform=$BUILDPLATFORM golang:1 AS golang\n",
            f"FROM --platform=$BUILDPLATFORM golang:1@{d('golang:1')} AS golang\n",
        ),
        ("FROM r.example:5000/a\n", f"FROM r.example:5000/a:latest@{d('r.example:5000/a')}\n"),
        ("FROM from:1 AS from\nFROM from\n", f"FROM from:1@{d('from:1')} AS from\nFROM from\n"),
        ("\ufeffFROM alpine:3\r\nRUN true\r\n", f"\ufeffFROM alpine:3@{d('alpine:3')}\r\nRUN true\r\n"),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\nFROM `\n# alpine:3\n  alpine:3 `\n  AS x\n",
            f"# syntax=docker/dockerfile:1\n# escape=`\nFROM `\n# alpine:3\n  alpine:3@{d('alpine:3')} `\n  AS x\n",
        ),
        (
            "FROM scratch\nCOPY --chown=1 --from=alpine:3 /a --from=alpine:3 /\n",
            f"FROM scratch\nCOPY --chown=1 --from=alpine:3@{d('alpine:3')} /a --from=alpine:3 /\n",
        ),
        (
            "FROM scratch\nRUN --mount=type=bind,from=a,target=/x --mount=from=a:1,target=/y \\\n --mount=target=/z,from=a from=a\n",
            f"FROM scratch\nRUN --mount=type=bind,from=a:latest@{d('a')},target=/x --mount=from=a:1@{d('a:1')},target=/y \\\n"
            f" --mount=target=/z,from=a:latest@{d('a')} from=a\n",
        ),
        (
            "FROM scratch\nRUN --mount=type=bind,\\\nfrom=a:1,target=/x true\n",
            f"FROM scratch\nRUN --mount=type=bind,\\\nfrom=a:1@{d('a:1')},target=/x true\n",
        ),
        (
            "FROM a:1\nRUN <<EOF\nFROM b:1\nCOPY --from=b:1 x y\nEOF\nCOPY <<X /x\nFROM c\nX\nFROM b:1\n",
            f"FROM a:1@{d('a:1')}\nRUN <<EOF\nFROM b:1\nCOPY --from=b:1 x y\nEOF\nCOPY <<X /x\nFROM c\nX\nFROM b:1@{d('b:1')}\n",
        ),
        (
            "FROM a:1\nRUN <<EOF\necho \\\nEOF\nFROM b:1\n",
            f"FROM a:1@{d('a:1')}\nRUN <<EOF\necho \\\nEOF\nFROM b:1@{d('b:1')}\n",
        ),
    ],
)
def test_every_image_is_pinned_and_nothing_else_changes(before: str, after: str) -> None:
    assert pinned(before) == after
    assert pinned(after) == after, "an image with a digest is left alone"


def test_update_resolves_pinned_images_again() -> None:
    text = f"FROM alpine:3@{OLD}\nCOPY --from=b@{OLD} / /\n"
    assert pinned(text) == text
    result = pin(text.encode(), "Dockerfile", digest_of, update=True)
    assert result.content.decode() == f"FROM alpine:3@{d('alpine:3')}\nCOPY --from=b@{OLD} / /\n"
    assert [(one.written, one.why) for one in result.unpinned] == [(f"b@{OLD}", "it has no tag to resolve")]
    assert pinned(result.content.decode(), update=True) == result.content.decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ARG V=3\nFROM alpine:$V\n", "it contains variables"),
        ("ARG B\nFROM ${B:-alpine}\n", "it contains variables"),
        ('FROM "alpine:3"\n', "it contains quotes or escapes"),
        ("FROM alp\\\nine:3\n", "it spans several lines or words"),
        ("FROM scratch\nONBUILD COPY --from=alpine:3 / /\n", "an ONBUILD trigger is resolved by a later build"),
        (
            "FROM scratch\nRUN --mount=from=alp\\\nine,target=/x <<A cat <<B\n from=alpine\nA\nfrom=alpine\nB\n",
            "it spans several lines or words",
        ),
    ],
)
def test_images_that_cannot_be_pinned_are_reported_and_left_alone(text: str, why: str) -> None:
    result = pin(text.encode(), "Dockerfile", digest_of)
    assert result.content == text.encode()
    assert result.changes == ()
    (left,) = result.unpinned
    assert left.why == why
    assert left.location.line == len(text.split("alp", maxsplit=1)[0].splitlines() or [""]) if "$" not in text else True


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch\n",
        "FROM a:1@"
        + OLD
        + " AS base\nFROM BASE\nCOPY --from=Base x y\nCOPY --from=0 x y\nRUN --mount=from=base,target=/x true\n",
        "FROM scratch\nADD https://example.com/from=alpine /\nRUN echo --from=alpine\n",
    ],
)
def test_stages_and_scratch_are_not_images(text: str) -> None:
    result = pin(text.encode(), "Dockerfile", digest_of)
    assert (result.content.decode(), result.changes, result.unpinned) == (text, (), ())


def test_an_image_that_is_not_found_is_reported_with_its_line() -> None:
    def none(reference: Reference) -> Digest:
        raise ImagewrightError(f"no {reference.familiar()}", reason=Reason.BASE_IMAGE_PULL_FAILED)

    with pytest.raises(ImagewrightError, match="no alpine:3") as caught:
        pin(b"FROM scratch\nCOPY --from=alpine:3 / /\n", "Dockerfile", none)
    assert str(caught.value.location) == "Dockerfile:2:13"
    assert caught.value.excerpt == ("2 | COPY --from=alpine:3 / /", "  |             ^^^^^^^^")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_comments_need_not_be_utf8(bom: bytes) -> None:
    before = bom + b"# caf\xe9 \x85\r\nFROM alpine:3\r\nRUN echo \xc3\xa0 \\\r\n# \xa0\xff\r\n && true"
    after = pin(before, "Dockerfile", digest_of).content
    assert after == before.replace(b"alpine:3", f"alpine:3@{d('alpine:3')}".encode())


def test_a_file_whose_edit_would_hit_another_word_is_refused() -> None:
    text = b'FROM scratch\nRUN --mount=type=bind,"from=alpine",target=/x echo a,from=alpine\n'
    with pytest.raises(DockerfileError, match="cannot pin the images of Dockerfile") as caught:
        pin(text, "Dockerfile", digest_of)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


def test_an_invalid_dockerfile_is_refused() -> None:
    with pytest.raises(DockerfileError):
        pin(b"FORM alpine\n", "Dockerfile", digest_of)


NAMES = ["alpine", "alpine:3", "r.example/a/b:1", f"alpine:3@{OLD}", "scratch", "one", "$V", "ONE", "0"]
IMAGE = st.sampled_from(NAMES)
ODD = st.text(st.sampled_from("\t é=from-\"'#\\`$<:@/.a1"), max_size=20).filter(lambda text: "<<" not in text)
LINE = st.one_of(
    st.builds("FROM {} AS {}".format, IMAGE, st.sampled_from(["one", "Two", "alpine"])),
    st.builds("COPY --from={} {} /x".format, IMAGE, st.sampled_from(["/a", "--from=alpine", "from=alpine"])),
    st.builds("RUN --mount=type=bind,from={},target=/x --mount=target=/y,from={} {}".format, IMAGE, IMAGE, IMAGE),
    st.builds("RUN <<EOF\n{}\nFROM {}\nEOF".format, ODD, IMAGE),
    st.builds("# FROM {} {}".format, IMAGE, ODD),
    st.builds("RUN echo {}".format, ODD),
    st.builds("FROM \\\n# alpine\n  {}".format, IMAGE),
)


@given(st.lists(LINE, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_without_digests_the_file_is_unchanged(lines: list[str], end: str, bom: bool, update: bool) -> None:
    text = ("\ufeff" if bom else "") + end.join(["FROM alpine:3 AS first", *lines])
    text = re.sub(r"\r?\n", end, text)
    try:
        parse(text.encode(), "Dockerfile")
    except DockerfileError:
        return
    result = pin(text.encode(), "Dockerfile", digest_of, update=update)
    bare = re.sub(r"(:latest)?@sha256:[0-9a-f]{64}", "", result.content.decode())
    assert bare == re.sub(r"(:latest)?@sha256:[0-9a-f]{64}", "", text)
    again = pin(result.content, "Dockerfile", digest_of, update=update)
    assert again.content == result.content
    assert again.changes == ()
