"""Promises that every layout keeps, over the tables of layouts: a new reader joins by a writer in `valid_sources.py`."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from valid_sources import FRAMES, SAMPLES, FrameSource, Samples, SampleSource, files_in, frames_of, mutated
from wavefold.core.errors import DataError, UserError
from wavefold.data import LAYOUTS, SERIES_LAYOUTS, Dataset, read, read_series
from wavefold.data.series import Series

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb, when pandas 3.1 is there
MISSING = ("nan", "NaN", "NA", "N/A", "None", "null", "")
EXAMPLES = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_LONG = 20  # s that a child process may read
_FAILING: dict[tuple[str, str], str] = {  # (promise, layout) -> why it is not kept yet
    ("prediction", "ptbxl"): "scp_codes are parsed even where no label is wanted: one cache entry serves both",
}


def layouts(promise: str, table: Any, wanted: Callable[[Any], object] = bool) -> Any:
    """Parametrise over the entries of a table to which a promise applies."""
    names = [name for name, entry in table.items() if wanted(entry)]
    marks = {
        name: [pytest.mark.xfail(strict=True, reason=_FAILING[promise, name])] for name in names if (promise, name) in _FAILING
    }
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks.get(name, [])) for name in names])


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_layout_of_samples_takes_part(name: str) -> None:
    taken = {source.layout or entry for entry, source in SAMPLES.items()}
    assert name in taken, f"layout '{name}' has no writer: add one to SAMPLES in tests/valid_sources.py"


@pytest.mark.parametrize("name", list(SERIES_LAYOUTS))
def test_every_layout_of_frames_takes_part(name: str) -> None:
    taken = {source.layout or entry for entry, source in FRAMES.items()}
    assert name in taken, f"layout '{name}' of frames has no writer: add one to FRAMES in tests/valid_sources.py"


def read_as(name: str, path: Path, **options: Any) -> Dataset:
    """What a layout reads, without the cache unless asked, and without warnings of packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path, **{"layout": SAMPLES[name].layout or name, "cache": False, **SAMPLES[name].options, **options})


def frames_as(name: str, path: Path) -> Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = read_series(path, FRAMES[name].reading, layout=FRAMES[name].layout or name)
        return series.with_frames(series.frames[:])


def words_of(data: Dataset) -> list[str]:
    return [data.classes[number] for number in data.known_labels().tolist()]


def refused(run: Callable[[], object], folder: Path) -> str:
    """The one line of the error of `run`, which names a file or folder of the source."""
    with pytest.raises(UserError) as caught:
        run()
    return one_line(caught.value, folder)


def one_line(error: UserError, folder: Path) -> str:
    words = str(error)
    assert len(words.splitlines()) == 1, words
    assert words.isprintable(), repr(words)
    names = {part for path in files_in(folder) for part in (path.name, path.stem, *path.relative_to(folder).parts)}
    assert any(name in words for name in {folder.name, *names}), words
    return words


# what a valid source gives


