"""Forecasts maps in time order: temperature, rain, event counts."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.maps.layouts import LAYOUTS
from wavefold.domains.maps.simulate import simulate_digits, simulate_squares
from wavefold.domains.maps.write import write_frames

DOMAIN = Domain(
    name="maps",
    words=Words(sample=("frame", "frames"), group=("block of time", "blocks of time")),
    series_layouts=LAYOUTS,
    series_simulators={"squares": simulate_squares, "digits": simulate_digits},
    series_writers={"frames": write_frames},
)
