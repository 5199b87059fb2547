"""Decode picture files, and bring pictures to one size."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageMode, ImageOps, UnidentifiedImageError

from mnist_cnn.errors import InputError, describe_exception

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 100_000_000

File = Path | BinaryIO

Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; open_picture enforces MAX_PIXELS


def open_picture(file: File, smallest: tuple[int, int] | None = None) -> tuple[Image.Image, int]:
    """Decode a picture, or the first frame of an animation, and turn it upright. Also return the
    longer side it has in the file: a JPEG may be decoded at a smaller size, which saves time, but
    not at less than `smallest`, a width and a height.

    Raises:
        InputError: the picture isn't in one of IMAGE_FORMATS, is damaged, or has more than
            MAX_PIXELS pixels.
    """
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"it has {width} x {height} pixels: expected at most {MAX_PIXELS:,}; reduce it"
                )
            picture.draft(None, smallest)
            ImageOps.exif_transpose(picture, in_place=True)
            return picture, max(width, height)
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
        with Image.open(path, formats=IMAGE_FORMATS) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            colours = ImageMode.getmode(picture.mode).basemode != "L"
            return ((width, height) if turned else (height, width)), colours
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} cannot be read ({describe_exception(error)})") from error


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
