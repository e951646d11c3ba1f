"""The spectra study behind the README's figures; it adds its rows to benchmarks/results.csv.

python benchmarks/spectra.py real [DATA], DATA holds lamost, spex_prism and miles: the recipe as it stands with three seeds,
each with a split of its own. About an hour and a half on one core; benchmarks/stages.py compares the two stages.
"""

from __future__ import annotations

from studies import Trainings, run_study

STUDIES: dict[str, Trainings] = {
    "real": {
        f"{data} seed {seed}": (data, [f"seed={seed}"]) for data in ("lamost", "spex_prism", "miles") for seed in range(3)
    },
}

if __name__ == "__main__":
    run_study("spectra", STUDIES)
