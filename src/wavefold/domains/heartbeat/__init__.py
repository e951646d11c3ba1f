"""Heartbeats: beats of an electrocardiogram, cut from records or read from a contest's table; whole records of 12 leads."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.heartbeat.contest_csv import write_contest
from wavefold.domains.heartbeat.layouts import LAYOUTS
from wavefold.domains.heartbeat.simulate import simulate_beats
from wavefold.domains.heartbeat.simulate_ecg12 import simulate_ecg12
from wavefold.domains.heartbeat.wfdb import fetch
from wavefold.domains.heartbeat.write_ptbxl import write_ptbxl

DOMAIN = Domain(
    name="heartbeat",
    words=Words(sample=("beat", "beats"), group=("patient", "patients")),
    words_by_simulator={"ecg12": Words(sample=("record", "records"), group=("patient", "patients"))},
    layouts=LAYOUTS,
    remotes={"physionet:": fetch},
    simulators={"ecg": simulate_beats, "ecg12": simulate_ecg12},
    writers={"contest": write_contest, "ptbxl": write_ptbxl},
    transforms={"crop_tail": "wavefold.domains.heartbeat.crop:CropTail"},
)
