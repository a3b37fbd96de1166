"""USER and --chown: names come from the image's own files, which may be hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.users import User, lookup_ownership, lookup_user, lookup_workdir_ownership

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:one:two::/:
short:x:5
negative:x:-1:-1::/:/bin/sh
superscript:x:\u00b2:\u00b2::/:/bin/sh
huge:x:99999999999:1::/:/bin/sh
endless:x:{nines}:1::/:/bin/sh
app:x:1000:2000:App:/home/app:/bin/sh
app:x:1001:2001:second of its name:/home/other:/bin/sh
homeless:x:1002:1002:::/bin/sh
1500:x:7:8:a name of digits:/seven:/bin/sh
""".format(nines="9" * 5000)
GROUP = """root:x:0:
wheel:x:10:app,other
video:x:44:other,app
again:x:44:app
app:x:2000:
bad:x:x:app
docker:x:999
"""


@pytest.fixture
def image(tmp_path: Path) -> Rootfs:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return Rootfs(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", User(1000, 2000, (10, 44, 2000), "/home/app")),
        ("1000", User(1000, 2000, (10, 44, 2000), "/home/app")),
        ("1001", User(1001, 2001, (10, 44, 2001), "/home/other")),
        ("app:wheel", User(1000, 10, (10,), "/home/app")),
        ("app:77", User(1000, 77, (77,), "/home/app")),
        ("app:", User(1000, 2000, (10, 44, 2000), "/home/app")),
        ("4321", User(4321, 0, (0,), "/")),
        ("4321:4322", User(4321, 4322, (4322,), "/")),
        ("4321:docker", User(4321, 999, (999,), "/")),
        ("root", User(0, 0, (0,), "/root")),
        ("0", User(0, 0, (0,), "/root")),
        ("homeless", User(1002, 1002, (1002,), "/")),
        ("1500", User(7, 8, (8,), "/seven")),
    ],
)
def test_user(image: Rootfs, text: str, expected: User) -> None:
    assert lookup_user(image, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", Ownership(1000, 2000)),
        ("app:wheel", Ownership(1000, 10)),
        ("1", Ownership(1, 1)),
        ("1000", Ownership(1000, 1000)),
        ("1:2", Ownership(1, 2)),
        ("1:wheel", Ownership(1, 10)),
        ("root", Ownership(0, 0)),
        ("root:wheel", Ownership(0, 10)),
    ],
)
def test_ownership(image: Rootfs, text: str, expected: Ownership) -> None:
    assert lookup_ownership(image, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app:wheel", Ownership(1000, 10)),
        ("nobody", Ownership(0, 0)),
        ("nobody:wheel", Ownership(0, 10)),
        ("nobody:5", Ownership(0, 5)),
        ("app:nogroup", Ownership(1000, 2000)),
        ("7:nogroup", Ownership(7, 7)),
    ],
)
def test_workdir_uses_root_for_unknown_users(image: Rootfs, text: str, expected: Ownership) -> None:
    assert lookup_workdir_ownership(image, text) == expected


@pytest.mark.parametrize(
    "text", ["nobody", "app:nogroup", "broken", "short", "negative", "superscript", "huge", "endless", "-1", "\u00b2"]
)
def test_unknown_names_are_errors_that_name_the_file(image: Rootfs, text: str) -> None:
    for lookup in (lookup_user, lookup_ownership):
        with pytest.raises(FileSystemError, match=r"/etc/(passwd|group)") as caught:
            lookup(image, text)
        assert caught.value.reason is Reason.FILE_NOT_FOUND
        assert caught.value.hint


@pytest.mark.parametrize("text", ["4294967295", "99999999999", "9" * 5000, "1:4294967295"])
def test_ids_out_of_range_are_refused(image: Rootfs, text: str) -> None:
    for lookup in (lookup_user, lookup_ownership):
        with pytest.raises(FileSystemError, match="largest") as caught:
            lookup(image, text)
        assert len(caught.value.message) < 200


def test_an_image_without_users_has_root_and_numbers(tmp_path: Path) -> None:
    empty = Rootfs(str(tmp_path))
    assert lookup_user(empty, "0") == User(0, 0, (0,), "/")
    assert lookup_user(empty, "5:6") == User(5, 6, (6,), "/")
    assert lookup_ownership(empty, "5") == Ownership(5, 5)
    assert lookup_ownership(empty, "root") == Ownership(0, 0)
    with pytest.raises(FileSystemError):
        lookup_user(empty, "app")


def test_root_needs_no_entry(tmp_path: Path) -> None:
    assert lookup_user(Rootfs(str(tmp_path)), "root") == User(0, 0, (0,), "/root")
    assert lookup_user(Rootfs(str(tmp_path)), "") == User(0, 0, (0,), "/root")


def hostile_fifo(place: Path) -> None:
    os.mkfifo(place)


def hostile_directory(place: Path) -> None:
    place.mkdir()


def hostile_size(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("make", [hostile_fifo, hostile_directory, hostile_size])
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_hostile_passwd_files_are_refused(tmp_path: Path, make: object, name: str) -> None:
    assert callable(make)
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc" / name)
    with pytest.raises(FileSystemError) as caught:
        lookup_user(Rootfs(str(tmp_path)), "app:group" if name == "passwd" else "1:group")
    assert caught.value.reason in (Reason.PATH_NOT_ALLOWED, Reason.LIMIT_EXCEEDED)


def test_link_out_of_the_image_is_resolved_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "outside").write_text("spy:x:666:666::/:/bin/sh\n")
    (root / "inside").write_text("good:x:5:5::/:/bin/sh\n")
    (root / "etc/passwd").symlink_to(f"{tmp_path}/outside")
    with pytest.raises(FileSystemError):
        lookup_user(Rootfs(str(root)), "spy")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("../../../../inside")
    assert lookup_user(Rootfs(str(root)), "good").uid == 5
