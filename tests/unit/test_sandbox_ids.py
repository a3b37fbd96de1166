"""The ids that RUN may use: id maps of user namespaces."""

from __future__ import annotations

import pytest

from imagewright.errors import Reason, SandboxError
from imagewright.sandbox.kernel.ids import IdMap, Ids
from imagewright.sandbox.model import RunCommand

POD = IdMap.parse("         0 1879048192      65536\n")
ALONE = IdMap.parse("         0       1000          1\n")
RANGES = IdMap.parse("0 1000 1\n1 100000 65536\n")


def command(uid: int = 0, gid: int = 0, groups: tuple[int, ...] = ()) -> RunCommand:
    return RunCommand("/rootfs", ("true",), (), "/", uid, gid, groups)


def test_child_namespace_has_the_same_ids() -> None:
    assert POD.identity() == "0 0 65536\n"
    assert RANGES.identity() == "0 0 1\n1 1 65536\n"


@pytest.mark.parametrize(("number", "there"), [(0, True), (65535, True), (65536, False), (100000, False)])
def test_a_container_with_a_user_namespace_has_65536_ids(number: int, there: bool) -> None:
    assert (number in POD) is there


def test_ranges_as_text() -> None:
    assert (str(POD), str(ALONE), str(RANGES)) == ("0-65535", "0", "0, 1-65536")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(command(uid=70000), "user 70000"), (command(gid=70000), "group 70000"), (command(groups=(5, 70001)), "70001")],
)
def test_unmapped_id_is_named_with_the_mapped_ones(wanted: RunCommand, words: str) -> None:
    with pytest.raises(SandboxError, match=words) as caught:
        Ids(POD, POD, groups_allowed=True).check(wanted)
    assert caught.value.reason is Reason.ID_OUT_OF_RANGE
    assert "0-65535" in caught.value.message


def test_groups_are_kept_if_setgroups_is_allowed() -> None:
    assert Ids(POD, POD, groups_allowed=True).check(command(groups=(1, 2))).groups == (1, 2)


def test_single_id_drops_supplementary_groups() -> None:
    # Alpine's root is in ten groups; with a single id no file can belong to any of them.
    assert Ids(ALONE, ALONE, groups_allowed=False).check(command(groups=(1, 2, 10))).groups == ()


def test_command_serialization_round_trip() -> None:
    sent = RunCommand("/r\udce9", ("sh", "-c", "echo \udcff"), (("A", "ü"),), "/w", 1, 2, (3,))
    assert RunCommand.decode(sent.encode()) == sent
