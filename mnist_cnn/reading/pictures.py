"""Read picture files."""

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_cnn.errors import InputError, describe_exception

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
MAX_PIXELS = 100_000_000
WORKING_SIDE = 1000  # larger pictures are reduced to this

Colours = npt.NDArray[np.float32]  # [H, W, C] in [0, 1]

File = Path | BinaryIO

cv2.setNumThreads(1)  # most pictures are too small for more threads to pay off
Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; _decode enforces MAX_PIXELS


def read_picture(file: File) -> tuple[Colours, float]:
    """Read a picture as float32 [H, W, 1 or 3], with 0 for black and 1 for white, upright and with
    no side longer than WORKING_SIDE; also return the factor by which it was reduced.

    Transparent areas become white under dark ink and black under light ink. Only the first frame of
    an animation is read.

    Raises:
        InputError: the picture isn't in one of IMAGE_FORMATS, is damaged, or has more than
            MAX_PIXELS pixels or pixels that aren't finite.
    """
    picture, original_side = _decode(file)
    white = 255.0
    if picture.mode.startswith(("I", "F")):
        white = 65535.0 if picture.mode.startswith("I") else 1.0
        picture = picture.convert("F")
        white = max(white, *np.abs(picture.getextrema()))
    else:
        opaque = "L" if picture.mode in ("1", "L") else "RGB"
        mode = "RGBA" if picture.has_transparency_data else opaque
        if picture.mode != mode:  # otherwise, convert would copy all pixels
            picture = picture.convert(mode)
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    colours = np.atleast_3d(np.asarray(picture, np.float32))
    if not np.isfinite(colours).all():
        raise InputError(
            "it contains pixels that are infinite or not a number: expected finite values; save it "
            "without them"
        )
    colours = colours / np.float32(white)
    if colours.shape[2] == 4:
        colours, opacity = colours[..., :3], colours[..., 3:]
        light_ink = (colours * opacity).mean() > opacity.mean() / 2
        colours = colours * opacity + (0 if light_ink else 1 - opacity)
    return colours.astype(np.float32), original_side / max(colours.shape)


def _decode(file: File) -> tuple[Image.Image, int]:
    """Decode a picture and turn it upright. Also return the longer side it has in the file, because
    a JPEG is decoded at a smaller size."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"it has {width} x {height} pixels: expected at most {MAX_PIXELS:,}; reduce it"
                )
            picture.draft(None, (WORKING_SIDE, WORKING_SIDE))
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
