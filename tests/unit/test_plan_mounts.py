"""--mount: the defaults of the reference, and a valid mount or an error with a location for any options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.dockerfile.parser import parse
from imagewright.errors import DockerfileError
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import PlanOptions
from imagewright.plan.origins import ContextOrigin, ImageOrigin, StageOrigin
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CacheSharing,
    Mount,
    RunStep,
    SecretMount,
    SshMount,
    TmpfsMount,
)

_AMD64 = Platform("linux", "amd64")


def plan(text: str) -> BuildPlan:
    options = PlanOptions("", {}, _AMD64, _AMD64)
    return make_plan(parse(text.encode(), "Dockerfile"), options, lambda need: ImageConfig.scratch(need.platform))


def mounts(options: str, before: str = "") -> tuple[Mount, ...]:
    built = plan(f"FROM a AS one\nRUN x\nFROM a\nENV V=/v N=7\n{before}\nRUN --mount={options} true\n")
    step = built.target.steps[-1]
    assert isinstance(step, RunStep)
    assert render(built, values=True)
    return step.mounts


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("target=/t", BindMount("/t", ContextOrigin())),
        ("source=../s/,dst=/t/../u/,rw", BindMount("/u", ContextOrigin(), "/s", writable=True)),
        ("src=$V,destination=$V/t,from=one,ro=0", BindMount("/v/t", StageOrigin(0), "/v", writable=True)),
        ("TYPE=Bind,target=/t,rw,ro", BindMount("/t", ContextOrigin())),
        ("""'"target=/a,b"'""", BindMount("/a,b", ContextOrigin())),
        ("type=cache,target=/t/", CacheMount("/t", "/t")),
        (
            "type=cache,target=t,id=$N,sharing=LOCKED,mode=1770,uid=$N,gid=8,readonly",
            CacheMount("/t", "7", CacheSharing.LOCKED, writable=False, mode=0o1770, uid=7, gid=8),
        ),
        (
            "type=cache,target=/t,from=0,source=s,uid=3",
            CacheMount("/t", "/t", origin=StageOrigin(0), source="/s", mode=None, uid=3, gid=None),
        ),
        ("type=tmpfs,target=/t", TmpfsMount("/t")),
        ("type=tmpfs,target=/t,size=1.5GiB", TmpfsMount("/t", 3 << 29)),
        ("type=secret,id=a/b", SecretMount("a/b", "/run/secrets/b")),
        ("type=secret,source=s,required=false", SecretMount("s", "/run/secrets/s")),
        ("type=secret,target=/x/y,mode=0440,gid=5", SecretMount("y", "/x/y", mode=0o440, gid=5)),
        ("type=secret,id=s,env=E,required", SecretMount("s", env="E", required=True)),
        ("type=secret,id=s,env=E,target=y", SecretMount("s", "/y", "E")),
        ("type=ssh", SshMount("default", "/run/buildkit/ssh_agent.0")),
        ("type=ssh,id=git,required,uid=9 --mount=type=ssh", SshMount("git", "/run/buildkit/ssh_agent.0", True, uid=9)),
    ],
)
def test_mounts(options: str, expected: Mount) -> None:
    assert mounts(options)[0] == expected


def test_sockets_are_numbered_and_a_relative_target_is_below_workdir() -> None:
    found = mounts("type=ssh --mount=type=ssh,id=b --mount=target=t --mount=type=cache", before="WORKDIR /w/d")
    assert [mount.target for mount in found] == [
        "/run/buildkit/ssh_agent.0",
        "/run/buildkit/ssh_agent.1",
        "/w/d/t",
        "/w/d",
    ]


def test_a_mounted_image_is_an_origin() -> None:
    (mount,) = mounts("from=busybox:1,target=/t")
    assert isinstance(mount, BindMount)
    assert isinstance(mount.origin, ImageOrigin)


_NAMES = (
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "ro",
    "rw",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
)
_VALUES = ("", "/", ".", "..", "/a", "a/../..", "one", "0", "1", "true", "1k", "$V", "${N:-x}", "$", "'", "cache", "bind", "tmpfs", "secret", "ssh", "locked", "0777", "-1", "\u00e9")  # fmt: skip
_OPTION = st.one_of(
    st.sampled_from((*_NAMES, "uid", "gid", "env", "tpye")),
    st.tuples(st.sampled_from((*_NAMES, "uid", "gid", "env")), st.sampled_from(_VALUES)).map("=".join),
    st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"], exclude_characters="\\"), max_size=6),
)


@given(st.lists(_OPTION, max_size=6).map(",".join))
def test_any_options_are_a_mount_or_an_error_with_a_location(options: str) -> None:
    found: tuple[Mount, ...] = ()
    place = None
    try:
        found = mounts(options)
    except DockerfileError as error:
        place = error.location
    assert found or (place is not None and place.line == 6)
    for mount in found:
        assert mount.target.startswith("/") or (isinstance(mount, SecretMount) and mount.env)
        assert mount.target != "/"
        assert ".." not in mount.target.split("/")
        if isinstance(mount, BindMount | CacheMount):
            assert mount.source.startswith("/")
            assert ".." not in mount.source.split("/")
