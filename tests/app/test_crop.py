"""Uploads and the frame: `halfface_pipeline.app.crop`."""

import io

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.app import crop
from halfface_pipeline.app.crop import draw_frame, frame, read_upload, reduced, settings
from halfface_pipeline.photo.frame import Similarity, corners


@pytest.fixture
def upload(tmp_path):
    def write(data):
        (tmp_path / "upload").write_bytes(data)
        return tmp_path / "upload"

    return write


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_photo_is_read_upright_as_rgb(upload, kind):
    sideways = PIL.Image.new("RGB", (40, 32), "red")
    sideways.paste("blue", (20, 0, 40, 32))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    with_exif = kind in ("PNG", "JPEG", "WEBP")
    photo = read_upload(upload(encoded(sideways, kind, **({"exif": exif} if with_exif else {}))))
    assert photo.mode == "RGB"
    assert photo.size == ((32, 40) if with_exif else (40, 32))
    assert not photo.getexif()
    if with_exif:
        assert np.abs(np.array(photo)[:15].astype(int) - (255, 0, 0)).max() <= 3


def test_other_decoders_are_unreachable(upload):
    with pytest.raises(ValueError, match="cannot be read"):
        read_upload(upload(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_upload(upload(encoded(PIL.Image.new("RGB", (8, 8)), "TIFF")))


def test_too_many_pixels_are_refused_undecoded(upload):
    side = 8000  # 64 megapixels
    header_only = encoded(PIL.Image.new("1", (side, side)), "PNG")[:45]  # its pixels are missing
    with pytest.raises(ValueError, match="too large: at most 60 million pixels"):
        read_upload(upload(header_only))


def test_no_error_names_the_file(upload, tmp_path):
    for data in (b"", b"noise", encoded(PIL.Image.new("RGB", (99, 99)), "JPEG")[:-50]):
        with pytest.raises(ValueError) as error:
            read_upload(upload(data))
        assert "upload" not in str(error.value) and str(tmp_path) not in str(error.value)
    with pytest.raises(ValueError, match="has been deleted") as error:
        read_upload(tmp_path / "gone")
    assert "gone" not in str(error.value)


def test_the_frame_by_hand():
    # A photo 200 wide and 100 high, faces twice as high as wide: the largest upright frame is 50 x 100.
    def at(*sliders):
        return corners(frame((200, 100), (48, 24), *sliders), (0, 0, 24, 48))

    assert np.allclose(at(1, 0, 0, 0), [(75, 0), (125, 0), (125, 100), (75, 100)])
    assert np.allclose(at(2, -1, 0, 0), [(-12.5, 25), (12.5, 25), (12.5, 75), (-12.5, 75)])
    assert np.allclose(at(4, 0.5, 1, 0), [(143.75, 87.5), (156.25, 87.5), (156.25, 112.5), (143.75, 112.5)])
    # Turned clockwise by a right angle its top lies at the right.
    assert np.allclose(at(1, 0, 0, 90), [(150, 25), (150, 75), (50, 75), (50, 25)])


@pytest.mark.parametrize(
    "setting",
    [(0.2, 0, 0, 0), (15.1, 0, 0, 0), (1, -1.1, 0, 0), (1, 0, 1.1, 0), (float("nan"), 0, 0, 0), (1, 0, 0, 181)],
)
def test_the_frame_checks_its_ranges(setting):
    with pytest.raises(ValueError, match="it must be from"):
        frame((200, 100), (48, 40), *setting)


def test_the_sliders_of_a_frame_place_it_again():
    for sliders in ((1, 0, 0, 0), (2.5, 0.25, -0.75, -31.4), (0.25, -1, 1, 179)):
        assert np.allclose(settings((640, 480), (48, 40), frame((640, 480), (48, 40), *sliders)), sliders)
    # What the sliders cannot say is moved to their ends.
    assert settings((100, 100), (50, 50), Similarity(0.01, 300)) == [15, 1, pytest.approx(-0.995), 0]


@pytest.mark.parametrize(
    ("hidden_half", "bright", "dark"),
    [
        ("bottom", (100, 60), (100, 132)),
        ("top", (100, 140), (100, 68)),
        ("left", (115, 100), (85, 100)),
        ("right", (85, 100), (115, 100)),
    ],
)
def test_the_preview_shades_what_is_hidden(hidden_half, bright, dark):
    shown = draw_frame(PIL.Image.new("RGB", (200, 200), "white"), Similarity(1, 60 + 50j), (100, 80), hidden_half)
    assert shown.size == (200, 200)
    assert shown.getpixel(bright) == (255, 255, 255)
    assert shown.getpixel(dark) == (155, 155, 155)
    assert shown.getpixel((10, 10)) == (105, 105, 105)
    along = (70, 100) if hidden_half in ("bottom", "top") else (100, 70)
    assert shown.getpixel(along) == crop.ACCENT


def test_the_preview_of_a_turned_frame():
    # Turned clockwise by a right angle, the hidden bottom half lies at the left.
    shown = draw_frame(PIL.Image.new("RGB", (200, 200), "white"), Similarity(1j, 150 + 60j), (100, 80), "bottom")
    assert shown.getpixel((130, 100)) == (255, 255, 255)
    assert shown.getpixel((70, 120)) == (155, 155, 155)
    assert shown.getpixel((100, 30)) == (105, 105, 105)
    assert shown.getpixel((100, 80)) == crop.ACCENT


def test_a_reduced_photo_keeps_its_frame():
    small, place = reduced(PIL.Image.new("RGB", (4000, 3000)), Similarity(10j, 2000 + 1000j), 560)
    assert small.size == (560, 420) and place.turn == pytest.approx(1.4j) and place.shift == pytest.approx(280 + 140j)
    photo = PIL.Image.new("RGB", (400, 30))
    same, place = reduced(photo, Similarity(2, 5), 560)
    assert same.size == photo.size and place == Similarity(2, 5)
    assert reduced(PIL.Image.new("RGB", (4000, 2)), Similarity(1, 0), 560)[0].size == (560, 1)
