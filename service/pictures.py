"""From the bytes of a picture to the network's input: the one place where an image is decoded.

By rule:

* PNG, JPEG, GIF, WebP and BMP are read, by content and not by name. Others are unreadable, as is what was cut short.
* The number of pixels is taken from the header and limited before anything is decoded.
* An animation is refused: none of its frames is the one to classify. A GIF, PNG or WebP of one frame is a picture.
* 16-bit grey is scaled to 8 bits, not cut off at 255; 16 bits a colour lose their lower byte.
* CMYK and YCCK become RGB without regard to colour profiles, palettes their colours, 1-bit black and white.
* EXIF rotation is honoured, so that a phone's photograph stands upright; broken EXIF data are no rotation.
* Transparent pixels are laid on the manifest's background.
* Colour becomes grey by its luma (ITU-R 601-2), grey becomes colour by repetition.
* Then the manifest's method, ``resize`` or ``ink`` (`service.ink`), to values of 0 (black) to 1 (white).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from models.bundle import FloatArray, InputSpec
from service import ink
from service.plain_png import PlainPng, plain_png
from service.problems import AnimatedPicture, TooManyPixels, UnreadablePicture

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
# Pillow imports its readers at the first picture, whose sender would wait for it.
Image.init()
_ORIENTATION = 0x0112
# EXIF orientation to what undoes it; 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Decoding and scaling this many pixels takes less than handing the work to a thread and back.
_QUICK_PIXELS = 64 * 64
# A JPEG much larger than needed is decoded at a half, a quarter or an eighth: never below this many times the input.
_DRAFT = 8


@dataclass(frozen=True)
class EncodedPicture:
    """A picture whose header was read and whose pixels were not decoded yet; its size is that of the header."""

    _source: ImageFile.ImageFile | PlainPng

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self._source.width * self._source.height

    def is_quick(self, spec: InputSpec) -> bool:
        """Whether `to_input` is over in microseconds, so that no thread is needed for it."""
        fits = spec.picture.method == "resize" or (self._source.width, self._source.height) == (spec.width, spec.height)
        return fits and self.pixels <= _QUICK_PIXELS

    def to_input(self, spec: InputSpec) -> FloatArray:
        """Decode and bring to the network's input: float32 [C, H, W] of 0 to 1.

        Once only: the decoder is used up. Raises UnreadablePicture and AnimatedPicture.
        """
        if isinstance(self._source, PlainPng):
            return _from_plain(self._source, spec)
        return _from_image(_flat(_decoded(self._source, spec), spec.picture.background), spec)


def open_picture(data: bytes, max_pixels: int) -> EncodedPicture:
    """Read a picture's header. Raises UnreadablePicture, and TooManyPixels where the header says so."""
    source = plain_png(data) or _open(data, max_pixels)
    if source.width * source.height > max_pixels:
        raise TooManyPixels(f"the picture has {source.width}×{source.height} pixels; at most {max_pixels} are taken")
    return EncodedPicture(source)


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(f"the picture has more than {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadablePicture(f"no picture of a kind that is read here: {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's readers raise many kinds on hostile headers, SyntaxError and struct.error too
        raise UnreadablePicture("the picture's header cannot be read") from error


def _from_plain(source: PlainPng, spec: InputSpec) -> FloatArray:
    pixels = source.pixels() if source.width * source.height <= _QUICK_PIXELS else None
    if pixels is None:
        image = _open(source.data, source.width * source.height)
        return _from_image(_flat(_decoded(image, spec), spec.picture.background), spec)
    as_it_is = pixels.shape == ((spec.height, spec.width) if spec.channels == 1 else (spec.height, spec.width, 3))
    if not as_it_is or (spec.picture.method == "ink" and spec.channels != 1):
        return _from_image(Image.fromarray(pixels), spec)
    values = pixels.astype(np.float32)
    values /= np.float32(255)
    if spec.channels != 1:
        return np.ascontiguousarray(values.transpose(2, 0, 1))
    return (ink.same_size(values) if spec.picture.method == "ink" else values)[None]


def _from_image(picture: Image.Image, spec: InputSpec) -> FloatArray:
    """A picture in mode L or RGB as the network's input."""
    if spec.picture.method == "ink":
        values = np.broadcast_to(_redrawn(picture.convert("L"), spec), spec.shape)
    else:
        picture = picture.convert("L" if spec.channels == 1 else "RGB")
        if picture.size != (spec.width, spec.height):
            picture = picture.resize((spec.width, spec.height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
        values = pixels.reshape(spec.height, spec.width, spec.channels).transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype=np.float32)


def to_png(values: FloatArray, spec: InputSpec) -> bytes:
    """The network's input, float32 [C, H, W], as a PNG: 0 is black and 1 white, and what is beyond is cut off."""
    pixels = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[0] if spec.channels == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _decoded(image: ImageFile.ImageFile, spec: InputSpec) -> Image.Image:
    try:
        # A JPEG with several pictures (MPO, many phones' default) holds previews and depth maps beside its first.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            raise AnimatedPicture("the picture is an animation; send one still picture")
        least = ink.WORKING_SIDE if spec.picture.method == "ink" else _DRAFT * max(spec.height, spec.width)
        image.draft(None, (least, least))
        image.load()
        if image.mode in ("P", "PA") and image.palette is None:
            raise ValueError("the palette is missing")
    except AnimatedPicture:
        raise
    except Exception as error:  # as in open_picture
        raise UnreadablePicture("the picture is damaged or cut short") from error
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: ImageFile.ImageFile) -> int:
    if not ({"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a camera's broken metadata, of whatever kind, must not lose the picture
        return 1


def _flat(image: Image.Image, background: str) -> Image.Image:
    """Without transparency, in mode L or RGB."""
    if image.mode.startswith("I"):
        return _from_16_bits(image, background)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, background)
        paper.alpha_composite(image)
        return paper.convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bits(image: Image.Image, background: str) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    pixels = ((values * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = 255 if background == "white" else 0
    return Image.fromarray(pixels)


def _redrawn(grey: Image.Image, spec: InputSpec) -> FloatArray:
    if grey.size == (spec.width, spec.height):
        return ink.same_size(np.asarray(grey, dtype=np.float32) / np.float32(255))
    assert spec.picture.box is not None  # the manifest's own rule
    return ink.redraw(grey, spec.height, spec.width, spec.picture.box)
