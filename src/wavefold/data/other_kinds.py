"""Files that hold samples in a form that no layout reads: what they are, and the line of Python that makes one that is read."""

from __future__ import annotations

from pathlib import Path

_FRAME = ".to_csv('{stem}.csv', index=False)"
_ARRAYS = (
    "numpy.savez('{stem}.npz', signals=SIGNALS, labels=LABELS) with SIGNALS (sample, position) or (sample, channel, position)"
)
_HOW = {  # suffix -> what such a file is, and how it is converted
    ".tsv": ("a table with tabs", "pandas.read_csv('{name}', sep='\\t'{header})" + _FRAME),
    ".tab": ("a table with tabs", "pandas.read_csv('{name}', sep='\\t'{header})" + _FRAME),
    ".arff": (
        "an ARFF file",
        "pandas.DataFrame(scipy.io.arff.loadarff('{name}')[0]).map(lambda v: v.decode() if isinstance(v, bytes) else v)"
        + _FRAME,
    ),
    ".xlsx": ("an Excel workbook", "pandas.read_excel('{name}')" + _FRAME),
    ".xls": ("an Excel workbook", "pandas.read_excel('{name}')" + _FRAME),
    ".json": ("a JSON file", "pandas.read_json('{name}')" + _FRAME),
    ".jsonl": ("a JSON Lines file", "pandas.read_json('{name}', lines=True)" + _FRAME),
    ".pkl": ("a pickle (opening one runs its code)", "pandas.read_pickle('{name}')" + _FRAME),
    ".pickle": ("a pickle (opening one runs its code)", "pandas.read_pickle('{name}')" + _FRAME),
    ".npy": (
        "one NumPy array",
        "numpy.savez('{stem}.npz', signals=numpy.load('{name}'), labels=LABELS) for an array (sample, position)",
    ),
    ".mat": ("a MATLAB file", "SIGNALS = scipy.io.loadmat('{name}')['NAME'] and " + _ARRAYS),
    ".h5": ("an HDF5 file", "SIGNALS = h5py.File('{name}')['NAME'][()] and " + _ARRAYS),
    ".hdf5": ("an HDF5 file", "SIGNALS = h5py.File('{name}')['NAME'][()] and " + _ARRAYS),
    ".edf": ("an EDF recording", "mne.io.read_raw_edf('{name}').get_data() to be cut into samples, and " + _ARRAYS),
    ".bdf": ("a BDF recording", "mne.io.read_raw_bdf('{name}').get_data() to be cut into samples, and " + _ARRAYS),
}


def unread_kind(path: Path, first_line: bytes) -> str:
    """What a file is and how to convert it, for an error message; '' for an unknown suffix. first_line: of its text."""
    kind, how = _HOW.get(path.suffix.lower(), ("", ""))
    if not kind:
        return ""
    if path.suffix.lower() == ".mat" and path.with_suffix(".hea").is_file():
        return f"is the signal of a WFDB record; give the path of {path.stem}.hea, or of the folder"
    words = first_line.split(b"\t")
    header = ", header=None" if len(words) > 1 and all(map(_is_number, words)) else ""
    made = how.replace("{name}", path.name).replace("{stem}", path.name.split(".")[0]).replace("{header}", header)
    return f"is {kind}, which is not read; convert it, such as by {made}"


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
