"""Files that hold frames in a form that no layout reads: what they are, and the line of Python that makes one that is read."""

from __future__ import annotations

from pathlib import Path

from wavefold.core.errors import UserError
from wavefold.domains.maps.images import pictures

_FILM = (
    "numpy.save('{stem}.npy', numpy.stack([numpy.asarray({frame}) "
    "for f in PIL.ImageSequence.Iterator(PIL.Image.open('{name}'))]))"
)
_ARRAY = "numpy.save('{stem}.npy', h5py.File('{name}')['NAME'][()]) with NAME one of its arrays (time, row, column)"
_GRIB = "xarray.open_dataset('{name}', engine='cfgrib').to_netcdf('{stem}.nc')"
_VIDEO = "numpy.save('{stem}.npy', imageio.v3.imread('{name}').mean(axis=-1))"
_KINDS = {  # suffixes -> what such a file is, and how it is converted
    (".grib", ".grib1", ".grib2", ".grb", ".grb2"): ("a GRIB file", _GRIB),
    (".h5", ".hdf5", ".hdf", ".he5"): ("an HDF5 file", _ARRAY),
    (".mat",): ("a MATLAB file", _ARRAY.replace("h5py.File('{name}')['NAME'][()]", "scipy.io.loadmat('{name}')['NAME']")),
    (".txt", ".asc"): ("a table of numbers", "numpy.save('{stem}.npy', numpy.loadtxt('{name}')) for each frame, in a folder"),
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg"): ("a video", _VIDEO),
    (".gif",): ("a film", _FILM.replace("{frame}", "f.convert('L')")),
    (".tif", ".tiff"): ("a stack of images", _FILM.replace("{frame}", "f")),
}


def other_frames(path: Path) -> str:
    """What a file is and how to convert it, for an error message; '' for an unknown suffix, and for a single image."""
    suffix = path.suffix.lower()
    for suffixes, (kind, how) in _KINDS.items():
        if suffix in suffixes:
            if suffix in (".gif", ".tif", ".tiff") and _images_in(path) < 2:
                return ""
            made = how.replace("{name}", path.name).replace("{stem}", path.name.split(".")[0])
            return f"is {kind}, which is not read; convert it, such as by {made}"
    return ""


def _images_in(path: Path) -> int:
    """The number of images in a file; 0 if it cannot be opened."""
    try:
        with pictures.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    except UserError:
        raise
    except Exception:  # pillow raises errors of many kinds
        return 0
