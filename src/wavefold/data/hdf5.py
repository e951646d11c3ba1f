"""Opens HDF5 files with h5py, which the extras `radio` and `grids` install."""

from wavefold.core.registry import optional

h5py = optional("h5py", extra="radio")
