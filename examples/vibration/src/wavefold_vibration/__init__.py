"""Vibrations: faults of rolling-element bearings, heard by an accelerometer on the machine."""

from wavefold.domains.base import Domain, Words
from wavefold_vibration.recordings import LAYOUT, write_recordings
from wavefold_vibration.simulate import simulate_bearings

DOMAIN = Domain(
    name="vibration",
    words=Words(sample=("recording", "recordings"), group=("machine", "machines")),
    layouts={"bearings": LAYOUT},
    simulators={"bearings": simulate_bearings},
    writers={"bearings": write_recordings},
)
