"""The command line: what it prints, what it measures, what it draws, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastpool
from fastpool import units
from fastpool.cli import main, measure, picture, ways
from fastpool.cli.errors import EXIT_WRONG_RESULT, CommandError

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
Image = pytest.importorskip("PIL.Image")

NAMES = [
    "strided slice",
    "strided convolution",
    "conv + max pooling",
    "Torch7 subsampling",
    "average pooling",
    "max pooling",
    "min pooling",
    "median pooling",
    "Lp pooling",
    "blur pooling",
    "stochastic pooling",
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call per block and no rests: no test looks at how long anything takes."""
    monkeypatch.setattr(measure, "PAUSE", 0.0)
    monkeypatch.setattr(measure, "BLOCK", 0.0)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(1, 3, height, width) float32 in [0, 1)."""
    return np.random.default_rng(seed).random((1, 3, height, width), dtype=np.float32)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Save a picture of 27 x 18 pixels: for factor 2 it has to be cropped to 26 x 18."""
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(1).integers(0, 256, (18, 27, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def compare(*arguments: object) -> int:
    """Run `fastpool compare` with as little timing as it takes."""
    return main(["compare", *map(str, arguments), "--rounds", "1"])


# What it refuses: one line on standard error, exit code 2, nothing on standard output.


def assert_refused(capsys: pytest.CaptureFixture[str], code: int, *fragments: str) -> None:
    """Assert one line on standard error that contains every fragment, exit code 2, and no other output."""
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("fastpool: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for fragment in fragments:
        assert fragment in err


@pytest.mark.parametrize("factor", ["0", "1", "-2", "1.5", "two", "", "1e1"])
def test_factor_must_be_an_integer_of_at_least_2(capsys, photo, tmp_path, factor):
    """Zero, one, negative numbers, fractions and words are no factors."""
    code = compare(photo, f"--factor={factor}", "--out", tmp_path / "sheet.png")
    assert_refused(capsys, code, "--factor", "an integer of at least 2", factor)


@pytest.mark.parametrize("factor", [19, 27, 10**30])
def test_factor_larger_than_the_picture(capsys, photo, tmp_path, factor):
    """A factor must leave at least one pixel along each axis."""
    code = compare(photo, "--factor", factor, "--out", tmp_path / "sheet.png")
    assert_refused(capsys, code, "--factor", str(factor), "27 x 18")
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_rounds_must_be_positive(capsys, photo, rounds):
    """There is no median of no rounds."""
    assert_refused(capsys, main(["compare", str(photo), f"--rounds={rounds}"]), "--rounds", repr(rounds))


@pytest.mark.parametrize("argv", [[], ["shrink"], ["compare", "--nonsense"], ["compare", "a.png", "b.png"]])
def test_arguments_that_do_not_exist(capsys, argv):
    """What argparse refuses is one line too, without the usage."""
    assert_refused(capsys, main(argv))


def test_missing_file_and_directory(capsys, tmp_path):
    """A path must name a file."""
    code = compare(tmp_path / "gone.png", "--out", tmp_path / "sheet.png")
    assert_refused(capsys, code, "no such file", "gone.png")
    assert_refused(capsys, compare(tmp_path, "--out", tmp_path / "sheet.png"), "is a directory", str(tmp_path))


@pytest.mark.parametrize("name", ["a\0b.png", "n" * 5000 + ".png", "two\nlines.png/x.png"])
def test_impossible_names(capsys, photo, tmp_path, name):
    """Names that no file can have, and a line break in a name, still give one line."""
    assert_refused(capsys, compare(tmp_path / name, "--out", tmp_path / "sheet.png"))
    assert_refused(capsys, compare(photo, "--out", tmp_path / name), "--out")


@pytest.mark.parametrize("content", ["", "plain text", "\x89PNG\r\n\x1a\n", "a picture that ends too early"])
def test_file_that_is_no_picture(capsys, photo, content):
    """Nothing, text, and pictures that end too early are no pictures."""
    cut = photo.read_bytes()[:400]
    photo.write_bytes(cut if content.startswith("a picture") else content.encode("latin-1"))
    assert_refused(capsys, compare(photo, "--out", photo.with_name("sheet.png")), "picture", "photo.png")


def test_unreadable_picture(capsys, monkeypatch, photo, tmp_path):
    """A picture that may not be read."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    assert_refused(capsys, compare(photo, "--out", tmp_path / "sheet.png"), "permission denied", "photo.png")


@pytest.mark.parametrize(("module", "limit"), [(picture, "MAX_PIXELS"), (Image, "MAX_IMAGE_PIXELS")])
def test_picture_that_is_too_large(capsys, monkeypatch, photo, tmp_path, module, limit):
    """Our own limit, and Pillow's."""
    monkeypatch.setattr(module, limit, 100)
    assert_refused(capsys, compare(photo, "--out", tmp_path / "sheet.png"), "too large", "photo.png")


def test_too_little_memory(capsys, monkeypatch, photo, tmp_path):
    """Running out of memory is a matter of the picture."""

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(measure, "measure", exhausted)
    assert_refused(capsys, compare(photo, "--out", tmp_path / "sheet.png"), "not enough memory", "photo.png")


@pytest.mark.parametrize(
    ("out", "fragment"),
    [("sheet.jpg", ".png"), ("sheet", ".png"), ("gone/sheet.png", "no such directory"), ("folder.png", "a directory")],
)
def test_out_that_cannot_be_written(capsys, photo, tmp_path, out, fragment):
    """The sheet is a .png in a folder that exists."""
    (tmp_path / "folder.png").mkdir()
    assert_refused(capsys, compare(photo, "--out", tmp_path / out), "--out", fragment)


def test_out_without_permission(capsys, monkeypatch, photo, tmp_path):
    """Refused before any work is done."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert_refused(capsys, compare(photo, "--out", tmp_path / "sheet.png"), "--out", "permission denied")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_out_on_a_full_disk(capsys, photo, tmp_path):
    """Whatever goes wrong while writing is one line as well."""
    (tmp_path / "sheet.png").symlink_to("/dev/full")
    assert_refused(capsys, compare(photo, "--out", tmp_path / "sheet.png"), "--out", "No space left")


def test_out_would_overwrite_the_picture(capsys, photo):
    """The picture stays as it was."""
    before = photo.read_bytes()
    assert_refused(capsys, compare(photo, "--out", photo), "--out", "overwrite the picture")
    assert photo.read_bytes() == before


@pytest.mark.parametrize("package", ["PIL", "matplotlib", "rich"])
def test_missing_extra(capsys, monkeypatch, photo, package):
    """Without the extra, the line says how to install it."""
    monkeypatch.setitem(sys.modules, package, None)
    assert_refused(capsys, compare(photo), package, 'pip install "fastpool[cli]"')


# What it prints.


@pytest.fixture
def report(capsys, photo, tmp_path) -> dict:
    """Return the JSON of a comparison of the photo at factor 2."""
    assert compare(photo, "--json", "--out", tmp_path / "sheet.png") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_json_says_what_was_compared_and_where(report, photo, tmp_path):
    """Picture, factor, sheet and machine are part of the report."""
    assert list(report) == ["picture", "factor", "ways", "sheet", "machine"]
    assert report["picture"] == {
        "path": str(photo),
        "width": 27,
        "height": 18,
        "compared_width": 26,
        "compared_height": 18,
    }
    assert report["factor"] == 2
    assert report["sheet"] == str(tmp_path / "sheet.png")
    assert report["machine"] == json.loads(json.dumps(fastpool.info(), default=str))


def test_json_costs_are_those_counted_by_hand(report):
    """Parameters, multiply-adds and bytes, counted here once more."""
    out, whole, filter3 = 3 * 9 * 13, 3 * 18 * 26, 3 * 3 * 3 * 3 + 3
    expected = {  # parameters, multiply-adds, elements moved
        # of 26 columns, 13 are kept, but every cache line of the 9 kept rows is moved
        "strided slice": (0, 0, 3 * 9 * 26 + out),
        "strided convolution": (84, out * 3 * 9, whole + filter3 + out),
        "conv + max pooling": (84, whole * 3 * 9, whole + filter3 + whole + whole + out),
        "Torch7 subsampling": (6, out * 4, whole + 6 + out),
        "average pooling": (0, out * 4, whole + out),
        "max pooling": (0, 0, whole + out),
        "min pooling": (0, 0, whole + out),
        "median pooling": (0, 0, whole + out),
        "Lp pooling": (0, out * 4, whole + out),
        "blur pooling": (0, out * 16, whole + out),
        "stochastic pooling": (0, 0, whole + out + out),  # one random number an output
    }
    assert [way["name"] for way in report["ways"]] == NAMES == list(expected)
    for way in report["ways"]:
        parameters, multiply_adds, elements = expected[way["name"]]
        assert way["output_shape"] == [1, 3, 9, 13]
        assert way["parameters"] == parameters
        assert way["multiply_adds"] == multiply_adds
        assert way["bytes_moved"] == 4 * elements


def test_json_measurements_are_sound(report):
    """What is measured stands in the relations that hold on any machine."""
    for way in report["ways"]:
        assert way["seconds"] > 0
        assert way["baseline_seconds"] > 0
        assert way["speedup"] == pytest.approx(way["baseline_seconds"] / way["seconds"])  # one round
        assert 0 <= way["largest_relative_difference_from_baseline"] <= 1e-5
        assert way["extra_memory_bytes"] >= 0
        assert way["shift_difference"] > 0
    shift = {way["name"]: way["shift_difference"] for way in report["ways"]}
    # White noise is the worst case of aliasing, and the smoother a way is, the less it has of it.
    assert shift["strided slice"] > shift["average pooling"] > shift["strided convolution"]
    assert shift["average pooling"] == pytest.approx(shift["Torch7 subsampling"], rel=1e-5)
    memory = {way["name"]: way["baseline_extra_memory_bytes"] for way in report["ways"]}
    assert memory["conv + max pooling"] >= 4 * 27 * 18 * 26  # the columns of im2col


def test_table_names_every_way_and_the_sheet(capsys, photo, tmp_path):
    """One row for every way; nothing on standard error."""
    target = tmp_path / "sheet.png"
    assert compare(photo, "--out", target) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "photo.png: 27 x 18, 2 times smaller" in out
    rows = {name: line for name in NAMES for line in out.splitlines() if line.strip().startswith(name + "  ")}
    assert list(rows) == NAMES
    assert all("3 x 9 x 13" in row for row in rows.values())
    assert "84" in rows["strided convolution"].split()
    assert str(target) in out.replace("\n", "")


def test_table_fits_a_narrow_terminal(capsys, monkeypatch, photo, tmp_path):
    """Nothing is cut off at 80 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert compare(photo, "--out", tmp_path / "sheet.png") == 0
    out, _ = capsys.readouterr()
    assert out.count("strided convolution") == 2  # the columns come in two tables
    assert "\N{HORIZONTAL ELLIPSIS}" not in out


def test_the_default_picture_is_a_real_photograph(capsys, tmp_path):
    """Without an argument, the photograph that matplotlib carries."""
    assert compare("--json", "--factor", 3, "--out", tmp_path / "sheet.png") == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["picture"]["path"]).name == "grace_hopper.jpg"
    assert (report["picture"]["width"], report["picture"]["height"]) == (512, 600)
    assert all(way["output_shape"] == [1, 3, 200, 170] for way in report["ways"])
    assert (tmp_path / "sheet.png").stat().st_size < 2_000_000


def test_info_as_json(capsys):
    """The JSON is what `fastpool.info()` returns."""
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(fastpool.info(), default=str))


def test_info_of_a_new_process():
    """`python -m fastpool` is the command."""
    done = subprocess.run([sys.executable, "-m", "fastpool", "info"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    for name in fastpool.info():
        assert name.replace("_", " ") in done.stdout


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--version"], f"fastpool {fastpool.__version__}\n"),
        (["compare", "--help"], "RMS of y(moved x) - y(x)"),
        (["compare", "--help"], "cropped at the right and at the bottom"),
    ],
)
def test_version_and_help(capsys, argv, text):
    """Both go to standard output and succeed."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    assert text in capsys.readouterr().out


def test_importing_the_command_is_light():
    """Neither Numba nor the extra is imported before a command runs."""
    heavy = "{'numba', 'matplotlib', 'rich', 'PIL'}"
    code = f"import sys, fastpool.cli; sys.exit(repr({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# The ways.


@pytest.mark.parametrize("way", ways.WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize(("height", "width", "factor"), [(18, 26, 2), (21, 15, 3), (40, 35, 5), (2, 2, 2), (4, 64, 4)])
def test_every_way_equals_its_baseline(way, height, width, factor):
    """Fastpool's result is NumPy's."""
    x = noise(height, width)
    problem = ways.Problem((1, 3, height, width), factor)
    y = way.prepare(problem)(x)
    assert y.shape == problem.out_shape == (1, 3, height // factor, width // factor)
    np.testing.assert_allclose(y, way.prepare_baseline(problem)(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("way", ways.WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_every_way_keeps_a_flat_picture(way, factor):
    """No way changes the brightness, at borders neither."""
    x = np.full((1, 3, 12, 24), 0.6, dtype=np.float32)
    y = way.prepare(ways.Problem((1, 3, 12, 24), factor))(x)
    np.testing.assert_allclose(y, 0.6, rtol=1e-5)


def test_tent_of_three_taps_is_the_binomial_filter():
    """1-2-1, and 1-2-3-2-1."""
    np.testing.assert_allclose(ways.tent(3) * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]], rtol=1e-6)
    np.testing.assert_allclose(ways.tent(5)[2] * 27, [1, 2, 3, 2, 1], rtol=1e-6)


def test_baselines_against_plain_reductions():
    """The folds are the reductions that they stand for."""
    x = noise(12, 18)
    blocks = x.reshape(1, 3, 4, 3, 6, 3)
    problem = ways.Problem((1, 3, 12, 18), 3)
    by_name = {way.name: way.prepare_baseline(problem)(x) for way in ways.WAYS}
    np.testing.assert_array_equal(by_name["strided slice"], blocks[:, :, :, 0, :, 0])
    np.testing.assert_array_equal(by_name["max pooling"], blocks.max(axis=(3, 5)))
    np.testing.assert_array_equal(by_name["min pooling"], blocks.min(axis=(3, 5)))
    np.testing.assert_array_equal(by_name["median pooling"], np.median(blocks, axis=(3, 5)))
    np.testing.assert_allclose(by_name["Lp pooling"], np.sqrt((blocks**2).mean(axis=(3, 5))), rtol=1e-6)
    drawn = by_name["stochastic pooling"][:, :, :, np.newaxis, :, np.newaxis]
    assert ((blocks == drawn).sum(axis=(3, 5)) == 1).all()
    assert blocks.mean() < drawn.mean() < blocks.max()  # larger ones are drawn more often
    # the binomial filter of six taps, from two pixels before the block to three after its first
    row = np.array([1, 5, 10, 10, 5, 1]) / 32
    inner = (x[0, :, 4:10, 7:13] * np.outer(row, row)).sum(axis=(1, 2))
    np.testing.assert_allclose(by_name["blur pooling"][0, :, 2, 3], inner, rtol=1e-5)
    np.testing.assert_allclose(by_name["average pooling"], blocks.mean(axis=(3, 5)), rtol=1e-6)
    np.testing.assert_allclose(by_name["Torch7 subsampling"], blocks.mean(axis=(3, 5)), rtol=1e-6)
    # one inner output pixel of the strided convolution, tap by tap
    np.testing.assert_allclose(
        by_name["strided convolution"][0, :, 2, 3],
        (x[0, :, 4:9, 7:12] * ways.tent(5)).sum(axis=(1, 2)),
        rtol=1e-5,
    )


# The measurements.


@pytest.mark.parametrize("error", [0.01, np.nan])
def test_a_wrong_result_fails_loudly(capsys, monkeypatch, photo, tmp_path, error):
    """A result that differs from the baseline, or is NaN, ends the command."""
    (way,) = (way for way in ways.WAYS if way.name == "max pooling")
    broken = replace(way, prepare=lambda problem: lambda x: x[:, :, ::2, ::2] * np.float32(error))
    monkeypatch.setattr(ways, "WAYS", (*ways.WAYS[:5], broken))
    assert compare(photo, "--out", tmp_path / "sheet.png") == EXIT_WRONG_RESULT
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastpool: error: max pooling: the result differs from maximum of slices")
    assert err.count("\n") == 1
    assert not (tmp_path / "sheet.png").exists()


def test_a_wrong_shape_fails_loudly():
    """Broadcasting does not hide a wrong shape."""
    problem = ways.Problem((1, 3, 4, 4), 2)
    with pytest.raises(CommandError, match="output of shape"):
        measure.require_equal(ways.WAYS[0], problem, noise(2, 3), noise(2, 2))


def test_both_sides_are_timed_in_turns():
    """Ours, baseline, ours, baseline."""
    calls = []
    x = noise(2, 2)
    times = measure.time_in_turns(lambda _: calls.append("ours") or x, lambda _: calls.append("baseline") or x, x, 3)
    assert calls == ["ours", "ours", "baseline", "baseline"] * 3  # of each pair, the first call does not count
    assert times.ours >= times.ours_fastest > 0
    assert times.baseline >= times.baseline_fastest > 0


def test_a_busy_machine_is_told():
    """Times whose median is far from the fastest round's come with a remark."""
    steady = measure.Times(ours=1.9, baseline=1.0, speedup=1.0, ours_fastest=1.0, baseline_fastest=1.0)
    assert not steady.unsteady
    assert replace(steady, ours=2.1).unsteady
    assert replace(steady, baseline=2.1).unsteady


def test_extra_memory_is_what_is_held_beside_the_output():
    """Scratch counts, the output does not."""
    x = noise(256, 256)

    def operation(x: np.ndarray) -> np.ndarray:
        scratch = np.empty(1_000_000, dtype=np.uint8)
        scratch[0] = 1
        return x * 2

    assert measure.extra_memory(operation, x) == pytest.approx(1_000_000, rel=0.01)
    assert measure.extra_memory(lambda x: x * 2, x) == 0
    two_passes = {way.name: way for way in ways.WAYS}["conv + max pooling"].prepare(ways.Problem(x.shape, 2))
    two_passes(x)
    assert measure.extra_memory(two_passes, x) >= x.nbytes  # the intermediate


def test_shift_difference_of_a_ramp():
    """A ramp that rises by 1 per pixel to the right: moved left it rises by 1, moved up it stays."""
    x = np.broadcast_to(np.arange(20, dtype=np.float32), (1, 3, 16, 20)).copy()
    y = x[:, :, ::2, ::2].copy()
    inner = np.arange(2, 18, 2)  # what is left of a row of y without its outermost pixels
    expected = np.sqrt((1 + 0) / 2) / inner.std()
    assert measure.shift_difference(lambda x: x[:, :, ::2, ::2].copy(), x, y) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(2, 2), (4, 40), (12, 12)])
