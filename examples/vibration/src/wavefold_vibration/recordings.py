"""A folder of recordings: `recordings.csv` (`file,fault,machine`) beside mono 16-bit WAV files of one length and rate."""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from wavefold.core.errors import DataError, UserError
from wavefold.core.files import write_text, write_whole
from wavefold.data.csv_text import column_place, read_words
from wavefold.data.dataset import Dataset, Floats, check_ids
from wavefold.data.layout import Found, Layout
from wavefold.data.table import Table, label_words

TABLE, COLUMNS = "recordings.csv", "file,fault,machine"


def sniff(path: Path) -> float:
    """1 for a WAV file or a table of recordings, less for the folder of one."""
    return 1.0 if path.suffix == ".wav" or path.name == TABLE else 0.9 * (path / TABLE).is_file()


def locate(path: Path) -> Found:
    """The table and all WAV files beside it, or one WAV file without a label; DataError where there are none."""
    table = path / TABLE if path.is_dir() else path
    if not table.is_file() or table.suffix not in (".csv", ".wav"):
        raise DataError(f"{path}: expected a folder with {TABLE} ({COLUMNS}) beside .wav files, or one .wav file")
    beside = table.parent.glob("*.wav") if table.suffix == ".csv" else ()
    return Found(table, "bearings", (table, *sorted(beside)))


def read_recordings(path: Path, *, label_column: str = "", group: str = "", labels: bool = True) -> Table:
    """Signals (recording, 1, position), -1 to 1, of a table or of one WAV file, with the other columns of the table."""
    words, lines = ({"file": [path.name]}, np.array([1])) if path.suffix == ".wav" else read_words(path, COLUMNS)
    wanted = ["file", label_column or "fault"] if labels else ["file"]
    names = [list(words)[column_place(list(words), name, path.name)] for name in wanted]
    files, *faults = map(words.pop, names)
    ids = check_ids([file.removesuffix(".wav") for file in files], lines, path.name)
    rates, waves = zip(*(_read_wave(path, int(line), file) for line, file in zip(lines, files, strict=True)), strict=True)
    for file, rate, wave in zip(files, rates, waves, strict=True):
        if (rate, len(wave)) != (rates[0], len(waves[0])):
            expected = f"expected {len(waves[0])} at {rates[0]} Hz as in {files[0]}"
            raise DataError(f"{file}: has {len(wave)} values at {rate} Hz, {expected}")
    signals, columns = np.stack(waves)[:, None], {name: np.array(column, np.str_) for name, column in words.items()}
    return Table(signals, ids, lines, label_words(faults[0]) if faults else None, columns, unit=f"1/{rates[0]} s")


def _read_wave(table: Path, line: int, file: str) -> tuple[int, Floats]:
    """The sample rate in Hz and the values (position,) of a file that stands beside the table and in a line of it."""
    path = table.with_name(file) if file == Path(file).name else table
    if path.suffix != ".wav" or not path.is_file():
        raise DataError(f"{table.name} line {line}: no file '{file}'; expected the name of a .wav file beside {table.name}")
    try:
        rate, values = wavfile.read(path)
    except Exception as error:  # of any kind, where a file is damaged
        raise DataError(f"{file}: cannot be read ({error}); expected a mono 16-bit WAV file") from None
    if values.dtype != np.int16 or values.ndim != 1 or not len(values):
        raise DataError(f"{file}: has {values.dtype} values of shape {values.shape}, expected a mono 16-bit WAV file")
    return rate, values.astype(np.float32) / 32768


def write_recordings(dataset: Dataset, folder: Path) -> Path:
    """Write the table and one WAV file per recording, clipped to -1 to 1; UserError if the table already exists."""
    table, rate = folder / TABLE, int(dataset.unit.removeprefix("1/").removesuffix(" s"))
    if table.exists():
        raise UserError(f"{table}: already exists; choose another folder")
    values = np.clip(np.round(np.asarray(dataset.signals)[:, 0] * 32768), -32768, 32767).astype(np.int16)
    machines = [""] * len(dataset) if dataset.groups is None else dataset.groups.tolist()
    rows = [COLUMNS]
    for name, wave, label, machine in zip(dataset.ids, values, dataset.known_labels(), machines, strict=True):
        write_whole(folder / f"{name}.wav", partial(wavfile.write, rate=rate, data=wave))
        rows.append(f"{name}.wav,{dataset.classes[label]},{machine}")
    write_text(table, "\n".join(rows) + "\n")
    return table


LAYOUT = Layout(read_recordings, sniff, locate, suffixes=(".wav",), one_file=False, groups=("machine",))
