"""Pictures scaled to one size: the same bytes everywhere."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_cnn.data.pictures import MAX_BYTES, fit_picture, load_image, open_picture, picture_kind
from mnist_cnn.errors import InputError
from tests.helpers import ENVIRONMENT, ROOT

EXAMPLE = ROOT / "data/example.jpg"
DIGEST = "88192190653531fad41d4bc39f626844e6b2d537ee54465932d0b03b9384a3a0"
DECODE = """
import hashlib, sys
from pathlib import Path
from mnist_cnn.data.pictures import load_image
for shape in ((64, 48, 3), (1500, 1000, 3), (28, 28, 1)):
    for resizing in ("pad", "crop"):
        image = load_image(Path(sys.argv[1]), shape, resizing)
        print(hashlib.sha256(image.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("simd", ["used", "unused"])
def test_a_jpeg_decodes_to_the_same_bytes_with_and_without_simd(simd: str) -> None:
    """JSIMD_FORCENONE makes libjpeg-turbo use its C code, as on CPUs it has no assembly for."""
    environment = {"JSIMD_FORCENONE": "1"} if simd == "unused" else {}
    done = subprocess.run(
        [sys.executable, "-c", DECODE, EXAMPLE],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        check=True,
    )
    assert len(set(done.stdout.split())) == 6
    assert hashlib.sha256(done.stdout.replace(b"\r", b"")).hexdigest() == DIGEST


def halves() -> Image.Image:
    """40 x 20 pixels: the left half black, the right half red."""
    picture = Image.new("RGB", (40, 20))
    picture.paste("red", (20, 0, 40, 20))
    return picture


def test_padding_keeps_all_and_fills_up_with_the_colour_of_the_border() -> None:
    image = fit_picture(halves(), (20, 20, 3), "pad")
    assert image[10, 2].tolist() == [0, 0, 0]
    assert image[10, 17].tolist() == [255, 0, 0]
    assert image[0, 0].tolist() == image[19, 19].tolist() == [128, 0, 0]


def test_cropping_fills_the_image_with_the_middle() -> None:
    image = fit_picture(halves(), (20, 20, 3), "crop")
    assert image[:, :9].max() == 0
    assert (image[:, 11:, 0] == 255).all()


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    for resizing in ("pad", "crop"):
        image = fit_picture(Image.fromarray(pixels), (9, 7, 1), resizing)
        np.testing.assert_array_equal(image[..., 0], pixels)


def test_transparent_areas_become_white() -> None:
    for mode in ("RGBA", "LA"):
        assert (fit_picture(Image.new(mode, (4, 4)), (4, 4, 3), "pad") == 255).all()


def test_16_bits_become_8() -> None:
    pixels = np.array([[0, 255, 256, 65535]], np.uint16)
    image = fit_picture(Image.fromarray(pixels), (1, 4, 1), "pad")
    assert image.ravel().tolist() == [0, 0, 1, 255]


def test_fractions_are_refused() -> None:
    with pytest.raises(InputError, match="floating-point numbers: expected integers"):
        fit_picture(Image.new("F", (4, 4)), (4, 4, 1), "pad")


def test_a_large_jpeg_is_decoded_at_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((4000, 2000)).save(file, "JPEG")
    sizes = []
    monkeypatch.setattr(
        "mnist_cnn.data.pictures.fit_picture", lambda picture, *_: sizes.append(picture.size)
    )
    load_image(file, (64, 64), "pad")
    assert sizes == [(500, 250)]


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def many_chunks() -> bytes:
    png = encoded(Image.new("L", (9, 9)), "PNG")
    return png[:33] + chunk(b"abCd") * 500_000 + png[33:]


def many_scans() -> bytes:
    jpeg = encoded(Image.new("L", (9, 9)), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + 30 * last + jpeg[-2:]


def large_tile() -> bytes:
    tags = {256: 9, 257: 9, 258: 8, 259: 1, 262: 1, 322: 20_000, 323: 20_000, 324: 8, 325: 9}
    entries = (struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(Image.new("1", (65_536, 1)), "PNG"), "65536 x 1 pixels: expected at most"),
        (encoded(Image.new("1", (1, 65_536)), "TIFF"), "1 x 65536 pixels: expected at most"),
        (large_tile(), "20000 x 20000 pixels: expected at most"),
        (many_chunks(), "too many parts"),
        (many_scans(), "36 scans: expected at most 30"),
    ],
    ids=["wide", "high", "large tile", "many chunks", "many scans"],
)
def test_a_costly_picture_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=message):
        open_picture(io.BytesIO(content))


def test_chunks_after_the_pixels_are_limited() -> None:
    png = encoded(Image.new("L", (9, 9)), "PNG")
    with pytest.raises(InputError, match="too many parts"):
        open_picture(io.BytesIO(png[:-12] + chunk(b"abCd") * 500_000 + png[-12:]))


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it.png"
    path.write_bytes(encoded(Image.new("L", (9, 9)), "PNG"))
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(InputError, match="more than 200 MB: reduce it"):
        open_picture(path)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such files")
@pytest.mark.parametrize("endless", ["pipe", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, endless: str) -> None:
    path = tmp_path / "it.png"
    if endless == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for read in (open_picture, picture_kind):
        with pytest.raises(InputError, match="not a regular file: expected a picture"):
            read(path)


def test_damaged_tags_are_passed_over_in_silence() -> None:
    tag = struct.pack("<HHII", 0x112, 3, 1000, 90)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + tag + bytes(4)
    content = encoded(Image.new("L", (9, 9)), "JPEG", exif=exif)
    program = """if True:
        import io, sys
        from mnist_cnn.data.pictures import open_picture
        print(open_picture(io.BytesIO(sys.stdin.buffer.read()))[0].size)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, input=content, capture_output=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (b"(9, 9)", b"")