def test_shift_difference_without_contrast_or_room(shape):
    """A flat or tiny output has no shift difference."""
    x = np.ones((1, 3, *shape), dtype=np.float32)
    assert measure.shift_difference(lambda x: x[:, :, ::2, ::2].copy(), x, x[:, :, ::2, ::2].copy()) is None


def test_a_picture_too_small_for_a_shift_difference(capsys, tmp_path):
    """The command still works, and the JSON says null."""
    path = tmp_path / "dot.png"
    Image.new("RGB", (2, 2), (10, 200, 30)).save(path)
    assert compare(path, "--json", "--out", tmp_path / "sheet.png") == 0
    report = json.loads(capsys.readouterr().out)
    assert [way["shift_difference"] for way in report["ways"]] == [None] * len(NAMES)
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000


# Pictures.


def load(image: object, path: Path, **options: object) -> np.ndarray:
    """Save an image, and read it as the command does."""
    image.save(path, **options)
    pixels = picture.load_picture(path, 2).pixels
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    return pixels


def test_rgb_is_read_exactly(tmp_path):
    """8-bit levels over 255, the odd row cropped."""
    levels = np.random.default_rng(2).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    pixels = load(Image.fromarray(levels), tmp_path / "rgb.png")
    np.testing.assert_allclose(pixels[0], levels[:4].transpose(2, 0, 1) / 255, rtol=1e-6)  # the fifth row is cropped


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    """Black and white stay so in every mode."""
    image = Image.new("RGB", (4, 4), "white")
    image.paste("black", (0, 0, 2, 4))
    suffix = "tiff" if mode == "CMYK" else "png"
    pixels = load(image.convert(mode), tmp_path / f"image.{suffix}")
    assert pixels.shape == (1, 3, 4, 4)
    np.testing.assert_array_equal(pixels[0, :, 0], [[0, 0, 1, 1]] * 3)


