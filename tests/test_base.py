"""The ground floor: keyed random numbers, parts from recipes, whole files, the progress line."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from wavefold.core import random
from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_json, write_whole
from wavefold.core.progress import Progress, clock
from wavefold.core.registry import build_part, check_options, optional
from wavefold.data.dataset import Dataset, class_names, class_word, number_labels
from wavefold.data.lazy import by_blocks, row_blocks


def test_keyed_numbers_belong_to_the_sample_not_to_its_batch():
    samples = torch.tensor([5, 9, 10**12])
    together = random.uniform(3, samples, 7)
    alone = torch.cat([random.uniform(3, samples[i : i + 1], 7) for i in range(3)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, random.uniform(4, samples, 7))
    assert torch.equal(random.normal(3, samples, 5)[1:2], random.normal(3, samples[1:2], 5))


def test_keyed_numbers_are_uniform_and_normal():
    samples = torch.arange(40_000)
    uniform = random.uniform(1, samples, 4)
    assert 0 < uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    counts = np.histogram(uniform.numpy(), bins=20, range=(0, 1))[0]
    assert ((counts - 8000) ** 2 / 8000).sum() < 43.8  # chi-square with 19 degrees, 0.1 %
    normal = random.normal(1, samples, 4).numpy()
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert np.abs(np.corrcoef(normal.T) - np.eye(4)).max() < 0.02


def test_keys_differ_with_every_number():
    keys = {random.key(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(keys) == 1000
    assert all(-(2**63) <= k < 2**63 for k in keys)


def part(size: int, *, rate: float = 0.1, kind: str = "a") -> tuple[int, float, str]:
    """Something to build."""
    return size, rate, kind


def test_parts_are_built_from_options_of_the_right_type():
    assert build_part({"part": part}, "part", {"rate": 1}, "step", size=3) == (3, 1.0, "a")
    for options, words in (
        ({"rte": 1}, "step.rte: no such option; did you mean 'rate'"),
        ({"rate": "x"}, "step.rate: 'x'"),
        ({"size": 1}, "step.size: no such option"),
    ):
        with pytest.raises(UserError, match=words):
            build_part({"part": part}, "part", options, "step", size=3)
    with pytest.raises(UserError, match="did you mean 'part'"):
        build_part({"part": part}, "prat", {}, "step")
    with pytest.raises(UserError, match=r"step\.size: must be set"):
        check_options(part, {}, "step")


def test_an_absent_package_names_its_extra():
    absent = optional("no_such_package", extra="boost")
    with pytest.raises(UserError, match=r"pip install 'wavefold\[boost\]'"):
        absent.anything()
    assert optional("json", extra="boost").loads("1") == 1


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def torn(stream):
        stream.write(b"half")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_whole(path, torn)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_labels_are_words_in_their_natural_order():
    assert class_names(["10", "9", "10"]) == ("9", "10")
    assert class_names(["qso", "galaxy"]) == ("galaxy", "qso")
    assert [class_word(w) for w in ("0.0", "0", " 1.00", "1.5", "v1.0")] == ["0", "0", "1", "1.5", "v1.0"]
    assert number_labels(["b", "a"], ("a", "b"), [2, 3], "f.csv").tolist() == [1, 0]
    with pytest.raises(DataError, match=r"f\.csv 3: label 'quasr' is not one of galaxy, qso"):
        number_labels(["qso", "quasr"], ("galaxy", "qso"), [2, 3], "f.csv")


def test_a_dataset_takes_samples_in_order():
    data = Dataset(np.arange(6, dtype=np.float32).reshape(3, 1, 2), np.array(["a", "b", "c"]), np.array([0, 1, 0]), ("x", "y"))
    taken = data.take(np.array([2, 0]))
    assert taken.ids.tolist() == ["c", "a"]
    assert taken.known_labels().tolist() == [0, 0]
    assert taken.signals[:, 0, 0].tolist() == [4, 0]
    with pytest.raises(DataError, match="has no labels"):
        Dataset(data.signals, data.ids, source="x.csv").known_labels()


def test_the_progress_line_tells_the_truth():
    progress = Progress("training", 1000, "samples", io.StringIO())
    progress.skip(500)
    assert progress.line(750, 10.0, "epoch 3") == "training   75 %  25 samples/s  10 s left  epoch 3"
    assert [clock(s) for s in (41.6, 190, 7500)] == ["42 s", "3 min 10 s", "2 h 5 min"]


def test_json_files_hold_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": (float("inf"),)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.5], "b": [None]}


def test_blocks_are_together_what_the_whole_is_in_memory_or_in_a_file(tmp_path):
    signals = np.arange(9000 * 3, dtype=np.float32).reshape(9000, 1, 3)
    index = np.arange(8999, -1, -2)
    for most in (1 << 30, 1000):
        made = by_blocks(lambda block: block[..., :2] * 2, signals, tmp_path / "run", index, most=most)
        np.testing.assert_array_equal(made, signals[index][..., :2] * 2)
        assert isinstance(made, np.memmap) == (most == 1000)
        assert not list(tmp_path.rglob("*.*"))  # the file has no name
    assert by_blocks(lambda block: block, signals[:0], tmp_path).shape == (0, 1, 3)
    assert [(r.start, r.stop) for r in row_blocks(9000, 4000)] == [(0, 4000), (4000, 8000), (8000, 9000)]


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert str(UserError("a.csv: the id is 'x\ny\x00\u2028z', ")) == r"a.csv: the id is 'x\ny\x00\u2028z', "
