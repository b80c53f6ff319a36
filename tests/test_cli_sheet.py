"""The contact sheet of a comparison: what it shows and where everything stands."""

import numpy as np
import pytest
from test_cli import NAMES, _quick, compare  # noqa: F401

from fastpool.cli import layout, sheet

Image = pytest.importorskip("PIL.Image")


def test_sheet_shows_every_result_pixel_by_pixel(capsys, tmp_path):
    """At factor 2 a picture of 512 x 600 is shown one to one."""
    path, target = tmp_path / "photo.png", tmp_path / "sheet.png"
    levels = np.random.default_rng(3).integers(0, 256, (600, 512, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)
    assert compare(path, "--out", target) == 0
    with Image.open(target) as image:
        assert image.format == "PNG"
        shown = np.asarray(image)
    grid = layout.plan_grid(300, 256, len(NAMES))
    assert grid.panel == (256, 300)  # one to one
    assert shown.shape[1] == grid.width

    def at(x: int, y: int, width: int, height: int) -> np.ndarray:
        return shown[y : y + height, x : x + width].astype(int)

    np.testing.assert_array_equal(at(layout.MARGIN, grid.tops[0], 40, 40)[4:, 4:], levels[4:40, 4:40])
    np.testing.assert_array_equal(at(*grid.corner(0), 256, 300), levels[::2, ::2])
    largest = levels.reshape(300, 2, 256, 2, 3).max(axis=(1, 3))
    np.testing.assert_array_equal(at(*grid.corner(5), 256, 300), largest)
    assert (shown[0] == 255).all()  # paper


@pytest.mark.parametrize(
    ("height", "width"), [(300, 256), (1, 1), (9, 8), (80, 256), (200, 26), (3000, 4000), (2, 900), (900, 2)]
)
@pytest.mark.parametrize("factor", [2, 3, 5, 8, 9, 64, 500])
def test_layout_fits_whatever_the_shape(height, width, factor):
    """Nothing overlaps, nothing leaves the sheet, enlarged pixels are square."""
    grid = layout.plan_grid(height, width, len(NAMES))
    strip = layout.plan_strip(grid, height, width, factor, len(NAMES) + 1)
    assert max(grid.panel) <= layout.PANEL_LIMIT * 1.12
    assert min(grid.panel) >= 1
    assert grid.corner(layout.COLUMNS - 1)[0] + grid.column == grid.width - layout.MARGIN
    assert 1 <= strip.cells <= min(height, width)
    assert strip.side % strip.cells == 0
    if factor <= layout.CELL:
        assert strip.side % (strip.cells * factor) == 0
    assert strip.lefts[0] == layout.MARGIN
    assert strip.lefts[-1] + strip.side == grid.width - layout.MARGIN
    assert all(b - a >= strip.side for a, b in zip(strip.lefts, strip.lefts[1:], strict=False))
    assert grid.bottom < strip.heading_top < strip.tops[0]
    assert all(b - a > strip.side for a, b in zip(strip.tops, strip.tops[1:], strict=False))
    assert strip.tops[-1] + strip.side < strip.bottom
    corners = {strip.corner(index) for index in range(len(NAMES) + 1)}
    assert len(corners) == len(NAMES) + 1
    assert len(strip.lefts) * strip.rows < len(corners) + len(strip.lefts)  # no row is empty


def test_detail_is_where_the_blocks_vary():
    """The detail is found to the pixel."""
    x = np.full((1, 3, 40, 60), 0.5, dtype=np.float32)
    x[:, :, 20:28:2, 30:38:2] = 1.0  # a fine pattern, in output rows 10..13 and columns 15..18
    assert sheet.find_detail(x, 2, 4) == (10, 15)
