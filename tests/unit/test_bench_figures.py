"""The bench's own arithmetic: medians, ratios, the table; what it counts; which workloads there are."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import memory, verify
from bench.arguments import UnknownWorkload, chosen_by, parser
from bench.builders.model import LeftOut
from bench.builders.table import BUILDERS
from bench.figures import OURS, Figures, Measured, Results
from bench.proxy import CountingProxy
from bench.table import markdown
from bench.workloads import FULL, SMALL, named_only, workloads

RUN = Measured(10.0, 200 * 1024, 80 * 1024, 5_000_000, 1_000_000, 2_000_000, 7)


def results() -> Results:
    """Ours takes 4.25 s, BuildKit 10 s, buildah 12 s, which has the least of all runs of peers."""
    runs = {
        "buildah": [replace(RUN, seconds=seconds) for seconds in (8.0, 13.0, 12.0)],
        "buildkit": [RUN, replace(RUN, seconds=30.0), replace(RUN, seconds=9.0)],
        OURS: [replace(RUN, seconds=4.25, memory=50 * 1024)],
    }
    return Results("copies files", runs, {"kaniko": "first line\nlast | line"})


def test_ratios_are_to_the_fastest_peer_by_medians() -> None:
    found = results()
    assert found.fastest_peer == "buildkit"  # its least time isn't what counts, nor its most
    assert [found.ratio(builder) for builder in found.builders] == [0.425, 1.2, 1.0]
    assert found.builders == [OURS, "buildah", "buildkit"]


def test_without_a_peer_there_is_no_ratio() -> None:
    alone = Results("alone", {OURS: [RUN], "buildkit": []})
    assert alone.fastest_peer == ""
    assert alone.ratio(OURS) is None
    assert "| 10.0 |  |" in markdown(Figures("here", {"w6-8": alone}))


def test_the_table_has_every_figure_and_what_is_missing() -> None:
    page = markdown(Figures("two cores", {"w3": results()}, {"kaniko": "not to be had"}, {"inflate": 2.5}))
    assert "- inflate: 2.50 s" in page
    assert "| w3 | imagewright | 4.25 | 0.42 | 50 | 80 | 5.0 | 1.0 | 2.0 | 7 |" not in page  # down, written, up
    assert "| w3 | imagewright | 4.25 | 0.42 | 50 | 80 | 5.0 | 2.0 | 1.0 | 7 |" in page
    assert "|  | buildkit | 10.0 (9.0 to 30.0) | 1.00 |" in page
    assert "- w3: copies files" in page
    assert "- left out: kaniko: not to be had" in page
    assert "- left out: w3 kaniko: first line last | line" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {11}


def test_a_long_reason_is_cut_to_its_end() -> None:
    page = markdown(Figures("here", left_out={"buildkit": "x" * 1000 + " the cause"}))
    (line,) = (line for line in page.splitlines() if "left out" in line)
    assert len(line) < 350
    assert line.endswith("the cause")


def test_json_has_everything() -> None:
    figures = Figures("two cores", {"w3": results()}, {"kaniko": "no"}, {"inflate": 2.0})
    assert Figures.of_json(json.loads(json.dumps(figures.to_json()))) == figures


@pytest.mark.parametrize("scale", [FULL, SMALL], ids=lambda scale: scale.name)
def test_workloads_are_those_of_the_plan(scale: object) -> None:
    assert scale in (FULL, SMALL)
    found = workloads(scale)  # type: ignore[arg-type]
    names = [workload.name for workload in found]
    assert len(set(names)) == len(names)
    cold = [f"w{n}" for n in range(1, 8)]
    assert names == [*cold, "w8-w1", "w8-w2", "w8-w3", "w8-w4", "w9", "w10", "w10b", "w10c", "w11-w2", "w11-w4"]
    for workload in (*found, *named_only(scale)):  # type: ignore[arg-type]
        text = workload.dockerfile.format(host="r.example.com", scale="full")
        assert text.startswith("FROM r.example.com/")
        assert "{" not in text
        assert workload.change is None or workload.seeded


def test_large_files_are_at_most_3_gb_unless_they_are_named() -> None:
    assert max(workload.large_mb for workload in workloads(FULL)) == 3000
    assert [(one.name, one.large_mb, one.only) for one in named_only(FULL) if one.large_mb] == [
        ("w6-8", 8000, OURS),
        ("w6-10", 10_000, OURS),
    ]
    assert all(one.needs > 2 * one.large_mb * 1_000_000 for one in (*workloads(FULL), *named_only(FULL)))


def test_workloads_are_chosen_by_name_or_by_first_part() -> None:
    def names(*given: str) -> list[str]:
        return [workload.name for workload in chosen_by(given, FULL)]

    assert names("w8") == ["w8-w1", "w8-w2", "w8-w3", "w8-w4"]
    assert names("w6") == ["w6"]
    assert names("w6-8", "w10", "g75") == ["w10", "g75", "w6-8"]
    assert names("w1") == ["w1"]
    with pytest.raises(UnknownWorkload, match='no workload "w99"'):
        names("w1", "w99")
    assert len(names()) == len(workloads(FULL))


def test_help_says_how_to_run_one_workload_with_one_builder_once() -> None:
    assert "scripts/bench w9 --builder imagewright --runs 1 " in parser().format_help()


def test_a_builder_that_is_left_out_says_why() -> None:
    assert next(iter(BUILDERS)) == OURS
    assert LeftOut("no such program").left_out() == "no such program"


def test_the_relay_counts_both_directions() -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = bytearray()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    received.extend(data)
                connection.sendall(b"d" * 3_000_000)

        thread = threading.Thread(target=serve)
        thread.start()
        with CountingProxy(server.getsockname()[1]) as proxy:
            host, port = proxy.host.split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"u" * 1_000_000)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            thread.join()
            assert (len(received), len(answer)) == (1_000_000, 3_000_000)
            assert (proxy.up, proxy.down) == (1_000_000, 3_000_000)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert set(threading.enumerate()) <= before, "a relay that goes on closes its sockets during another test"


def test_memory_is_that_of_the_whole_tree_and_of_the_own_programs() -> None:
    """The builder uses 24 MiB and starts a command of RUN that uses 48 MiB: dd's buffer, while nobody reads."""
    code = "import subprocess; data = b'y' * (24 << 20); subprocess.run(['dd', 'if=/dev/zero', 'bs=48M', 'count=1'])"
    others = memory.children_now()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\0"
        with memory.watched([Path(sys.executable)], others) as peak:
            deadline = time.monotonic() + 20
            while not peak.tree and time.monotonic() < deadline:
                time.sleep(0.02)
        assert peak.tree > 72 << 10
        assert 24 << 10 < peak.own < peak.tree - (48 << 10) + 1
        with memory.watched([Path(sys.executable)], memory.children_now()) as nothing:
            time.sleep(0.25)
        assert nothing.tree == 0
    finally:
        process.kill()
        process.communicate()


def test_large_files_are_compared_with_what_their_command_writes() -> None:
    size = 2_500_000
    script = f"yes {'0123456789abcdef' * 4} | cut -c1-63 | head -c {size} | sha256sum"
    said = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.split()[0]
    assert verify.expected_digest(size) == said
