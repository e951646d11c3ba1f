"""No number changes unseen: runs and readers give what the golden record says, which `golden.py` explains."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import LAYOUTS, RUNS, as_kept, record_layout, record_run, recorded, this_platform, without_a_file

NEEDS = ("lightgbm", "skops", "wfdb", "astropy", "xarray", "zarr", "h5netcdf", "h5py", "PIL", "onnxruntime", "onnxscript")
for _package in NEEDS:
    pytest.importorskip(_package, reason=f"the golden record needs {_package}: pip install 'wavefold[all]'")

ANEW = "if that is meant, say why in the commit and run `python tests/golden.py --write`"
NEAR = 0.1  # what a metric may differ by on another platform, or else lie in the recorded interval


def differences(made: dict, kept: dict) -> list[str]:
    """The names under which two records differ."""
    return [name for name in sorted({*made, *kept}) if made.get(name, "absent") != kept.get(name, "absent")]


def test_the_record_is_of_every_run_and_layout() -> None:
    assert differences(dict.fromkeys(RUNS), dict.fromkeys(recorded()["runs"])) == [], ANEW
    assert differences(dict.fromkeys(LAYOUTS), dict.fromkeys(recorded()["layouts"])) == [], ANEW
    assert without_a_file() == [], "write a small file of each layout in golden.py"


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_reader_makes_of_its_layout_what_it_made(name: str, tmp_path: Path) -> None:
    made, kept = as_kept(record_layout(name, tmp_path)), recorded()["layouts"][name]
    told = [f"{part}: {made.get(part)} instead of {kept.get(part)}" for part in differences(made, kept)]
    assert not told, "\n".join([f"{name} is read otherwise; {ANEW}", *told])


LONG = {"cadence", "cadence_one_fold"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in RUNS])
def test_a_run_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    made, kept = as_kept(record_run(name, tmp_path)), recorded()["runs"][name]
    here, there = this_platform(), recorded()["platform"]
    if here == there:
        told = [f"{kind}: {part}" for kind in ("files", "answers", "scores") for part in differences(made[kind], kept[kind])]
        assert not told, "\n".join([f"the run {name} gives other numbers; {ANEW}", *told])
        return
    for kind in ("files", "answers", "scores"):
        assert sorted(made[kind]) == sorted(kept[kind]), f"the run {name} has other {kind}; {ANEW}"
    far = [
        f"{metric}: {made['scores'][metric][0]}, recorded {value} [{low}, {high}]"
        for metric, (value, low, high) in kept["scores"].items()
        if not low <= made["scores"][metric][0] <= high and abs(made["scores"][metric][0] - value) > NEAR
    ]
    assert not far, "\n".join([f"the run {name} scores far from the record", *far])
    pytest.skip(f"scores are near the record's, but bits are those of another platform: {', '.join(differences(here, there))}")
