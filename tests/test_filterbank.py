"""Filterbank files: written, read back slice by slice, and each thing that may be wrong with one said in one line."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

import numpy as np
import pytest

from wavefold.core.errors import DataError, UserError
from wavefold.data import read
from wavefold.domains.radio.filterbank import Header
from wavefold.domains.radio.observation import (
    cut_windows,
    open_observation,
    open_scan,
    write_scan,
)
from wavefold.domains.radio.pointing import sources_note

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


def replaced(file, shape, kind=np.float32, nifs=1, **how):
    attributes = dict(file["data"].attrs)
    del file["data"]
    file.create_dataset("data", shape, kind, **how).attrs.update({**attributes, "nifs": nifs})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["data"].attrs.pop("foff"), r"a\.h5: data has no attribute foff; available: .*fch1"),
        (lambda f: f.move("data", "power"), r"a\.h5: not a filterbank file: it contains power but no dataset 'data'"),
        (lambda f: replaced(f, (16, 4, 300), nifs=4), "has 4 polarisation products"),
        (lambda f: replaced(f, (16, 4, 300)), "data has shape 16 x 4 x 300, but its header gives nifs=1"),
        (lambda f: replaced(f, (16, 300)), r"data has the shape \(16, 300\), expected \(time, product, channel\)"),
        (lambda f: replaced(f, (16, 1, 200)), "data has shape 16 x 1 x 200, but its header gives nchans=300"),
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


@pytest.mark.parametrize("step", [200.0, 2500.0])  # s from scan to scan of 292 s: they overlap, or lie hours apart
def test_scans_on_no_one_clock_follow_each_other_at_once(tmp_path, step):
    changes = [(n, lambda h, p, n=n: (replace(h, tstart=59000 + n * step / 86400), p)) for n in range(6)]
    observation = open_observation(scans(tmp_path, *changes))
    assert not observation.on_one_clock
    assert observation.starts == [0, 16, 32, 48, 64, 80]
    assert open_observation(scans(tmp_path)).on_one_clock


def test_gaps_longer_than_a_scan_are_on_the_clock(tmp_path):
    changes = [(n, lambda h, p, n=n: (replace(h, tstart=59000 + n * 700 / 86400), p)) for n in range(6)]
    observation = open_observation(scans(tmp_path, *changes))
    assert observation.on_one_clock
    assert observation.starts == [round(700 * n / 18.253611) for n in range(6)]


def test_scans_of_one_time_are_told(tmp_path):
    paths = scans(tmp_path)
    with pytest.raises(UserError, match=r"scan0\.fil and scan0\.fil start at the same time, MJD 59000"):
        open_observation([paths[0], *paths[:5]])


def test_windows_are_standardised():
    panels = np.random.default_rng(1).gamma(2.0, 1e9, (6, 16, 300)).astype(np.float32)
    panels[1, :, 200:] = 7.0
    starts = np.array([0, 100, 236])
    windows = cut_windows(panels, starts, 64)
    assert windows.shape == (3, 6, 16, 64)
    np.testing.assert_allclose(windows[:2].mean(axis=(2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(windows[:2].std(axis=(2, 3)), 1, atol=1e-5)
    cut = panels[2, :, 100:164].astype(np.float64)
    np.testing.assert_allclose(windows[1, 2], (cut - cut.mean()) / cut.std(), atol=1e-5)
    assert not windows[2, 1].any()  # a dead panel


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


def other_writers_scan(folder, number, kind, power, **facts):
    """A scan as other tools write it, byte by byte, or by h5py. power: (time, product, channel), of the type on disk."""
    names = ("HIP1", "HIP2", "HIP1", "HIP3", "HIP1", "HIP4")
    known = {"source_name": names[number], "tstart": 59000 + number / 288, "tsamp": 18.25, "fch1": 8400.0, "foff": -2.8e-6}
    known |= {"nchans": power.shape[2], "nifs": power.shape[1], "nbits": 8 * power.dtype.itemsize, "telescope_id": 6, **facts}
    path = folder / f"scan{number}.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=power).attrs.update(known)
        return path

    def packed(word):
        return struct.pack("<i", len(word)) + word.encode()

    def value(key, one):
        if isinstance(one, str):
            return packed(key) + packed(one)
        form = "<b" if key == "signed" else "<d" if isinstance(one, float) else "<i"
        return packed(key) + struct.pack(form, one)

    words = b"".join([packed("HEADER_START"), *(value(*pair) for pair in known.items()), packed("HEADER_END")])
    path.write_bytes(words + power.tobytes())
    return path


PRODUCTS = np.random.default_rng(2).normal(50, 9, (4, 2, 60)).round().astype(np.float32)


@pytest.mark.parametrize("kind", ["fil", "h5"])
def test_of_several_polarisations_one_is_chosen_or_two_are_added(tmp_path, kind):
    path = other_writers_scan(tmp_path, 0, kind, PRODUCTS)
    with pytest.raises(
        DataError, match=r"has 2 polarisation products \(nifs\), expected 1 .*--product: 1 takes the first"
    ) as said:
        open_scan(path)
    for word, wanted in (("1", PRODUCTS[:, 0]), ("2", PRODUCTS[:, 1]), ("sum", PRODUCTS.sum(1))):
        assert word == "2" or word in str(said.value)
        scan = open_scan(path, product=word)
        np.testing.assert_array_equal(scan.read(5, 60), wanted[:, 5:])
        assert scan.note == f"of 2 polarisation products, {'1 + 2 are' if word == 'sum' else word + ' is'} searched"
    for word in ("0", "3", "I"):
        with pytest.raises(DataError, match=f"--product is '{word}', expected sum or a number from 1 to 2"):
            open_scan(path, product=word)


@pytest.mark.parametrize(("kind", "type_"), [("fil", "i1"), ("fil", "<i2"), ("h5", "i1"), ("h5", "<i2")])
def test_signed_values_stay_below_zero(tmp_path, kind, type_):
    power = (PRODUCTS[:, :1] - 50).astype(type_)
    assert power.min() < 0
    signed = {"signed": 1} if kind == "fil" else {}
    scan = open_scan(other_writers_scan(tmp_path, 0, kind, power, **signed))
    np.testing.assert_array_equal(scan.read(0, 60), power[:, 0])
    assert scan.header.signed
    if kind == "fil":
        write_scan(tmp_path / "again.fil", power[:, 0], scan.header)
        np.testing.assert_array_equal(open_scan(tmp_path / "again.fil").read(0, 60), power[:, 0])
        without = open_scan(other_writers_scan(tmp_path, 1, kind, power))  # SIGPROC's whole numbers are unsigned
        assert without.read(0, 60).min() >= 0


def test_an_h5_says_how_many_fine_channels_a_coarse_one_has(tmp_path):
    path = other_writers_scan(tmp_path, 0, "h5", PRODUCTS[:, :1], nfpc=20)
    assert open_scan(path).coarse_channels == [range(20), range(20, 40), range(40, 60)]


def named(folder, *names, telescopes=(6,) * 6):
    return [
        other_writers_scan(folder, n, "fil", PRODUCTS[:, :1], source_name=name, telescope_id=telescopes[n])
        for n, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("B", "A", "C", "A", "D", "A"),
            r"scan1\.fil, scan3\.fil, scan5\.fil are of A, and scan0\.fil is of B.* with OFF",
        ),
        (("A_OFF", "A", "A_OFF", "A", "A_OFF", "A"), "seems to begin with OFF"),
        (("TIC1_R", "TIC1_S", "TIC1_R", "TIC1_S", "TIC1_R", "TIC1_S"), "seems to begin with OFF"),
        (("A", "B", "C", "A", "A", "D"), r"ON scans.* must be of one source, but scan0\.fil is of A, scan2\.fil is of C"),
        (("A", "B", "A", "A", "A", "D"), r"scan3\.fil is an OFF scan by its place but states source_name A"),
    ],
)
def test_source_names_that_contradict_the_order_are_refused_or_ignored_when_asked(tmp_path, names, said):
    paths = named(tmp_path, *names)
    with pytest.raises(UserError, match=said) as caught:
        open_observation(paths)
    assert "--ignore-names" in str(caught.value)
    assert open_observation(paths, ignore_names=True).shape == (6, 4, 60)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("A", "B", "A", "C", "A", "D"), r"scan0\.fil, scan2\.fil, scan4\.fil \(A\); as OFF: .* \(B, C, D\)"),
        (("HIP 1", "B", "hip_1", "B", "HIP-1", "B"), r"\(HIP 1, hip_1, HIP-1\); as OFF: .* \(B\)"),
        (("A", "A_OFF", "A", "A_OFF", "A", "A_OFF"), r"\(A\); as OFF: .* \(A_OFF\)"),
        (("A",) * 6, "all state the source_name A, which cannot tell ON from OFF"),
        (("",) * 6, "no scan states a source_name"),
        (("", "B", "", "", "A", ""), r"\(A\); as OFF: .* \(B\)"),
    ],
)
def test_what_was_taken_as_on_and_off_is_told(tmp_path, names, said):
    assert re.search(said, sources_note(open_observation(named(tmp_path, *names)).scans))


def test_scans_of_two_telescopes_are_no_cadence(tmp_path):
    with pytest.raises(DataError, match=r"scan3\.fil has telescope_id 4, scan0\.fil 6: not scans of one cadence"):
        open_observation(named(tmp_path, *"ABACAD", telescopes=(6, 6, 6, 4, 6, 6)))
    assert open_observation(named(tmp_path, *"ABACAD", telescopes=(6, 0, 6, 0, 6, 6))).shape  # 0: not stated


@pytest.mark.parametrize("kind", ["fil", "h5"])
def test_six_scans_of_several_polarisations_are_searched_by_the_chosen_one(tmp_path, kind):
    paths = [other_writers_scan(tmp_path, number, kind, PRODUCTS + number) for number in range(6)]
    panels = open_observation(paths, product="2").read(0, 60)
    np.testing.assert_array_equal(panels[3], PRODUCTS[:, 1] + 3)


@pytest.mark.parametrize("kind", ["fil", "h5"])
def test_scans_of_several_polarisations_are_told_the_search_as_others_are(tmp_path, kind):
    paths = [other_writers_scan(tmp_path, number, kind, PRODUCTS) for number in range(6)]
    for source in (paths[0], tmp_path):
        with pytest.raises(DataError, match=r"are searched, not trained on .* wavefold search"):
            read(source, cache=False)


def test_hdf5_without_a_scan_is_no_scan(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["table"] = np.arange(6.0)
    with pytest.raises(DataError, match=r"other.h5: is an HDF5 file, which is not read; convert it"):
        read(tmp_path / "other.h5", cache=False)
