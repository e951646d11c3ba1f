"""Rows of many files: block by block, in one process or several, killed and gone on with, the bad ones passed over."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavefold.core.errors import DataError
from wavefold.data.store import SIGNALS, Block, fill, settle, working_folder

WIDTH = 3
KILLED = """
import os, signal, sys
from pathlib import Path
from tests_parser import parse
from wavefold.data.store import fill
from functools import partial
fill(Path(sys.argv[1]), [str(i) for i in range(20)], 3, partial(parse, log=sys.argv[2], dies_at=11), name="x", block=4)
"""


def parse(entries: Sequence[str], log: str = "", dies_at: int = -1) -> Block:
    """A row n, n + 1, n + 2 for the entry n; a word is bad. Writes what it is asked for to a log, and may be killed."""
    if str(dies_at) in entries:
        os.kill(os.getpid(), signal.SIGKILL)
    if log:
        with open(log, "a") as stream:
            stream.write("".join(f"{entry}\n" for entry in entries))
    rows = np.array([[int(e) if e.isdigit() else -1] * WIDTH for e in entries], np.float32).reshape(-1, WIDTH)
    problems = ["" if e.isdigit() else f"{e} is bad" for e in entries]
    return Block(rows + np.arange(WIDTH, dtype=np.float32), problems, {"name": [f"n{e}" for e in entries]})


def filled(folder: Path, entries: Sequence[str], **options: Any) -> Any:
    return fill(folder, entries, WIDTH, partial(parse, log=options.pop("log", "")), name="some", **options)


@pytest.mark.parametrize("options", [{}, {"block": 4}, {"block": 1}, {"block": 4, "alone": 0}])
def test_rows_come_in_the_order_of_the_entries(tmp_path: Path, options: dict[str, int]) -> None:
    result = filled(tmp_path, [str(i) for i in range(10)], **options)
    assert result.signals.shape == (10, 1, WIDTH)
    assert result.signals[:, 0].tolist() == [[i, i + 1, i + 2] for i in range(10)]
    assert result.facts == {"name": [f"n{i}" for i in range(10)]}
    assert (result.kept.tolist(), dict(result.problems)) == (list(range(10)), {})
    result.signals[0] = 9  # stays in memory
    assert np.load(tmp_path / SIGNALS)[0].tolist() == [[0, 1, 2]]


def test_a_row_may_have_several_channels(tmp_path: Path) -> None:
    entries = ["5", "bad", "7"]
    for _ in range(2):  # the second call finds the first one's rows
        result = filled(tmp_path, entries, channels=WIDTH, skip_bad=True)
        assert result.signals.tolist() == [[[5], [6], [7]], [[7], [8], [9]]]
    settle(tmp_path)
    assert np.load(tmp_path / SIGNALS).shape == (2, WIDTH, 1)


@pytest.mark.parametrize("alone", [0, 100])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_the_first_bad_entry_is_named_whoever_finds_it(tmp_path: Path, alone: int, block: int) -> None:
    entries = [str(i) for i in range(8)] + ["x", "9", "y", "11", "z"]
    with pytest.raises(DataError, match=r"^x is bad$"):
        filled(tmp_path / "one", entries, block=block, alone=alone)
    with pytest.raises(DataError, match=r"^5 has no file$"):
        filled(tmp_path / "other", entries, block=block, alone=alone, known={5: "5 has no file", 9: "nor 9"})


@pytest.mark.parametrize("options", [{"block": 2}, {"block": 100}, {"block": 2, "alone": 0}])
def test_bad_entries_are_passed_over(tmp_path: Path, options: dict[str, int]) -> None:
    result = filled(tmp_path, ["a", "1", "b", "c", "4", "5", "d"], known={5: "5 has no file"}, skip_bad=True, **options)
    assert result.signals[:, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert result.kept.tolist() == [1, 4]
    assert result.facts["name"] == ["n1", "n4"]
    bad = {0: "a is bad", 2: "b is bad", 3: "c is bad", 5: "5 has no file", 6: "d is bad"}
    assert dict(result.problems) == bad


def test_blocks_of_long_rows_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavefold.data.store._VALUES", 2 * WIDTH + 1)
    sizes: list[int] = []

    def watched(entries: Sequence[str]) -> Block:
        sizes.append(len(entries))
        return parse(entries)

    result = fill(tmp_path, ["0", "1", "2", "3", "4"], WIDTH, watched, name="some")
    assert sizes == [2, 2, 1]
    assert result.signals[:, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_squeezing_crosses_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavefold.data.store._PIECE", 2 * 4 * WIDTH)
    entries = [str(i) if i % 3 else f"bad{i}" for i in range(20)]
    kept = [i for i in range(20) if i % 3]
    assert filled(tmp_path, entries, skip_bad=True).signals[:, 0, 0].tolist() == kept


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^some: none of the 2 spectra can be read; the first error: a is bad$"):
        filled(tmp_path, ["a", "b"], skip_bad=True)


def test_a_killed_filling_goes_on_with_the_missing_blocks(tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    (tmp_path / "tests_parser.py").write_text(Path(__file__).read_text())
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = subprocess.run([sys.executable, "-c", KILLED, folder, log], env=env, check=False).returncode
    assert code == -signal.SIGKILL
    assert log.read_text().split() == [str(i) for i in range(8)]
    result = filled(folder, [str(i) for i in range(20)], block=4, log=str(log))
    assert log.read_text().split() == [str(i) for i in range(20)]  # none of them twice
    whole = filled(tmp_path / "other", [str(i) for i in range(20)], block=4)
    np.testing.assert_array_equal(result.signals, whole.signals)
    assert (result.digest, result.facts) == (whole.digest, whole.facts)
    assert (folder / SIGNALS).read_bytes() == (tmp_path / "other" / SIGNALS).read_bytes()


def interrupted(folder: Path, entries: Sequence[str]) -> Path:
    """A folder in which the entries were parsed in blocks of 2 as far as the one that is bad; its blocks' lines."""
    with pytest.raises(DataError):
        filled(folder, entries, block=2)
    return folder / "blocks.jsonl"


