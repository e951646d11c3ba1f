"""The spectra study behind the README's figures; it adds its rows to benchmarks/results.csv.

python benchmarks/spectra.py STUDY [DATA], DATA holds lamost, spex_prism and miles; three seeds, each with a split of its own.
STUDY real is the recipe as it stands, both has the source's second stage too: an hour and a half on one core, or two.
benchmarks/stages.py compares the stages net by net.
"""

from __future__ import annotations

from studies import Trainings, run_study

SETS = [(data, seed) for data in ("lamost", "spex_prism", "miles") for seed in range(3)]
STUDIES: dict[str, Trainings] = {
    "real": {f"{data} seed {seed}": (data, [f"seed={seed}"]) for data, seed in SETS},
    "both": {f"{data} seed {seed}": (data, [f"seed={seed}", "stage.1.epochs=10"]) for data, seed in SETS},
}

if __name__ == "__main__":
    run_study("spectra", STUDIES)
