"""Windows of past and later frames, and their split by time: training, validation, test, with gaps between.

Windows overlap in time, so a shuffled split would leak test frames into training. A part contains the windows that lie
entirely inside its frames, and `gap` frames are left out before the next part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavefold.core.errors import DataError, UserError
from wavefold.data.dataset import Strings
from wavefold.data.lazy import Ints, blocks_of
from wavefold.data.series import Seconds, Series, Windows


def cut_windows(
    series: Series, *, past: int, ahead: int, stride: int = 1, crop: Sequence[int] = (), crop_stride: Sequence[int] = ()
) -> Windows:
    """Every window of `past` and `ahead` frames in every gapless stretch, `stride` frames apart, on every crop.

    crop: rows and columns, () for whole frames; crop_stride: rows and columns between crops, () for adjacent crops. Crops
    that would cross the edge are left out. Windows are ordered by time, then row, then column. DataError if no stretch is
    long enough, UserError for invalid numbers.
    """
    _need_whole(past, 1, "windows.past")
    _need_whole(ahead, 0, "windows.ahead")
    _need_whole(stride, 1, "windows.stride")
    first = _starts(series, past, ahead, stride)
    size, top, left = _crops(series.size, crop, crop_stride)
    return Windows(series, np.repeat(first, len(top)), np.tile(top, len(first)), np.tile(left, len(first)), past, ahead, size)


def _starts(series: Series, past: int, ahead: int, stride: int) -> Ints:
    """Numbers of the windows' first frames, in order."""
    lengths, need = series.ends - series.starts, past + ahead
    counts = np.maximum(0, (lengths - need) // stride + 1)
    if not counts.any():
        longest = f"the longest gapless stretch has {lengths.max(initial=0)} frame{'s' if lengths.max(initial=0) != 1 else ''}"
        raise DataError(f"{series.source or 'series'}: {longest}; a window needs {need} ({past} past and {ahead} ahead)")
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first: Ints = np.repeat(series.starts, counts) + stride * within
    return first


def _crops(size: tuple[int, int], crop: Sequence[int], stride: Sequence[int]) -> tuple[tuple[int, int], Ints, Ints]:
    """Size of the crops and their first rows and columns, from the top left, row by row."""
    rows, columns = _two(crop, "windows.crop") if len(crop) else size
    if rows > size[0] or columns > size[1]:
        raise UserError(
            f"windows.crop: {rows} x {columns} is larger than the frames, which are {size[0]} x {size[1]} (rows x columns)"
        )
    down, across = _two(stride, "windows.crop_stride") if len(stride) else (rows, columns)
    top, left = np.meshgrid(np.arange(0, size[0] - rows + 1, down), np.arange(0, size[1] - columns + 1, across), indexing="ij")
    return (rows, columns), top.ravel().astype(np.int64), left.ravel().astype(np.int64)


@dataclass(frozen=True)
class TimeSplit:
    """Numbers of the windows of each part, in time order."""

    train: Ints
    validation: Ints
    test: Ints

    @property
    def judged(self) -> Ints:
        """The windows to score: the test part, or the validation part if there is no test part."""
        return self.test if len(self.test) else self.validation


def split_by_time(windows: Windows, *, validation: float = 0.15, test: float = 0.15, gap: int = -1) -> TimeSplit:
    """Assign windows to the part that contains them entirely: training first, then validation, then test.

    validation, test: fractions of the series' frames, counted from its end; training has the rest. gap: frames left out
    before each of the two, -1 for the window length. A cut within a window length of a stretch's start moves there. At such
    a start, the time gap before it counts towards `gap`; without times, stretches are independent sequences and need no gap.
    UserError if a part gets no window.
    """
    return split_rolling(windows, cuts=1, validation=validation, test=test, gap=gap)[0]


def split_rolling(
    windows: Windows, *, cuts: int = 0, validation: float = 0.15, test: float = 0.15, gap: int = -1
) -> list[TimeSplit]:
    """Rolling origins (Tashman 2000): `cuts` splits by time, whose test parts follow one another and end with the series.

    Each has all earlier frames for training and validation, so the training part grows from split to split. cuts: 0 takes 3,
    or 1 where frames have no times and sequences no order. validation, test: of each split, as fractions of all frames; gap:
    as in `split_by_time`. UserError if a part of a split gets no window.
    """
    gap = windows.length if gap == -1 else gap
    _need_shares(validation, test, gap)
    if cuts < 0:
        raise UserError(f"split.cuts: {cuts} is too small; it must be 1 or more, or 0 for the usual number")
    cuts = cuts or (1 if windows.series.times is None or not test else _CUTS)
    if cuts > 1 and not test:
        raise UserError(f"split.cuts: {cuts} cuts need a test part each; set split.test, or split.cuts=1")
    total, made = len(windows.series), list[TimeSplit]()
    sizes, end = (round(total * validation), round(total * test)), total
    for _ in range(cuts):
        split, end = _split_before(windows, end, sizes, gap)
        made.insert(0, split)
    return made


_CUTS = 3  # rolling origins, if the recipe does not say


def _split_before(windows: Windows, total: int, sizes: tuple[int, int], gap: int) -> tuple[TimeSplit, int]:
    """Split the first `total` frames, with about these sizes of validation and test part; and where the test part begins."""
    validation, test = sizes
    test_from = _cut(windows, total, test)
    before_test = test_from - (_left_out(windows.series, test_from, gap) if test else 0)
    validation_from = _cut(windows, before_test, validation)
    train_to = validation_from - (_left_out(windows.series, validation_from, gap) if validation else 0)
    spans = {"train": (0, train_to), "validation": (validation_from, before_test), "test": (test_from, total)}
    parts = {name: _inside(windows, *span) for name, span in spans.items()}
    wanted = {"train": 1, "validation": validation, "test": test}
    empty = [name for name in parts if wanted[name] and not len(parts[name])]
    if empty:
        frames = ", ".join(f"{name} {max(0, high - low)}" for name, (low, high) in spans.items() if wanted[name])
        part = "the first" if total < len(windows.series) else "the"
        raise UserError(
            f"split: no window fits in the {empty[0]} part; {part} {total} frames are divided into {frames} (gap {gap}), and "
            f"a window needs {windows.length} consecutive frames; change split.cuts, split.test, split.validation, split.gap, "
            f"windows.past or windows.ahead"
        )
    return TimeSplit(**parts), test_from


def _cut(windows: Windows, end: int, frames: int) -> int:
    """The first frame of a part of about `frames` frames that ends before `end`: a stretch's start where one is near."""
    cut = max(0, end - frames)
    if not frames:
        return cut
    starts = windows.series.starts
    near = starts[(np.abs(starts - cut) < windows.length) & (starts > 0) & (starts <= end - windows.length)]
    return int(near[np.argmin(np.abs(near - cut))]) if len(near) else cut


def _left_out(series: Series, cut: int, gap: int) -> int:
    """Frames to leave out before a part that begins at `cut`: the gap minus the steps already missing between the times."""
    if cut not in series.starts:
        return gap
    if series.times is None or not series.step or cut == 0:
        return 0
    apart = (series.times[cut] - series.times[cut - 1]) / series.step
    return 0 if apart <= 0 else max(0, gap + 1 - round(apart))  # times that go back belong to another sequence


def _inside(windows: Windows, low: int, high: int) -> Ints:
    return np.flatnonzero((windows.first >= low) & (windows.first + windows.length <= high)).astype(np.int64)


def time_blocks(windows: Windows, index: Ints | slice = slice(None)) -> Strings:
    """A block label per window, (n,), shared by windows that begin in the same window-length block of a stretch.

    For resampling that keeps overlapping windows together: "2:5" is the sixth block of the third stretch.
    """
    first = windows.first[index]
    stretch = np.searchsorted(windows.series.starts, first, side="right") - 1
    block = (first - windows.series.starts[stretch]) // windows.length
    return np.char.add(np.char.add(stretch.astype(np.str_), ":"), block.astype(np.str_))


def finite_share(windows: Windows, *, targets: int = 0) -> Seconds:
    """Fraction of the later frames' cells that have a value, (n,), over the first `targets` channels (0: all)."""
    frames, (rows, columns) = windows.series.frames, windows.size
    corners, place = np.unique(np.stack([windows.top, windows.left]), axis=1, return_inverse=True)
    (top, left), (bottom, right) = corners, corners + np.array([[rows], [columns]])
    counts = np.zeros((len(frames) + 1, len(top)), np.int64)  # (time, crop): values in all frames before
    for numbers, values in blocks_of(frames):
        there = np.isfinite(values[:, : targets or None]).sum(axis=1)
        sums = np.pad(there.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))  # above and to the left of each corner
        counts[numbers.start + 1 : numbers.stop + 1] = (
            sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
        )
    counts = counts.cumsum(axis=0)
    place, begin = place.reshape(-1), windows.first + windows.past
    cells = max(1, windows.ahead) * rows * columns * (targets or frames.shape[1])
    share: Seconds = (counts[begin + windows.ahead, place] - counts[begin, place]) / cells
    return share


def _two(numbers: Sequence[int], key: str) -> tuple[int, int]:
    """Rows and columns; UserError unless there are two numbers above 0."""
    if len(numbers) != 2 or min(numbers) < 1:
        raise UserError(f"{key}: got {list(numbers)}; expected two numbers above 0, rows and columns")
    return int(numbers[0]), int(numbers[1])


def _need_whole(value: int, least: int, key: str) -> None:
    if value < least:
        raise UserError(f"{key}: {value} is too small; it must be {least} or more")


def _need_shares(validation: float, test: float, gap: int) -> None:
    for key, share in (("split.validation", validation), ("split.test", test)):
        if not 0 <= share < 1:
            raise UserError(f"{key}: {share:g} is out of range; it must be at least 0 and below 1")
    if validation + test >= 1:
        raise UserError(f"split.validation: {validation:g} and split.test {test:g} leave no frames to train on")
    if gap < -1:
        raise UserError(f"split.gap: {gap} is out of range; expected 0 or more frames, or -1 for the window length")
