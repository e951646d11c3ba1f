"""Heartbeats: beats of an electrocardiogram, cut from records or read from a contest's table."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.heartbeat.contest_csv import write_contest
from wavefold.domains.heartbeat.crop import CropTail
from wavefold.domains.heartbeat.layouts import LAYOUTS
from wavefold.domains.heartbeat.simulate import simulate_beats
from wavefold.domains.heartbeat.wfdb import fetch

DOMAIN = Domain(
    name="heartbeat",
    words=Words(sample=("beat", "beats"), group=("patient", "patients")),
    layouts=LAYOUTS,
    remotes={"physionet:": fetch},
    simulators={"ecg": simulate_beats},
    writers={"contest": write_contest},
    transforms={"crop_tail": CropTail},
)
