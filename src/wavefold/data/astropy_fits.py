"""FITS files by astropy, the extra `astronomy`: the one place that imports it."""

from __future__ import annotations

from wavefold.core.registry import optional

fits = optional("astropy.io.fits", extra="astronomy")
