"""Filterbank files: written, read back slice by slice, and each thing that may be wrong with one said in one line."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.observation import (
    cut_windows,
    finite_windows,
    open_observation,
    open_scan,
    window_starts,
    write_scan,
)

h5py = pytest.importorskip("h5py")

HEADER = Header(fch1=8400.0, foff=-2.7939677e-6, tsamp=18.253611, tstart=59000.5, source_name="HIP1234")
POWER = np.random.default_rng(0).uniform(0, 250, (16, 300)).astype(np.float32)
SUFFIXES = (".h5", ".fil")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_scan_is_read_as_it_was_written(tmp_path, suffix):
    write_scan(tmp_path / f"scan{suffix}", POWER, HEADER)
    scan = open_scan(tmp_path / f"scan{suffix}")
    assert scan.header == HEADER
    assert scan.shape == (16, 300)
    np.testing.assert_array_equal(scan.read(0, 300), POWER)
    some = scan.read(17, 45)
    np.testing.assert_array_equal(some, POWER[:, 17:45])
    assert some.dtype == np.float32
    assert scan.frequency(100) == pytest.approx(8400 - 2.7939677e-4, abs=1e-12)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(DataError, match="channels 290 to 301 are out of range; the file has 300"):
        scan.read(290, 301)


@pytest.mark.parametrize(("bits", "most"), [(8, 255), (16, 65535)])
def test_whole_numbers_of_fewer_bits(tmp_path, bits, most):
    power = np.round(POWER / 250 * most)
    write_scan(tmp_path / "scan.fil", power, replace(HEADER, bits=bits))
    assert (tmp_path / "scan.fil").stat().st_size < POWER.size * bits // 8 + 400
    np.testing.assert_array_equal(open_scan(tmp_path / "scan.fil").read(0, 300), power)
    with pytest.raises(DataError, match=f"{bits}-bit values range from 0 to {most}, not -1"):
        write_scan(tmp_path / "scan.fil", power - 1 - power.min(), replace(HEADER, bits=bits))


def test_other_writers_headers_are_read(tmp_path):
    def packed(word):
        return struct.pack("<i", len(word)) + word.encode()

    words = b"".join(
        [
            packed("HEADER_START"),
            packed("rawdatafile") + packed("guppi_0001.raw"),
            packed("src_raj") + struct.pack("<d", 174540.04),
            packed("signed") + b"\x01",
            packed("fch1") + struct.pack("<d", 1500.0),
            packed("foff") + struct.pack("<d", 0.5),
            packed("tsamp") + struct.pack("<d", 1.0),
            packed("nchans") + struct.pack("<i", 4),
            packed("nbits") + struct.pack("<i", 32),
            packed("HEADER_END"),
        ]
    )
    (tmp_path / "a.fil").write_bytes(words + np.arange(8, dtype="<f4").tobytes())
    scan = open_scan(tmp_path / "a.fil")
    np.testing.assert_array_equal(scan.read(1, 3), [[1, 2], [5, 6]])
    assert scan.frequency(2) == 1501.0
    (tmp_path / "b.fil").write_bytes(words.replace(b"tsamp", b"tsump") + np.arange(8, dtype="<f4").tobytes())
    with pytest.raises(DataError, match=r"b\.fil: 'tsump' is not a SIGPROC header keyword; did you mean 'tsamp'"):
        open_scan(tmp_path / "b.fil")


def test_coarse_channels_are_the_telescopes_or_as_told(tmp_path):
    write_scan(tmp_path / "a.fil", POWER, HEADER)
    assert open_scan(tmp_path / "a.fil").coarse_channels == [range(300)]  # of 2^20, so a part of one
    assert open_scan(tmp_path / "a.fil", 128).coarse_channels == [range(128), range(128, 256), range(256, 300)]
    write_scan(tmp_path / "b.fil", POWER, replace(HEADER, foff=2.9296875 / 100))
    assert open_scan(tmp_path / "b.fil").coarse_channels == [range(100), range(100, 200), range(200, 300)]


def test_the_usual_compression_is_read(tmp_path):
    plugin = pytest.importorskip("hdf5plugin")
    write_scan(tmp_path / "a.h5", POWER, HEADER)
    with h5py.File(tmp_path / "a.h5") as whole, h5py.File(tmp_path / "b.h5", "w") as file:
        data = file.create_dataset("data", data=POWER[:, None], chunks=(1, 1, 64), **plugin.Bitshuffle(cname="lz4"))
        data.attrs.update({**whole["data"].attrs, "source_name": np.bytes_(b"HIP1234")})
    scan = open_scan(tmp_path / "b.h5")
    assert scan.header == HEADER
    np.testing.assert_array_equal(scan.read(60, 70), POWER[:, 60:70])


def broken_fil(path, change):
    write_scan(path, POWER, HEADER)
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b[:-3], r"a\.fil: 19,197 bytes of power are not a whole number of 1,200-byte rows; is the file truncated\?"),
        (lambda b: b[:-2400], r"a\.fil: has 14 rows, but its header says 16 \(nsamples\); is the file truncated\?"),
        (lambda b: b[:60], r"a\.fil: ends inside its header"),
        (lambda b: b[:-19200], r"a\.fil: 0 bytes of power"),
        (lambda b: b"id,label\n1,2\n", "not a filterbank file"),
        (lambda b: b"", "not a filterbank file"),
        (lambda b: b.replace(b"\x04\x00\x00\x00nifs\x01", b"\x04\x00\x00\x00nifs\x04"), "has 4 polarisation products"),
        (lambda b: b.replace(b"nbits\x20", b"nbits\x04"), "4 bits per value .nbits., expected one of 8, 16, 32"),
        (lambda b: b.replace(struct.pack("<d", 18.253611), struct.pack("<d", np.nan)), "tsamp is nan"),
        (lambda b: b.replace(struct.pack("<d", HEADER.foff), struct.pack("<d", 0)), "foff is 0, expected a number not 0"),
        (lambda b: b.replace(b"\x04\x00\x00\x00fch1", b"\x04\x00\x00\x00za_s"), "'za_s' is not a SIGPROC header keyword"),
        (lambda b: b.replace(b"\x04\x00\x00\x00fch1", b"\x06\x00\x00\x00period"), "its header has no fch1"),
    ],
)
def test_what_is_wrong_with_a_fil_is_one_line(tmp_path, change, said):
    broken_fil(tmp_path / "a.fil", change)
    with pytest.raises(DataError, match=said) as caught:
        open_scan(tmp_path / "a.fil")
    assert "\n" not in str(caught.value)


def spoil(path, change):
    write_scan(path, POWER, HEADER)
    with h5py.File(path, "r+") as file:
        change(file)


def replaced(file, shape, kind=np.float32, **how):
    attributes = dict(file["data"].attrs)
    del file["data"]
    file.create_dataset("data", shape, kind, **how).attrs.update(attributes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["data"].attrs.pop("foff"), r"a\.h5: data has no attribute foff; available: .*fch1"),
        (lambda f: f.move("data", "power"), r"a\.h5: not a filterbank file: it contains power but no dataset 'data'"),
        (lambda f: replaced(f, (16, 4, 300)), "has 4 polarisation products"),
        (lambda f: replaced(f, (16, 300)), r"data has the shape \(16, 300\), expected \(time, 1, channel\)"),
        (lambda f: replaced(f, (16, 1, 200)), "data has shape 16 x 200, but its header gives nchans=300"),
        (lambda f: f["data"].attrs.update({"tsamp": 0.0}), "tsamp is 0, expected a number above 0"),
        (lambda f: f["data"].attrs.update({"fch1": "high"}), "an attribute is not a number.*high"),
        (lambda f: replaced(f, (16, 1, 300), "S3"), r"a\.h5: data has type \|S3, expected numbers"),
        (lambda f: replaced(f, (16, 1, 300), np.complex64), r"a\.h5: data has type complex64, expected numbers"),
    ],
)
def test_what_is_wrong_with_an_h5_is_one_line(tmp_path, change, said):
    spoil(tmp_path / "a.h5", change)
    with pytest.raises(DataError, match=said) as caught:
        open_scan(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)


def point_by_link(file, other):
    del file["data"]
    file["data"] = h5py.ExternalLink(other, "data")


def point_by_storage(file, other):
    replaced(file, (1, 1, 300), np.uint8, external=[(other, 0, 300)])


def point_by_layout(file, other):
    attributes, layout = dict(file["data"].attrs), h5py.VirtualLayout((16, 1, 300), np.float32)
    layout[:] = h5py.VirtualSource(other, "data", (16, 1, 300))
    del file["data"]
    file.create_virtual_dataset("data", layout).attrs.update(attributes)


@pytest.mark.parametrize("point", [point_by_link, point_by_storage, point_by_layout])
def test_an_h5_never_reads_another_file(tmp_path, point):
    write_scan(tmp_path / "secret.h5", POWER, HEADER)
    spoil(tmp_path / "a.h5", lambda file: point(file, str(tmp_path / "secret.h5")))
    with pytest.raises(DataError, match=r"a\.h5: data is a link to another file; expected the values in this file"):
        open_scan(tmp_path / "a.h5")


def test_values_beyond_float32_become_infinite(tmp_path):
    spoil(tmp_path / "a.h5", lambda file: replaced(file, (16, 1, 300), np.float64, fillvalue=1e300))
    assert np.isinf(open_scan(tmp_path / "a.h5").read(0, 2)).all()


def test_a_step_next_to_nothing_makes_one_coarse_channel(tmp_path):
    write_scan(tmp_path / "a.fil", POWER, replace(HEADER, foff=1e-320))
    assert open_scan(tmp_path / "a.fil").coarse_channels == [range(300)]


def test_no_hdf5_a_cut_off_one_and_no_file_at_all(tmp_path):
    (tmp_path / "a.h5").write_text("id,label\n")
    write_scan(tmp_path / "b.h5", POWER, HEADER)
    (tmp_path / "b.h5").write_bytes((tmp_path / "b.h5").read_bytes()[:9000])
    for name in ("a.h5", "b.h5"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as HDF5: .*") as caught:
            open_scan(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"c\.h5: no such file"):
        open_scan(tmp_path / "c.h5")
    with pytest.raises(UserError, match=r"'\.raw' is not a filterbank suffix, expected one of \.h5"):
        open_scan("c.raw")


def scans(folder, *changes):
    """Six scans, five minutes from one to the next, with changes of header or power by number."""
    paths = []
    for number in range(6):
        header, power = replace(HEADER, tstart=59000 + number / 288), POWER + number
        for at, change in changes:
            if at == number:
                header, power = change(header, power)
        paths.append(folder / f"scan{number}.fil")
        write_scan(paths[-1], power, header)
    return paths


def test_an_observation_is_six_scans_side_by_side(tmp_path):
    observation = open_observation(scans(tmp_path))
    assert observation.shape == (6, 16, 300)
    panels = observation.read(10, 20)
    assert panels.shape == (6, 16, 10)
    np.testing.assert_array_equal(panels[4], (POWER + 4)[:, 10:20])
    assert observation.drift(0.5) == pytest.approx(-0.5 * 2.7939677 / 18.253611)
    assert observation.starts == [0, 16, 33, 49, 66, 82]  # 300 s from one scan to the next, 292 s each
    assert observation.seconds == pytest.approx(96 * 18.253611)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h, p: (h, p[:15]), r"scan3\.fil has 15 rows, scan0\.fil has 16: not scans of one cadence"),
        (lambda h, p: (h, p[:, :200]), r"scan3\.fil has 200 channels, scan0\.fil has 300"),
        (lambda h, p: (replace(h, fch1=8401.0), p), r"scan3\.fil has fch1 8401 MHz, scan0\.fil 8400 MHz: not scans"),
        (lambda h, p: (replace(h, foff=-h.foff), p), r"scan3\.fil has foff 2\.7"),
        (lambda h, p: (replace(h, tsamp=1.0), p), r"scan3\.fil has tsamp 1 s"),
    ],
)
def test_scans_of_something_else_are_refused(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        open_observation(scans(tmp_path, (3, change)))


def test_scans_out_of_order_are_told_the_order(tmp_path):
    paths = scans(tmp_path)
    with pytest.raises(UserError, match=r"by tstart the order is scan0\.fil, scan1\.fil, scan2"):
        open_observation([paths[1], paths[0], *paths[2:]])
    with pytest.raises(UserError, match=r"5 files given; a cadence has 6 scans in time order: ON A, OFF B"):
        open_observation(paths[:5])


@pytest.mark.parametrize("step", [200.0, 700.0])  # s from scan to scan of 292 s: they overlap, or lie more than one apart
def test_scans_on_no_one_clock_follow_each_other_at_once(tmp_path, step):
    changes = [(n, lambda h, p, n=n: (replace(h, tstart=59000 + n * step / 86400), p)) for n in range(6)]
    observation = open_observation(scans(tmp_path, *changes))
    assert not observation.on_one_clock
    assert observation.starts == [0, 16, 32, 48, 64, 80]
    assert open_observation(scans(tmp_path)).on_one_clock


def test_scans_of_one_time_are_told(tmp_path):
    paths = scans(tmp_path)
    with pytest.raises(UserError, match=r"scan0\.fil and scan0\.fil start at the same time, MJD 59000"):
        open_observation([paths[0], *paths[:5]])


def test_windows_cover_a_coarse_channel_and_are_standardised():
    assert window_starts(range(0, 1024), 256).tolist() == [0, 128, 256, 384, 512, 640, 768]
    assert window_starts(range(1024, 1324), 256).tolist() == [1024, 1068]
    assert window_starts(range(256, 300), 64).tolist() == [236]  # a narrow rest
    panels = np.random.default_rng(1).gamma(2.0, 1e9, (6, 16, 300)).astype(np.float32)
    panels[1, :, 200:] = 7.0
    starts = np.array([0, 100, 236])
    windows = cut_windows(panels, starts, 64)
    assert windows.shape == (3, 6, 16, 64)
    assert finite_windows(panels, starts, 64).all()
    np.testing.assert_allclose(windows[:2].mean(axis=(2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(windows[:2].std(axis=(2, 3)), 1, atol=1e-5)
    cut = panels[2, :, 100:164].astype(np.float64)
    np.testing.assert_allclose(windows[1, 2], (cut - cut.mean()) / cut.std(), atol=1e-5)
    assert not windows[2, 1].any()  # a dead panel
    panels[0, 3, 120] = np.nan
    panels[5, 3, 299] = np.inf
    assert finite_windows(panels, starts, 64).tolist() == [True, False, False]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_piece_of_a_real_observation_comes_back(real, tmp_path, suffix):
    with np.load(real("seti") / "gbt_sgrb2_snippet.npz") as kept:
        power, fch1, foff, tsamp = (kept[name] for name in ("power", "fch1_mhz", "foff_mhz", "tsamp_s"))
    header = Header(float(fch1), float(foff), float(tsamp), 58465.0, "DIAG_SGR_B2")
    write_scan(tmp_path / f"scan{suffix}", power, header)
    scan = open_scan(tmp_path / f"scan{suffix}")
    assert scan.header == header
    np.testing.assert_array_equal(scan.read(0, 1024), power)
    assert scan.coarse_channels == [range(1024)]
    windows = cut_windows(scan.read(0, 1024)[None], np.array([0, 512]), 512)
    np.testing.assert_allclose(windows.std(axis=(2, 3)), 1, atol=1e-4)