def test_transparency_is_seen_on_white(tmp_path):
    """Alpha channels and transparent palette entries."""
    pixels = load(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), tmp_path / "clear.png")
    np.testing.assert_array_equal(pixels, np.ones((1, 3, 2, 2)))
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 1), 1)
    pixels = load(palette, tmp_path / "palette.png", transparency=1)
    np.testing.assert_array_equal(pixels[0, :, 0, 0], [1, 0, 0])
    np.testing.assert_array_equal(pixels[0, :, 1, 1], [1, 1, 1])


def test_16_bits_keep_their_precision(tmp_path):
    """Levels over 65535."""
    levels = np.array([[0, 1], [30000, 65535]], dtype=np.uint16)
    pixels = load(Image.fromarray(levels), tmp_path / "deep.png")
    np.testing.assert_allclose(pixels[0], np.broadcast_to(levels / 65535, (3, 2, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[-5.0, 0.0], [5.0, np.nan]], np.float32), [[0, 0.5], [1, 0.5]]),
        (np.array([[0.0, 0.25], [0.5, 0.5]], np.float32), [[0, 0.25], [0.5, 0.5]]),
        (np.array([[-100_000, 0], [50_000, 100_000]], np.int32), [[0, 0.5], [0.75, 1]]),
        (np.array([[7.0, 7.0], [7.0, 7.0]], np.float32), [[0, 0], [0, 0]]),
    ],
)
def test_scales_of_floats_and_wide_integers(tmp_path, levels, expected):
    """Values in [0, 1] stay; others are stretched to it."""
    pixels = load(Image.fromarray(levels), tmp_path / "wide.tiff")
    np.testing.assert_allclose(pixels[0], [expected] * 3, atol=1e-6)


def test_exif_orientation_turns_the_picture_upright(tmp_path):
    """A camera held sideways."""
    image = Image.new("RGB", (4, 2), "black")
    image.paste("white", (0, 0, 1, 2))  # the left column
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    pixels = load(image, tmp_path / "turned.png", exif=exif)
    assert pixels.shape == (1, 3, 4, 2)
    np.testing.assert_array_equal(pixels[0, 0], [[1, 1], [0, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.seconds_text(0.00099996), "1.00 ms"),
        (units.seconds_text(123.4e-6), "123 us"),
        (units.seconds_text(850e-9), "850 ns"),
        (units.bytes_text(0), "0"),
        (units.bytes_text(4_612_345), "4.61 MB"),
        (units.count_text(145_164), "145,164"),
        (units.count_text(6_220_800), "6.22 M"),
        (units.shift_text(None), "n/a"),
    ],
)
def test_units(text, expected):
    """Three digits and a unit."""
    assert text == expected