def test_a_torn_line_counts_as_missing(tmp_path: Path) -> None:
    blocks, log = interrupted(tmp_path, ["0", "1", "2", "3", "x"]), tmp_path / "log"
    blocks.write_bytes(blocks.read_bytes()[:-20])
    result = filled(tmp_path, ["0", "1", "2", "3", "x"], block=2, skip_bad=True, log=str(log))
    assert log.read_text().split() == ["x"]
    assert result.signals[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_rows_that_are_not_as_their_line_says_are_parsed_again(tmp_path: Path) -> None:
    interrupted(tmp_path, ["0", "1", "2", "3", "x"])
    np.lib.format.open_memmap(tmp_path / SIGNALS, mode="r+")[2] = 77  # as after a power cut
    result = filled(tmp_path, ["0", "1", "2", "3", "x"], block=2, skip_bad=True, log=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().split() == ["2", "3"]
    assert result.signals[:, 0, 0].tolist() == [0, 1, 2, 3]


def test_a_bad_entry_is_looked_at_again(tmp_path: Path) -> None:
    interrupted(tmp_path, ["0", "1", "2", "x"])
    log = tmp_path / "log"
    with pytest.raises(DataError, match="x is bad"):
        filled(tmp_path, ["0", "1", "2", "x"], block=2, log=str(log))
    assert log.read_text().split() == ["2", "x"]  # what was wrong may have been mended, such as a disk that was away
    filled(tmp_path, ["0", "1", "2", "x"], block=2, log=str(log), skip_bad=True)
    assert log.read_text().split() == ["2", "x"]


def test_lines_of_other_blocks_are_not_believed(tmp_path: Path) -> None:
    blocks = interrupted(tmp_path, ["0", "1", "2", "3", "x"])
    line = json.loads(blocks.read_text().splitlines()[0])
    blocks.write_text(
        "".join(json.dumps({**line, **more}) + "\n" for more in ({"size": 9}, {"block": 7})) + '[]\n{"block": 0, "size": 2}\n'
    )
    result = filled(tmp_path, ["0", "1", "2", "3", "4"], block=2, log=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3", "4"]
    assert len(result.signals) == 5


def test_an_array_of_another_shape_is_begun_anew(tmp_path: Path) -> None:
    interrupted(tmp_path, ["0", "1", "x"])
    assert filled(tmp_path, ["5", "6"], block=2).signals[:, 0, 0].tolist() == [5, 6]


def test_who_is_killed_after_the_last_block_parses_nothing_again(tmp_path: Path) -> None:
    entries, log = ["0", "x", "2", "3", "4"], tmp_path / "log"
    for _ in range(2):
        result = filled(tmp_path / "store", entries, block=2, skip_bad=True, log=str(log))
        assert log.read_text().split() == entries
        assert (result.signals[:, 0, 0].tolist(), dict(result.problems)) == ([0, 2, 3, 4], {1: "x is bad"})
    settle(tmp_path / "store")
    assert [file.name for file in (tmp_path / "store").iterdir()] == [SIGNALS]
    assert np.load(tmp_path / "store" / SIGNALS)[:, 0, 0].tolist() == [0, 2, 3, 4]


def test_rows_that_were_passed_over_come_back_when_they_are_good(tmp_path: Path) -> None:
    assert len(filled(tmp_path, ["0", "1", "2"], known={1: "1 has no file"}, skip_bad=True, block=2).signals) == 2
    assert len(filled(tmp_path, ["0", "1", "2"], block=2).signals) == 3
    settle(tmp_path)
    assert np.load(tmp_path / SIGNALS)[:, 0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("last", ["2", "x"])
def test_the_array_is_on_the_disk_before_it_is_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    filled(tmp_path, ["0", "1", last], skip_bad=True)
    settle(tmp_path)
    assert flushed == [(tmp_path / SIGNALS).stat().st_ino]


def test_a_full_disk_keeps_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room"):
        filled(tmp_path, ["0", "1"])
    assert not list(tmp_path.iterdir())


def test_without_a_store_the_array_outlives_its_folder() -> None:
    with working_folder(None) as folder:
        result = filled(folder, ["1", "2"])
    assert not folder.exists()
    assert result.signals[:, 0, 0].tolist() == [1, 2]
