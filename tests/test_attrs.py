"""What a source states of its signals changes the result, is compared, converted or refused by name."""

import numpy as np
import pytest

import wavefold
from wavefold.core.errors import DataError, UserError
from wavefold.data.units import conversion, is_same


def write(path, columns, rows, labels=None):
    head = ",".join(["id", *columns, *(["label"] if labels is not None else [])])
    lines = [
        ",".join([f"s{i}", *(f"{v:.5g}" for v in row), *([labels[i]] if labels is not None else [])])
        for i, row in enumerate(rows)
    ]
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """A run that tells rising from falling ramps, and its rows."""
    folder = tmp_path_factory.mktemp("ramps")
    rng, ramp = np.random.default_rng(0), np.linspace(0, 1, 16)
    rows = np.concatenate([ramp + 0.1 * rng.normal(size=(30, 16)), ramp[::-1] + 0.1 * rng.normal(size=(30, 16))])
    labels, names = ["up"] * 30 + ["down"] * 30, [f"t{k}" for k in range(16)]
    data = write(folder / "train.csv", names, rows, labels)
    changes = {"member": [{"model": "kernels"}], "split.validation": 0.2, "output.baseline": ""}
    run = wavefold.train("heartbeat", data, out=folder / "run", quick=True, overrides=changes, log=lambda _: None)
    return folder, run, names, rows, labels


def accuracy(run, path, warn=lambda _: None):
    return run.score(path, warn=warn).as_json()["others"]["accuracy"]


@pytest.mark.parametrize("order", [sorted, lambda names: names[::-1]], ids=["text order", "reversed"])
def test_columns_are_matched_by_name(ramps, order, tmp_path):
    _, run, names, rows, labels = ramps
    usual = write(tmp_path / "usual.csv", names, rows, labels)
    there = order(names)
    other = write(tmp_path / "other.csv", there, rows[:, [names.index(n) for n in there]], labels)
    said = []
    assert accuracy(run, other, said.append) == accuracy(run, usual) > 0.9
    assert any("put in the order of the training file" in line for line in said)
    assert run.predict(other, warn=said.append).probabilities.tolist() == run.predict(usual).probabilities.tolist()


def test_columns_of_other_names_are_refused(ramps, tmp_path):
    _, run, names, rows, labels = ramps
    other = write(tmp_path / "other.csv", [f"{4000 + 2 * k}" for k in range(len(names))], rows, labels)
    with pytest.raises(DataError, match=r"column '4000' is not among those of the run, which has 't0' there"):
        run.score(other)
    with pytest.raises(UserError, match="column '4000'"):
        run.predict(other)


def test_check_and_run_keep_what_the_source_states(ramps):
    _, run, names, _, _ = ramps
    assert run.metadata.positions == tuple(names)


@pytest.mark.parametrize(
    ("unit", "into", "factor", "offset"),
    [
        ("nm", "angstrom", 10, 0),
        ("Angstrom", "0.1 nm", 1, 0),
        ("degC", "K", 1, 273.15),
        ("deg C", "celsius", 1, 0),
        ("mV", "uV", 1000, 0),
        ("mm h-1", "mm/hour", 1, 0),
        ("1e-17 erg/s/cm2/Angstrom", "erg/s/cm2/angstrom", 1e-17, 0),
        ("dBZ", "dbz", 1, 0),
    ],
)
def test_units(unit, into, factor, offset):
    assert conversion(unit, into) == pytest.approx((factor, offset))
    assert is_same(unit, into) == ((factor, offset) == (1, 0))


@pytest.mark.parametrize(("unit", "into"), [("adu", "mV"), ("mV", "K"), ("", "mV"), ("nonsense of sorts", "K")])
def test_units_that_do_not_convert(unit, into):
    with pytest.raises(DataError, match=f"unit '{unit}' cannot be converted to '{into}'"):
        conversion(unit, into)
