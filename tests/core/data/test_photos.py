"""Focal lengths of photos: from EXIF as cameras write it, by hand, or guessed, and said so."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.TiffImagePlugin import IFDRational

from kd3d_core.data.photos import GUESSED_DEG, photo_focal_length
from kd3d_core.errors import CalibrationError
from kd3d_core.messages.pictures import picture_exif, read_picture


def photo(path: Path, size: tuple[int, int], orientation: int = 1, **notes: object) -> Path:
    """A picture with EXIF, as a camera writes it: pixels as on the sensor, notes beside them."""
    exif = Image.Exif()
    exif[ExifTag.Orientation] = orientation
    for name, value in notes.items():
        exif.get_ifd(ExifTag.ExifOffset)[ExifTag[name]] = value
    Image.new("RGB", size, (90, 120, 60)).save(path, exif=exif)
    return path


def focal(path: Path, hfov_deg: float | None = None):
    height, width = read_picture(path).shape[:2]
    return photo_focal_length(picture_exif(path), width, height, hfov_deg)


# Sensors and lenses by their data sheets: focal length in pixels = mm / mm per pixel.
PHONE = {"FocalLength": 4.25, "FocalLengthIn35mmFilm": 26}  # 1/2.55", 1.4 um, 4032 x 3024
DSLR = {
    "FocalLength": 50.0,
    "FocalPlaneXResolution": IFDRational(5184000, 905),  # per inch, as Canon writes it
    "FocalPlaneYResolution": IFDRational(3456000, 595),
    "FocalPlaneResolutionUnit": 2,
    "ExifImageWidth": 5184,
    "ExifImageHeight": 3456,
}


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_phone_says_what_its_lens_would_be_on_film(tmp_path: Path, ending: str) -> None:
    found = focal(photo(tmp_path / f"a.{ending}", (403, 302), **PHONE))
    assert found.px == pytest.approx(4.25 / 1.4e-3 / 10, rel=0.02)  # a tenth of its pixels
    assert "EXIF (26 mm in 35 mm terms)" in found.source
    assert not found.doubt


@pytest.mark.parametrize("orientation", [6, 8])
def test_portrait_photos_are_upright_and_have_the_same_focal_length(
    tmp_path: Path, orientation: int
) -> None:
    path = photo(tmp_path / "a.jpg", (403, 302), orientation, **PHONE)
    assert read_picture(path).shape == (403, 302, 3)
    assert focal(path).px == focal(photo(tmp_path / "b.jpg", (403, 302), **PHONE)).px


def test_a_large_camera_says_how_dense_its_pixels_are(tmp_path: Path) -> None:
    whole = 50 / 22.99 * 5184  # 22.99 mm: 905 / 1000 inches
    for size in ((5184, 3456), (648, 432)):  # as it was taken, and made smaller
        found = focal(photo(tmp_path / "a.jpg", size, **DSLR))
        assert found.px == pytest.approx(whole * size[0] / 5184, rel=0.001)
        assert "50 mm and the size of the sensor" in found.source


@pytest.mark.parametrize(
    ("size", "notes", "reason"),
    [
        ((400, 300), {}, "nothing says its focal length"),
        ((400, 300), {"FocalLength": 4.25}, "4.25 mm but not how large the sensor is"),
        ((400, 400), {**DSLR}, "5184 x 3456 pixels and the picture has 400 x 400, so it was crop"),
        ((400, 300), {"FocalLengthIn35mmFilm": 1}, "would be a field of view of 17"),
        ((400, 300), {"FocalLengthIn35mmFilm": 9000}, "would be a field of view of 0"),
        ((400, 300), {"FocalLengthIn35mmFilm": 0, "FocalLength": 0.0}, "nothing says"),
    ],
)
def test_what_can_not_be_known_is_a_guess_that_says_so(
    tmp_path: Path, size: tuple[int, int], notes: dict, reason: str
) -> None:
    found = focal(photo(tmp_path / "a.jpg", size, **notes))
    assert found.px == pytest.approx(max(size) / 2 / math.tan(math.radians(GUESSED_DEG) / 2))
    assert "GUESSED (60 degrees" in found.source
    assert reason in found.doubt
    assert "is a guess" in found.doubt
    assert "--hfov" in found.doubt


def test_the_guess_is_over_the_longer_side_and_hfov_over_the_width() -> None:
    upright, lying = photo_focal_length({}, 300, 400), photo_focal_length({}, 400, 300)
    assert upright.px == lying.px
    by_hand = photo_focal_length({ExifTag.FocalLengthIn35mmFilm: 26}, 300, 400, 90.0)
    assert by_hand.px == pytest.approx(150)
    assert not by_hand.doubt
    for degrees in (0.0, 180.0, math.nan):
        with pytest.raises(CalibrationError, match="--hfov"):
            photo_focal_length({}, 300, 400, degrees)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # of Pillow, when it reads the pixels
def test_damaged_notes_are_none(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (400, 300), **PHONE)
    data = path.read_bytes()
    start = data.index(b"Exif")
    for length in (8, 20, 60):
        broken = bytearray(data)
        broken[start + 10 : start + 10 + length] = b"\xff" * length
        path.write_bytes(broken)
        assert "GUESSED" in focal(path).source
    strange = {ExifTag.FocalLengthIn35mmFilm: "wide", ExifTag.FocalLength: (1, 2)}
    assert "damaged" in photo_focal_length(strange, 400, 300).doubt


def test_pictures_without_notes_have_none(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert picture_exif(tmp_path / "a.png") == {}
