"""Read a picture of digits."""

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mnist_cnn.data.pictures import File, open_picture
from mnist_cnn.errors import InputError

WORKING_SIDE = 1000  # larger pictures are reduced to this

Colours = npt.NDArray[np.float32]  # [H, W, C] in [0, 1]

cv2.setNumThreads(1)  # most pictures are too small for more threads to pay off


def read_picture(file: File) -> tuple[Colours, float]:
    """Read a picture as float32 [H, W, 1 or 3], with 0 for black and 1 for white, upright and with
    no side longer than WORKING_SIDE; also return the factor by which it was reduced.

    Transparent areas become white under dark ink and black under light ink. Only the first frame of
    an animation is read.

    Raises:
        InputError: see `open_picture`; or some pixels aren't finite.
    """
    picture, original_side = open_picture(file, (WORKING_SIDE, WORKING_SIDE))
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
