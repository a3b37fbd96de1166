"""What a peer's kept answer is an answer to: any change of what it is asked makes another question."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from peers.answers import ERROR, Answer, Answers, answer_of, question
from peers.case import CASES, KEYS, Case

TABLE = {
    "about": '"x."', "target": '"a"', "platform": '"linux/arm64"', "build_platform": '"linux/arm64"',
    "build_args": "{A = '1'}", "labels": "{a = 'b'}", "images": "{'busybox' = {User = '1'}}", "context": "{f = 'x'}",
    "secrets": "{a = 'b'}", "ssh": "{a = 'b'}", "build_contexts": "{a = {f = 'x'}}", "allow": '["network.host"]',
    "flags": '["--no-push"]', "not_executed": '"x"', "differs": "[{what = 'a', because = 'b'}]",
    "web": "{f = 'x'}", "git": "{'a.git' = {f = 'x'}}",
}  # fmt: skip
OF_OURS = {"about", "build_platform", "flags", "not_executed", "differs"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """One with a committed context, and nothing in its table but the required key."""
    folder = tmp_path / "case"
    (folder / "context" / "sub").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / "case.toml").write_text('about = "a."\n')
    (folder / "context" / "sub" / "file").write_text("content")
    (folder / "context" / "link").symlink_to("sub/file")
    return Case(folder)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_key_of_the_table_makes_another_question_if_peers_are_asked_about_it(case: Case, key: str) -> None:
    before = question(case)
    others = "" if key == "about" else 'about = "a."\n'
    (case.folder / "case.toml").write_text(f"{others}{key} = {TABLE[key]}\n")
    assert (question(Case(case.folder)) == before) == (key in OF_OURS)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /x\n"),
        lambda folder: (folder / "context/sub/file").write_text("contenT"),
        lambda folder: (folder / "context/sub/file").chmod(0o755),
        lambda folder: (folder / "context/sub/file").rename(folder / "context/file"),
        lambda folder: (folder / "context/new").touch(),
        lambda folder: (folder / "context/link").unlink(),
        lambda folder: ((folder / "context/link").unlink(), (folder / "context/link").symlink_to("sub")),
        lambda folder: shutil.rmtree(folder / "context"),
    ],
)
def test_every_file_makes_another_question(case: Case, change: Callable[[Path], object]) -> None:
    before = question(case)
    change(case.folder)
    assert question(Case(case.folder)) != before


def test_what_is_recorded_of_the_engine_is_no_part_of_the_question(case: Case) -> None:
    before = question(case)
    for name in ("result.txt", "plan.txt", "buildkit.txt"):
        (case.folder / name).write_text("x")
    assert question(case) == before


def test_an_answer_is_of_one_question_to_one_version(case: Case) -> None:
    answers = Answers("buildkit", "v1", {"case": Answer(question(case), "answer")})
    assert answers.of(case, "v1") == "answer"
    assert answers.of(case, "v2") is None
    (case.folder / "Dockerfile").write_text("FROM scratch\n")
    assert answers.of(Case(case.folder), "v1") is None


def test_errors_are_one_answer_and_results_are_each_their_own() -> None:
    assert answer_of("error: one") == answer_of("error: two") == ERROR
    assert len({answer_of("files\n"), answer_of("files"), ERROR}) == 3


@pytest.mark.parametrize("peer", ["buildkit", "buildah"])
def test_answers_are_kept_of_real_cases(peer: str) -> None:
    kept = Answers.kept(peer)
    assert kept.version
    assert len(kept.by_case) > 100
    assert {name for name in kept.by_case if not (CASES / name / "case.toml").exists()} == set()
