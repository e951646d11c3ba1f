"""The heartbeat studies behind the README's figures; each adds its rows to benchmarks/results.csv.

python benchmarks/heartbeat.py STUDY [DATA], STUDY one of random, record, contest, net5, balance; DATA holds mitbih_beats and
heartbeat. random and record take about half an hour on two cores, the others a quarter of an hour each.
"""

from __future__ import annotations

from studies import Trainings, run_study

BEATS, CONTEST = "mitbih_beats", "heartbeat"
NETS = ",".join(f'{{model="net{n}"}}' for n in (1, 2, 3, 4, 6))
ONE = 'member=[{model="net1"}]'
SMALL = ["stage.*.epochs=20", "batches.size=64"]
BY_RECORD = "split={way='kfold',folds=5,group='record',validation=0.1}"
ONCE = "split={way='kfold',folds=5,validation=0.1}"
TWICE = "split={way='kfold',folds=5,repeats=2,validation=0.1}"
STEPS = {"none": "", "repeat": "{step='repeat'}", "smote": "{step='smote'}", "gan": "{step='gan'}"}
STUDIES: dict[str, Trainings] = {
    "random": {"recipe": (BEATS, [])},
    "record": {"net1": (BEATS, [BY_RECORD, ONE, "stage.*.epochs=5"])},
    "contest": {"all": (CONTEST, [TWICE, f'member=[{NETS},{{model="lightgbm"}}]', *SMALL])},
    "net5": {"alone": (CONTEST, [ONCE, 'member=[{model="net5"}]', *SMALL])},  # 107 million weights: most of the time
    "balance": {k: (CONTEST, [ONCE, ONE, f"prepare=[{v}]", 'output.baseline=""', *SMALL]) for k, v in STEPS.items()},
}

if __name__ == "__main__":
    run_study("heartbeat", STUDIES)
