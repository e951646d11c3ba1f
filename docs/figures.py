"""Draws docs/figures/*.svg from the original FITS files, as Wavefold reads them: python docs/figures.py DATA

DATA holds `lamost/sample_fits`, `lamost/sample_fits_dr1` and `sdss_sample`. Needs the extras `astronomy` and `dev`.
The same files give the same bytes. Lines at the vacuum wavelengths of SDSS's table
(classic.sdss.org/dr6/algorithms/linestable.html), moved by the file's own z.
"""

import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
from astropy.io import fits
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from wavefold.data.rebin import grid_centres
from wavefold.domains.spectra.fits import parse_fits

FIGURES = {
    "lamost_dr10": [
        "lamost/sample_fits/spec-59635-HD073750N140231V02_sp12-180.fits.gz",
        "lamost/sample_fits/spec-59701-HD152630N280739V03_sp15-121.fits.gz",
        "lamost/sample_fits/spec-59730-KP190651N485531V08_sp03-182.fits.gz",
    ],
    "lamost_dr1": [
        f"lamost/sample_fits_dr1/spec-55862-B6212_sp06-{fibre}.fits.gz" for fibre in ("011", "003", "023", "006", "005")
    ],
    "sdss_star": ["sdss_sample/spec-4055-55359-0001.fits.gz"],
    "sdss_galaxy": ["sdss_sample/spec-4055-55359-0006.fits.gz"],
    "sdss_qso": ["sdss_sample/spec-6055-56102-0008.fits.gz"],
}
CALCIUM, MAGNESIUM, SODIUM = {"Ca K, H": 3934.78, "": 3969.59}, {"Mg b": 5176.63}, {"Na D": 5895.6}
BALMER = {"Hδ": 4102.89, "Hγ": 4341.68, "Hβ": 4862.68, "Hα": 6564.61}
STELLAR = {**CALCIUM, **BALMER, **MAGNESIUM, **SODIUM}
LINES = {
    "star": STELLAR,
    "galaxy": {"[O II]": 3728.48, **STELLAR, "[O III]": 5008.24, "[S II]": 6725.48},
    "qso": {"Lyα": 1215.67, "Si IV": 1397.61, "C IV": 1549.48, "C III]": 1908.73, "Mg II": 2799.12},
}
TELLURIC = {"B": (6868, 6945), "A": (7595, 7700)}  # oxygen bands of our own atmosphere, about, and not moved by z


def draw(name: str, files: list[str], data: Path, folder: Path) -> None:
    """One figure, a panel a file, to folder/name.svg."""
    paths = [data / file for file in files]
    step = max(4.0, 2.0 * len(files))  # keeps the files below 60 kB
    last = 10396.0 if name.startswith("sdss") else 9100.0
    grid = (3600.0, last, step)
    block = parse_fits([str(path) for path in paths], grid=grid)
    if any(block.problems):
        sys.exit("\n".join(block.problems))
    figure, panels = plt.subplots(len(files), 1, figsize=(8, 0.7 + 2.0 * len(files)), sharex=True, squeeze=False)
    for at, (panel, path) in enumerate(zip(panels[:, 0], paths, strict=True)):
        facts = {key: words[at] for key, words in block.facts.items()}
        draw_panel(panel, grid_centres(grid), block.rows[at], facts, named=at == 0)
        kind = f"{facts['class']} {facts['subclass']}".strip()
        panel.set_title(f"{path.name}: {kind}, z = {float(facts['z']):.4f}", fontsize=9, loc="left")
        panel.set_ylabel(flux_label(path), fontsize=8)
    panels[-1, 0].set_xlim(grid[0], grid[1])
    panels[-1, 0].set_xlabel("vacuum wavelength (angstrom), as observed", fontsize=8)
    figure.tight_layout()
    target = folder / f"{name}.svg"
    figure.savefig(target, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    target.write_text(shortened(target.read_text()))
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")


def draw_panel(panel: Axes, centres: np.ndarray, row: np.ndarray, facts: dict[str, str], *, named: bool) -> None:
    """A spectrum (position,) with its lines and the telluric bands; what no good pixel covers is left out."""
    inside = np.flatnonzero(row)
    centres, row = centres[inside[0] : inside[-1] + 1], row[inside[0] : inside[-1] + 1]
    low, high = np.quantile(row, [0.002, 0.998])
    room = high - low
    panel.plot(centres, row, color="#1f4e79", linewidth=0.6)
    panel.set_ylim(min(low, 0) - 0.03 * room, high + 0.30 * room)
    panel.tick_params(labelsize=7)
    panel.locator_params(axis="y", nbins=4)
    places = {word: rest * (1 + float(facts["z"])) for word, rest in LINES[facts["class"]].items()}
    places = {word: place for word, place in places.items() if centres[0] < place < centres[-1]}
    panel.vlines(list(places.values()), *panel.get_ylim(), color="#b03a2e", linewidth=0.5, linestyle=":")
    for start, end in TELLURIC.values():
        panel.axvspan(start, end, color="#cccccc", alpha=0.5, linewidth=0)
    if named:
        for word, place in places.items():
            panel.text(place, high + 0.28 * room, word, fontsize=7, color="#b03a2e", rotation=90, va="top", ha="right")
        for word, (_, end) in TELLURIC.items():
            height = float(np.interp(end, centres, row))
            free = low + (0.1 if height - low > 0.5 * room else 0.7) * room  # below the spectrum or above it
            panel.text(end, free, f" O₂ {word}", fontsize=7, color="#555555", ha="left")


def flux_label(path: Path) -> str:
    """The flux's unit as the header states it."""
    unit = str(fits.getheader(path, 0).get("BUNIT", ""))
    return f"flux density\n({unit})" if unit else "flux density\n(relative, no\nunit in header)"


def shortened(svg: str) -> str:
    """Without indents and idle rotations, and paths to a tenth of a point, which no eye can tell: half of the bytes."""
    svg = re.sub(r"\n\s+", "\n", re.sub(r' transform="rotate\(-0 [^"]*"', "", svg))
    return re.sub(r' d="[^"]*"', lambda found: _short(found[0]), svg)


def _short(path: str) -> str:
    path = " ".join(re.sub(r"(\.\d)\d+", r"\1", path).split())
    return " " + re.sub(r"(?<=\d) L (?=[\d-])", " ", path).replace(' "', '"')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "wavefold", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]})
    target_folder = Path(__file__).parent / "figures"
    target_folder.mkdir(exist_ok=True)
    for figure_name, names in FIGURES.items():
        draw(figure_name, names, Path(sys.argv[1]), target_folder)
