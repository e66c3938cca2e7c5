"""Uploads and the frame: `halfface_pipeline.app.crop`."""

import io

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.app import crop
from halfface_pipeline.app.crop import draw_frame, frame, frame_around, preview_size, read_upload


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
    # A photo 200 wide and 100 high, faces twice as high as wide: the largest box is 50 x 100.
    assert frame((200, 100), (48, 24), 1, 0, 0) == (75, 0, 125, 100)
    assert frame((200, 100), (48, 24), 1, -1, 0) == (0, 0, 50, 100)
    assert frame((200, 100), (48, 24), 1, 1, 1) == (150, 0, 200, 100)
    assert frame((200, 100), (48, 24), 2, 0, 1) == (88, 50, 113, 100)
    assert frame((1, 1), (48, 24), 5, 1, 1) == (0, 0, 1, 1)


def test_the_frame_never_leaves_the_photo():
    for size in ((1, 999), (7, 5), (640, 481)):
        for zoom in (1, 1.7, 5):
            for across in (-1, -0.31, 1):
                left, top, right, bottom = frame(size, (48, 40), zoom, across, across)
                assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("setting", [(0.9, 0, 0), (10.1, 0, 0), (1, -1.1, 0), (1, 0, 1.1), (float("nan"), 0, 0)])
def test_the_frame_checks_its_ranges(setting):
    with pytest.raises(ValueError, match="it must be from"):
        frame((200, 100), (48, 40), *setting)


def test_a_frame_around_a_point():
    size, shape, zoom = (640, 480), (48, 40), 2.5
    for point in ((200, 150), (320, 240), (500, 300)):
        left, top, right, bottom = frame(size, shape, zoom, *frame_around(size, shape, zoom, point))
        assert abs((left + right) / 2 - point[0]) <= 3 and abs((top + bottom) / 2 - point[1]) <= 3
    assert frame_around(size, shape, zoom, (0, 480)) == (-1, 1)
    assert frame_around((40, 48), shape, 1, (3, 3)) == (0, 0)


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
    shown = draw_frame(PIL.Image.new("RGB", (200, 200), "white"), (60, 50, 140, 150), hidden_half)
    assert shown.size == (200, 200)
    assert shown.getpixel(bright) == (255, 255, 255)
    assert shown.getpixel(dark) == (155, 155, 155)
    assert shown.getpixel((10, 10)) == (105, 105, 105)
    along = (70, 100) if hidden_half in ("bottom", "top") else (100, 70)
    assert shown.getpixel(along) == crop.ACCENT


def test_previews_are_small():
    assert preview_size((4000, 3000)) == (560, 420)
    assert draw_frame(PIL.Image.new("RGB", (4000, 30)), (0, 0, 25, 30), "bottom").size == preview_size((4000, 30))
