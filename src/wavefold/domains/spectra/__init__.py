"""Spectra of stars, galaxies and quasars, read from txt files of fluxes and from FITS files of LAMOST and SDSS."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.spectra.layouts import LAYOUTS
from wavefold.domains.spectra.simulate import simulate_spectra
from wavefold.domains.spectra.simulate_stellar import simulate_stellar
from wavefold.domains.spectra.write import write_spectra

DOMAIN = Domain(
    name="spectra",
    words=Words(sample=("spectrum", "spectra"), group=("star", "stars")),
    layouts=LAYOUTS,
    simulators={"spectra": simulate_spectra, "stellar_parameters": simulate_stellar},
    writers={"spectra": write_spectra},
    transforms={"continuum": "wavefold.domains.spectra.continuum:Continuum"},
)
