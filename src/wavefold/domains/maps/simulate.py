"""Simulates frames: moving squares after the ConvLSTM example of Keras, and moving digits after Moving MNIST.

Squares: each film has 3 to 7 squares of half-width 2 or 3 pixels. They start anywhere in the frame, move by -1, 0 or 1 pixel
per frame along each axis, and run off its edges. Values add up and are clipped at 1. As noise, each square of an input frame
gets, in half of the cases, a faint square of +-0.1 on top, a pixel wider; the frames to be forecast have none.

Digits: the two digits of a film start anywhere, move in any direction by 0.1 of their free range per frame, and bounce off the
edges; where they overlap, the larger value counts (Srivastava, Mansimov and Salakhutdinov 2015). Each channel is its own film.

Films are pure functions of (seed, number): the first films of a large count equal those of a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wavefold.core.errors import DataError, UserError
from wavefold.core.registry import later
from wavefold.data.lazy import LARGE, Floats, Ints, Lazy, Signals, row_blocks
from wavefold.data.series import Series, join_stretches
from wavefold.data.series_options import Reading
from wavefold.domains.maps.arrays import channel_names, read_array

datasets, ndimage = later("sklearn.datasets"), later("scipy.ndimage")

Render = Callable[[Ints, Ints], Floats]  # film numbers and frame numbers, (frame,) each -> (frame, row, column)

_MOST, _FEWEST = 7, 3  # squares
_HALVES = (2, 3)  # half-widths, pixels
_NOISE = 0.1
_DIGIT, _FRAME = 28, 64  # pixels, of MNIST and of Moving MNIST
_SPEED = 0.1  # fraction of the free range per frame
_TOGETHER = 2  # digits per film


def simulate_squares(count: int, seed: int, *, shape: Sequence[int], past: int, ahead: int) -> Series:
    """Simulate films of squares that move and leave the frame, with faint noise on the first `past` frames; values 0 to 1.

    shape: [channels, rows, columns]; each of `count` films is a stretch of past + ahead frames.
    """
    channels, rows, columns = _checked(count, shape, past, ahead, "squares")
    films = _draw_squares(count * channels, seed, rows, columns, past)
    return _series(count, channels, past + ahead, partial(_render_squares, films), (rows, columns), f"squares, seed {seed}")


def simulate_digits(count: int, seed: int, *, shape: Sequence[int], past: int, ahead: int, digits: str = "") -> Series:
    """Simulate films of two digits that move and bounce off the edges, values 0 to 1.

    shape: [channels, rows, columns]; each of `count` films is a stretch of past + ahead frames. Digits are 28 pixels wide,
    fewer if the frame is below 64. digits: an .npz with `images` (digit, row, column), such as MNIST's; "" takes the digits
    bundled with scikit-learn, smoothly enlarged.
    """
    channels, rows, columns = _checked(count, shape, past, ahead, "digits")
    glyphs = _glyphs(digits, max(2, min(_DIGIT, rows * _DIGIT // _FRAME, columns * _DIGIT // _FRAME)))
    films = _draw_digits(count * channels, seed, glyphs, (rows, columns), past + ahead)
    return _series(count, channels, past + ahead, partial(_render_digits, films), (rows, columns), f"digits, seed {seed}")


def _checked(count: int, shape: Sequence[int], past: int, ahead: int, name: str) -> tuple[int, int, int]:
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 8:
        raise UserError(
            f"data.shape: simulator '{name}' needs [channels, rows, columns] with 8 pixels or more, got {list(shape)}"
        )
    if count < 1 or past < 1 or ahead < 0:
        raise UserError(f"simulator '{name}' needs 1 or more films of 1 or more past frames, got {count} of {past} + {ahead}")
    return shape[0], shape[1], shape[2]


def _series(count: int, channels: int, length: int, render: Render, size: tuple[int, int], words: str) -> Series:
    make = partial(_make, render, channels, length, size)
    shape = (channels, *size)
    numbers = np.arange(count * length)
    frames: Signals = Lazy(make, numbers, shape)
    if 4 * len(numbers) * math.prod(shape) <= LARGE:
        frames = frames[:]
    starts, names = join_stretches([f"film-{i + 1}" for i in range(count)], [length] * count)
    return Series(frames, starts, names, channels=channel_names(channels), source=f"simulated {words}")


def _make(render: Render, channels: int, length: int, size: tuple[int, int], numbers: Ints) -> Floats:
    """Render frames by number, (frame, channel, row, column), block by block; each channel is its own film."""
    made = np.empty((len(numbers), channels, *size), np.float32)
    for block in row_blocks(len(numbers), 1024, values=channels * math.prod(size)):
        films, frames = np.divmod(numbers[block], length)
        films = (films[:, None] * channels + np.arange(channels)).ravel()
        made[block] = render(films, np.repeat(frames, channels)).reshape(-1, channels, *size)
    return made


@dataclass(frozen=True)
class _Squares:
    """Parameters of each film of squares, axes (film, square); `noise` is (film, square, past frame)."""

    start: Ints  # (film, square, 2) row and column of the centre
    move: Ints  # (film, square, 2) pixels per frame
    half: Ints
    there: NDArray[np.bool_]
    noise: Floats
    size: tuple[int, int]


def _draw_squares(films: int, seed: int, rows: int, columns: int, past: int) -> _Squares:
    drawn = np.random.default_rng(seed).random((films, 1 + _MOST * (5 + past)))  # a row per film: more films change none
    each = drawn[:, 1:].reshape(films, _MOST, 5 + past)
    count = _FEWEST + (drawn[:, 0] * (_MOST - _FEWEST + 1)).astype(np.int64)
    quarter = each[..., 5:] * 4  # half have noise, with either sign
    return _Squares(
        start=(each[..., :2] * (rows, columns)).astype(np.int64),
        move=(each[..., 2:4] * 3).astype(np.int64) - 1,
        half=np.array(_HALVES)[(each[..., 4] * len(_HALVES)).astype(np.int64)],
        there=np.arange(_MOST) < count[:, None],
        noise=(_NOISE * np.where(quarter < 1, 1, np.where(quarter < 2, -1, 0))).astype(np.float32),
        size=(rows, columns),
    )


def _render_squares(films: _Squares, film: Ints, frame: Ints) -> Floats:
    """Render squares as outer products of a row stripe and a column stripe, so that a frame is one matrix product."""
    middle = films.start[film] + films.move[film] * frame[:, None, None]  # (frame, square, 2)
    half = films.half[film]
    past = films.noise.shape[2]
    faint = films.noise[film, :, np.minimum(frame, past - 1)] * (frame < past)[:, None]
    weight = np.concatenate([np.ones_like(faint), faint], axis=1) * np.tile(films.there[film], 2)
    reach = np.concatenate([half, half + 1], axis=1)
    middle = np.concatenate([middle, middle], axis=1)
    down, across = (_stripes(middle[..., axis], reach, films.size[axis]) for axis in (0, 1))
    made: Floats = np.clip((down * weight[..., None]).swapaxes(1, 2) @ across, 0, 1)
    return made


def _stripes(middle: Ints, half: Ints, length: int) -> Floats:
    """1 from middle - half up to, but excluding, middle + half: (frame, square, length)."""
    away = np.arange(length) - middle[..., None]
    return ((away >= -half[..., None]) & (away < half[..., None])).astype(np.float32)


@dataclass(frozen=True)
class _Digits:
    """Parameters of each film of digits."""

    glyphs: Floats  # (glyph, row, column)
    which: Ints  # (film, digit) glyphs
    corner: Ints  # (film, digit, frame, 2) top row and left column
    size: tuple[int, int]


def _draw_digits(films: int, seed: int, glyphs: Floats, size: tuple[int, int], length: int) -> _Digits:
    drawn = np.random.default_rng(seed).random((films, _TOGETHER, 4))
    place, angle = drawn[..., 1:3].copy(), 2 * np.pi * drawn[..., 3]
    move = _SPEED * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    free = np.array(size) - glyphs.shape[1:]
    corner = np.empty((films, _TOGETHER, length, 2), np.int64)
    for frame in range(length):
        corner[:, :, frame] = np.round(place * free)
        place += move
        move = np.where((place <= 0) | (place >= 1), -move, move)
        np.clip(place, 0, 1, out=place)
    return _Digits(glyphs, (drawn[..., 0] * len(glyphs)).astype(np.int64), corner, size)


def _render_digits(films: _Digits, film: Ints, frame: Ints) -> Floats:
    made = np.zeros((len(film), *films.size), np.float32)
    places = sliding_window_view(made, films.glyphs.shape[1:], axis=(1, 2), writeable=True)
    numbers = np.arange(len(film))
    for digit in range(_TOGETHER):
        top, left = films.corner[film, digit, frame].T
        glyph = films.glyphs[films.which[film, digit]]
        places[numbers, top, left] = np.maximum(places[numbers, top, left], glyph) if digit else glyph
    return made


def _glyphs(path: str, side: int) -> Floats:
    """Load digits (glyph, row, column) of `side` x `side` pixels, values 0 to 1."""
    images: NDArray[np.floating]
    if path:
        images, most = _images(Path(path).expanduser()), 255.0
    else:
        images, most = datasets.load_digits().images, 16.0
    if images.shape[1:] != (side, side):
        down, across = (_spline(length, side) for length in images.shape[1:])
        images = down @ images @ across.T
    glyphs: Floats = np.clip(images.astype(np.float32) / np.float32(most), 0, 1)
    return glyphs


def _spline(length: int, side: int) -> Floats:
    """The matrix (side, length) of cubic-spline interpolation from `length` to `side` values."""
    weights: Floats = ndimage.zoom(
        np.eye(length, dtype=np.float32), (side / length, 1), order=3, grid_mode=True, mode="nearest"
    )
    return weights


def _images(path: Path) -> NDArray[np.float32]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an .npz of digits with images (digit, row, column)")
    return read_array(path, Reading(variable="images")).frames[:][:, 0]
