"""Decode picture files, and bring pictures to one size."""

import io
import re
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageMode, ImageOps, TiffImagePlugin, UnidentifiedImageError

from mnist_cnn.errors import InputError, describe_exception

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_BYTES = 200_000_000
MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # pixels, as in JPEG; thin pictures take more memory than others
MAX_SCANS = 30  # of a progressive JPEG; encoders use about ten, and each passes over all pixels
MAX_READS = 500_000  # from a file; a PNG could consist of millions of empty parts
# libjpeg accepts no other start of a scan, and compressed pixels can't contain it.
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

File = Path | io.BytesIO

Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; open_picture enforces MAX_PIXELS
warnings.filterwarnings("ignore", module="PIL")  # what Pillow can't use in a file doesn't matter


def open_picture(file: File, smallest: tuple[int, int] | None = None) -> tuple[Image.Image, int]:
    """Decode a picture, or the first frame of an animation, and turn it upright. Also return the
    longer side it has in the file: a JPEG may be decoded at a smaller size, which saves time, but
    not at less than `smallest`, a width and a height.

    Raises:
        InputError: the picture isn't in one of IMAGE_FORMATS, is damaged, isn't in a regular file,
            or exceeds a limit: MAX_BYTES, MAX_PIXELS, MAX_SIDE, MAX_SCANS or MAX_READS.
    """
    try:
        with _open_file(file) as content, Image.open(content, formats=IMAGE_FORMATS) as picture:
            longer = max(picture.size)
            _check_size(picture)
            if picture.format in ("JPEG", "MPO"):
                _check_scans(content)
            picture.draft(None, smallest)
            ImageOps.exif_transpose(picture, in_place=True)
            return picture, longer
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not a recognised image format" if unknown else describe_exception(error)
        raise InputError(
            f"it cannot be read as a picture ({reason}): expected {', '.join(IMAGE_FORMATS)}"
        ) from error


def picture_kind(path: Path) -> tuple[tuple[int, int], bool]:
    """Return a picture's height and width when upright, and whether it may have colours, from its
    header.

    Raises:
        InputError: it has none that can be read.
    """
    try:
        with _open_file(path) as content, Image.open(content, formats=IMAGE_FORMATS) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            colours = ImageMode.getmode(picture.mode).basemode != "L"
            return ((width, height) if turned else (height, width)), colours
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} cannot be read ({describe_exception(error)})") from error


class _Content(io.BufferedReader):
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise InputError("it consists of too many parts: save it again as a picture")
        return super().read(size)


def _open_file(file: File) -> _Content:
    # A pipe or a device may have no end.
    if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
        raise InputError("it is not a regular file: expected a picture")
    content = _Content(io.FileIO(file) if isinstance(file, Path) else file)
    if content.seek(0, io.SEEK_END) > MAX_BYTES:
        raise InputError(f"it has more than {MAX_BYTES // 10**6} MB: reduce it")
    return content


def _check_size(picture: Image.Image) -> None:
    """Check the size of a picture, or of its tiles if they are larger."""
    tags = getattr(picture, "tag_v2", {})
    width = max(picture.width, tags.get(TiffImagePlugin.TILEWIDTH, 0))
    height = max(picture.height, tags.get(TiffImagePlugin.TILELENGTH, 0))
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(
            f"it has {width} x {height} pixels: expected at most {MAX_PIXELS:,}, and {MAX_SIDE:,} "
            "on a side; reduce it"
        )


def _check_scans(content: _Content) -> None:
    content.seek(0)
    scans = len(SCAN.findall(content.read()))
    if scans > MAX_SCANS:
        raise InputError(f"it has {scans:,} scans: expected at most {MAX_SCANS}; save it again")


def load_image(file: File, shape: tuple[int, ...], resizing: str) -> npt.NDArray[np.uint8]:
    """Decode a picture and fit it to `shape`: see `open_picture` and `fit_picture`."""
    height, width = shape[:2]
    longer = 2 * max(height, width)  # Pillow's filters need no more than twice the pixels
    return fit_picture(open_picture(file, (longer, longer))[0], shape, resizing)


def fit_picture(
    picture: Image.Image, shape: tuple[int, ...], resizing: str
) -> npt.NDArray[np.uint8]:
    """Scale a picture to `shape`, (H, W) or (H, W, 1) for grey and (H, W, 3) for colour, and return
    it as uint8 of that shape.

    Its aspect ratio stays. With the `resizing` "pad", all of the picture is kept, and the rest of
    the image gets the mean colour of its border. With "crop", its middle fills the image.
    Transparent areas become white. Pillow scales with integers, so that all CPUs round alike.
    """
    mode = "RGB" if shape[2:] == (3,) else "L"
    picture = _opaque(picture, mode)
    size = (shape[1], shape[0])
    if resizing == "crop":
        picture = ImageOps.fit(picture, size)
    else:
        picture = ImageOps.pad(picture, size, color=_border_colour(picture))
    return np.asarray(picture).reshape(shape)


def _opaque(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == "F":
        raise InputError("its pixels are floating-point numbers: expected integers; convert it")
    if picture.mode.startswith("I"):  # 16 bits per pixel, of which 8 are kept
        grey = (np.asarray(picture).clip(0, 65535) // 256).astype(np.uint8)
        return Image.fromarray(grey).convert(mode)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return picture.convert(mode)


def _border_colour(picture: Image.Image) -> Any:
    pixels = np.atleast_3d(np.asarray(picture))
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    mean = np.concatenate(border).mean(axis=0, dtype=np.float64).round().astype(int)
    return tuple(mean.tolist())