@layouts("round trip", SAMPLES)
def test_values_ids_and_labels_come_back(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    samples = source.samples()
    data = read_as(name, source.write(tmp_path / "src", samples))
    assert data.ids.tolist() == list(samples.ids)
    assert words_of(data) == list(samples.labels)
    np.testing.assert_allclose(data.signals[:], source.read_values(samples.values), atol=source.near, rtol=0)
    assert not data.left_out


@layouts("found", SAMPLES)
def test_the_layout_is_found(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    path = source.write(tmp_path / "src", source.samples())
    assert read_as(name, path, layout="auto").digest == read_as(name, path).digest


@layouts("prediction", SAMPLES)
def test_labels_are_ignored_for_prediction(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    samples = source.samples()
    strange = replace(samples, labels=["", "nan", *samples.labels[2:]]) if source.words else samples
    data = read_as(
        name, source.write(tmp_path / "src", strange), labels=False, **{k: "" for k in source.options if k[0] == "l"}
    )
    assert data.labels is None
    np.testing.assert_allclose(data.signals[:], source.read_values(samples.values), atol=source.near, rtol=0)


@layouts("round trip", FRAMES)
def test_frames_come_back(name: str, tmp_path: Path) -> None:
    source, frames = FRAMES[name], frames_of()
    series = frames_as(name, source.write(tmp_path / "src", frames))
    np.testing.assert_array_equal(series.frames[:, 0], source.read_frames(frames))


@layouts("hole", FRAMES, lambda source: source.holes)
def test_missing_cells_stay_missing(name: str, tmp_path: Path) -> None:
    frames = frames_of()
    frames[2, 1, 3] = np.nan
    series = frames_as(name, FRAMES[name].write(tmp_path / "src", frames))
    np.testing.assert_array_equal(np.isnan(series.frames[:, 0]), np.isnan(frames))


# what is refused, and how


@layouts("twice", SAMPLES, lambda source: source.twice)
def test_an_id_that_is_there_twice_is_refused_with_both_places(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    samples = source.samples()
    twice = replace(samples, ids=[samples.ids[0], samples.ids[0], *samples.ids[2:]])
    words = refused(lambda: read_as(name, source.write(tmp_path / "src", twice)), tmp_path / "src")
    for place in (samples.ids[0], *source.twice):
        assert re.search(rf"(?<![\w.]){re.escape(place)}(?!\w)", words), (place, words)


@pytest.mark.parametrize("word", MISSING)
@layouts("missing", SAMPLES, lambda source: source.words)
def test_a_word_for_missing_is_never_a_class(name: str, word: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    samples = source.samples()
    labels = [samples.labels[0], word, *samples.labels[2:]]
    path = source.write(tmp_path / "src", replace(samples, labels=labels))
    try:
        data = read_as(name, path)
    except UserError as error:
        words = one_line(error, tmp_path / "src")
        assert any(place in words for place in ("line 3", "sample 1", samples.ids[1], *source.hole)), words
    else:
        assert word not in data.classes
        assert len(data) < len(samples.ids)
        assert any(word in line for line in data.notes) or data.left_out


def with_hole(source: SampleSource) -> Samples:
    samples = source.samples()
    values = samples.values.copy()
    values[(1, *(length // 2 for length in source.shape))] = np.nan
    return replace(samples, values=values)


@layouts("hole", SAMPLES, lambda source: source.hole)
def test_a_value_that_is_no_number_is_refused_by_file_and_place(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    path = source.write(tmp_path / "src", with_hole(source))
    words = refused(lambda: read_as(name, path).signals[:], tmp_path / "src")
    assert any(place in words for place in source.hole), words


@layouts("hole skipped", SAMPLES, lambda source: source.hole)
def test_a_sample_with_such_a_value_is_left_out_when_asked_and_listed(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    samples = with_hole(source)
    data = read_as(name, source.write(tmp_path / "src", samples), skip_bad=True)
    kept = [number for number in range(len(samples.ids)) if number != 1]
    assert data.ids.tolist() == [samples.ids[number] for number in kept]
    assert words_of(data) == [samples.labels[number] for number in kept]
    np.testing.assert_allclose(data.signals[:], source.read_values(samples.values)[kept], atol=source.near, rtol=0)
    ((id_, reason),) = data.left_out
    assert id_ == samples.ids[1]
    assert any(place in reason for place in source.hole), reason
    assert "\n" not in reason


@layouts("broken", SAMPLES, lambda source: source.broken)
def test_one_broken_file_of_many_names_itself(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    path = source.write(tmp_path / "src", source.samples())
    part = tmp_path / "src" / source.broken
    part.write_bytes(part.read_bytes()[:7])
    words = refused(lambda: read_as(name, path).signals[:], tmp_path / "src")
    assert part.name.split(".")[0] in words


@layouts("broken skipped", SAMPLES, lambda source: source.broken)
def test_one_broken_file_of_many_is_left_out_when_asked_and_listed(name: str, tmp_path: Path) -> None:
    source = SAMPLES[name]
    path = source.write(tmp_path / "src", source.samples())
    part = tmp_path / "src" / source.broken
    part.write_bytes(part.read_bytes()[:7])
    data = read_as(name, path, skip_bad=True)
    stem = part.name.split(".")[0]
    assert 0 < len(data) < len(source.ids)
    assert not any(id_.split(":")[0] == stem for id_ in data.ids)
    assert any(stem in reason for _, reason in data.left_out)


@layouts("infinite", FRAMES, lambda source: source.infinite)
def test_an_infinite_cell_is_refused_by_file_and_frame(name: str, tmp_path: Path) -> None:
    frames = frames_of()
    frames[2, 1, 3] = np.inf
    words = refused(lambda: frames_as(name, FRAMES[name].write(tmp_path / "src", frames)), tmp_path / "src")
    assert "frame 2" in words
    assert "inf" in words


@layouts("broken", FRAMES, lambda source: source.broken)
def test_one_broken_file_of_frames_names_itself(name: str, tmp_path: Path) -> None:
    path = FRAMES[name].write(tmp_path / "src", frames_of())
    part = tmp_path / "src" / FRAMES[name].broken
    part.write_bytes(part.read_bytes()[:7])
    assert part.name in refused(lambda: frames_as(name, path), tmp_path / "src")


# damage of any kind


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, SampleSource | FrameSource], tuple[Path, Path]]:
    """A maker of the folder and path of a layout's valid source, written once."""
    there: dict[str, tuple[Path, Path]] = {}

    def written(name: str, source: SampleSource | FrameSource) -> tuple[Path, Path]:
        if name not in there:
            folder = tmp_path_factory.mktemp("valid") / "src"
            content = source.samples() if isinstance(source, SampleSource) else frames_of()
            there[name] = folder, source.write(folder, content)  # type: ignore[arg-type]
        return there[name]

    return written


def damaged(folder: Path, data: st.DataObject, run: Callable[[], object]) -> None:
    """Run after an accident to one file of a source: it gives something or raises a UserError of one line."""
    files = files_in(folder)
    file = files[data.draw(st.integers(0, len(files) - 1), label="file")]
    whole = file.read_bytes()
    try:
        file.write_bytes(mutated(whole, lambda n: data.draw(st.integers(0, n - 1))))
        run()
    except UserError as error:
        one_line(error, folder)
    finally:
        file.write_bytes(whole)


@layouts("damage", SAMPLES)
@given(data=st.data())
@EXAMPLES
def test_a_damaged_source_is_read_or_refused_in_one_line(name: str, data: st.DataObject, valid: Any) -> None:
    folder, path = valid(name, SAMPLES[name])
    damaged(folder, data, lambda: read_as(name, path, skip_bad=data.draw(st.booleans(), label="skip_bad")).signals[:])


@layouts("damage", FRAMES)
@given(data=st.data())
@EXAMPLES
def test_damaged_frames_are_read_or_refused_in_one_line(name: str, data: st.DataObject, valid: Any) -> None:
    folder, path = valid(name, FRAMES[name])
    alone = in_child if path.suffix == ".nc" else _call  # the HDF5 library may loop for ever
    damaged(folder, data, lambda: alone(lambda: frames_as(name, path)))


def _call(run: Callable[[], object]) -> None:
    run()


def in_child(run: Callable[[], object]) -> None:
    """Run in a child process; raises its UserError, and fails on any other end or if it takes too long."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LONG)
        words = b""
        try:
            run()
        except UserError as error:
            words = b"U" + str(error).encode()
        except BaseException:
            words = b"E" + traceback.format_exc().encode()
        os.write(theirs, words[:60_000])
        sys.stdout = sys.stderr = None
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        words = stream.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status), f"the reader was ended by signal {os.WTERMSIG(status)}"
    assert not words.startswith("E"), words
    if words:
        raise DataError(words[1:])


# identity


def identical(one: Dataset, other: Dataset) -> bool:
    """Whether two sources gave the same samples."""
    facts = [(d.ids.tolist(), d.unit, dict(d.attrs), {k: v.tolist() for k, v in d.columns.items()}) for d in (one, other)]
    labels = [None if d.labels is None else words_of(d) for d in (one, other)]
    axes = [None if d.axis is None else d.axis.tolist() for d in (one, other)]
    same = facts[0] == facts[1] and labels[0] == labels[1] and axes[0] == axes[1]
    return same and np.array_equal(one.signals[:], other.signals[:])


def edited(file: Path, new: bytes) -> None:
    """Other bytes in a file, with its time kept."""
    stat = file.stat()
    file.write_bytes(new)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@layouts("identity", SAMPLES, lambda source: not source.sealed)
def test_a_changed_file_changes_the_digest_and_is_not_served_from_the_cache(name: str, tmp_path: Path) -> None:
    """Also if its size and time are kept, wherever in the file it changed."""
    source = SAMPLES[name]
    samples = source.samples(count=source.many)
    place = len(samples.ids) // 2 if source.many else 0  # the middle of a long file
    values, labels = samples.values.copy(), list(samples.labels)
    values[place] = values[place][..., ::-1]
    labels[place] = next(word for word in labels if word != labels[place] and len(word) >= 1)
    path = source.write(tmp_path / "src", samples)
    source.write(tmp_path / "other", replace(samples, values=values, labels=labels))
    first = read_as(name, path, cache=True)
    assert identical(first, read_as(name, path, cache=True))
    changed = [f for f in files_in(tmp_path / "src") if f.read_bytes() != other_of(f, tmp_path).read_bytes()]
    assert changed
    for file in changed:
        old = file.read_bytes()
        edited(file, other_of(file, tmp_path).read_bytes())
        fresh, served = read_as(name, path), read_as(name, path, cache=True)
        assert identical(fresh, served), f"{file.name}: the cache serves what was there before"
        assert identical(fresh, first) or fresh.digest != first.digest, f"{file.name}: the digest is as before"
        assert fresh.digest == served.digest
        edited(file, old)
        assert read_as(name, path, cache=True).digest == first.digest


def other_of(file: Path, folder: Path) -> Path:
    return folder / "other" / file.relative_to(folder / "src")


@layouts("identity", FRAMES)
def test_a_changed_file_of_frames_changes_the_digest(name: str, tmp_path: Path) -> None:
    frames = frames_of()
    path = FRAMES[name].write(tmp_path / "src", frames)
    FRAMES[name].write(tmp_path / "other", frames[::-1])
    first = frames_as(name, path)
    assert frames_as(name, path).digest == first.digest != ""
    changed = [f for f in files_in(tmp_path / "src") if f.read_bytes() != other_of(f, tmp_path).read_bytes()]
    assert changed
    for file in changed:
        old = file.read_bytes()
        edited(file, other_of(file, tmp_path).read_bytes())
        assert frames_as(name, path).digest != first.digest, f"{file.name}: the digest is as before"
        edited(file, old)
