"""Frames of episodes as GIF, MP4 or PNG; Pillow and an encoder are optional (``pip install 'rlce[watch]'``)."""

from __future__ import annotations

import functools
import importlib.util
import io
import itertools
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_DARK, _LIGHT, _GREY, _PALE = "#20262b", "#ffffff", "#6b7379", "#e4e8eb"
_BLUE, _ORANGE = "#2a6f97", "#d1702f"  # the other actions; the one that was taken
_HOLD = 1.0  # seconds that the last frame of an episode stays
_COLOURS = 127  # of a GIF; one more stands for "as in the frame before"
_NEEDED = {".gif": ("PIL",), ".png": ("PIL",), ".mp4": ("PIL", "imageio_ffmpeg")}
_PACKAGES = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg", "pygame": "pygame"}


class Bar(NamedTuple):
    """What a policy says of one class or one number of an action.

    Attributes:
        label: the class or the number's index.
        low: where the bar begins, 0 to 1 of its axis.
        high: where it ends.
        text: the probability, or mean ± deviation.
        taken: true if the action names this class.
        mark: where the action's number lies, 0 to 1 of the axis; None for a class.
    """

    label: str
    low: float
    high: float
    text: str
    taken: bool = False
    mark: float | None = None


class Frame(NamedTuple):
    """A moment of an episode: before an action or, in the last frame, after the last one.

    Attributes:
        picture: ``[height, width, 3]``, uint8.
        title: which episode it is.
        step: number of steps before it.
        total: return of these steps.
        last: true for the last frame of an episode.
        bars: what the policy says; empty in the last frame, and for an agent that tells only actions.
    """

    picture: NDArray[np.uint8]
    title: str
    step: int
    total: float
    last: bool
    bars: tuple[Bar, ...]


def check_installed(*modules: str) -> None:
    """Check that packages are installed, before anything is played.

    Raises:
        ModuleNotFoundError: one is not; the message names the remedy.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"{_PACKAGES[module]} is not installed: pip install 'rlce[watch]'")


def checked_kind(path: str | os.PathLike[str]) -> str:
    """The suffix of a file of pictures, in lower case: ".gif", ".mp4" or ".png".

    Raises:
        ValueError: another suffix, or the file cannot be written.
        ModuleNotFoundError: Pillow or the encoder is not installed.

    Example:
        >>> checked_kind("episode.GIF")
        '.gif'
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in _NEEDED:
        raise ValueError(f"path must end in .gif, .mp4 or .png (a strip of frames), got {str(path)!r}")
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"path: cannot write {str(path)!r}; its directory must exist and be writable")
    check_installed(*_NEEDED[kind])
    return kind


def captioned(frame: Frame, width: int | None) -> Image:
    """The frame under a line with its title, step and return so far.

    Args:
        frame: the frame.
        width: of the picture, in pixels; None for the environment's own.

    Returns:
        An RGB image; its height follows from the width.
    """
    from PIL import Image, ImageDraw

    picture = _scaled(frame.picture, width)
    size = max(11, picture.width // 26)
    height = 2 * (size * 3 // 4)
    whole = Image.new("RGB", (picture.width, height + picture.height), _DARK)
    whole.paste(picture, (0, height))
    draw, middle, edge = ImageDraw.Draw(whole), height // 2, size // 2
    _write(draw, (edge, middle), frame.title, size, _LIGHT, "lm")
    # The words stand still while the numbers change.
    total = f"{frame.total:.{1 if abs(frame.total) < 10_000 else 0}f}"
    for end, word, number in ((0.72, "step", str(frame.step)), (1.0, "return", total)):
        right = round(picture.width * end) - edge
        _write(draw, (right, middle), number, size, _LIGHT, "rm")
        _write(draw, (right - 3 * size - (size if word == "return" else 0), middle), word, size, "#aeb6bc", "rm")
    return whole


def gif(frames: Iterable[Frame], rate: float, width: int | None) -> bytes:
    """A GIF that plays at the speed of the environment, and begins again at its end.

    All frames share one palette, without dithering, so that nothing flickers and what stands still takes no space.

    Args:
        frames: of one episode or of several; they may leave steps out.
        rate: steps per second.
        width: of the GIF, in pixels; None for the environment's own.

    Returns:
        The file's content.
    """
    steps, lasts, pictures = [], [], []
    for frame in frames:
        steps.append(frame.step)
        lasts.append(frame.last)
        pictures.append(captioned(frame, width))
    pictures = _same_size(pictures)
    palette = _palette(pictures)
    indexed = _indexed(pictures, palette)
    durations = []
    for step, last, following in itertools.zip_longest(steps, lasts, steps[1:]):
        # A GIF counts in hundredths of a second; differences of rounded times keep the average speed.
        ticks = round(100 * _HOLD) if last else round(100 * following / rate) - round(100 * step / rate)
        durations.append(10 * max(ticks, 2))  # browsers take shorter ones for a mistake
    file = io.BytesIO()
    # Without an explicit palette, Pillow repeats it in every frame.
    colours, unchanged = bytes(indexed[0].getpalette() or ()), len(palette)
    indexed[0].save(
        file, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, palette=colours,
        transparency=unchanged, optimize=True,
    )  # fmt: skip
    return file.getvalue()


def _palette(pictures: Sequence[Image]) -> NDArray[np.int32]:
    """Colours for all pictures, ``[n, 3]``, from some of them: the first, the last, and what lies between."""
    from PIL import Image

    chosen = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, 16).round().astype(int))]
    sheet = Image.new("RGB", (chosen[0].width, chosen[0].height * len(chosen)))
    for number, picture in enumerate(chosen):
        sheet.paste(picture, (0, number * picture.height))
    # Maximum coverage keeps rare colours, such as those of sparks.
    colours = sheet.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1).getpalette() or []
    return np.unique(np.reshape(colours[: 3 * _COLOURS], (-1, 3)), axis=0).astype(np.int32)


def _indexed(pictures: Iterable[Image], palette: NDArray[np.int32]) -> list[Image]:
    """The pictures in the nearest colours of the palette, which gets one more colour that no pixel has.

    Pillow's own mapping rounds colours first, so that its white is not white.
    """
    from PIL import Image

    taken = {tuple(colour) for colour in palette.tolist()}
    spare = next((0, 0, blue) for blue in range(256) if (0, 0, blue) not in taken)
    nearest = np.full(1 << 24, 255, np.uint8)  # of every colour there is; 255: not known yet
    images = []
    for picture in pictures:
        red, green, blue = np.moveaxis(np.asarray(picture).astype(np.int32), -1, 0)
        colour = red << 16 | green << 8 | blue
        new = np.unique(colour[nearest[colour] == 255])
        for begin in range(0, len(new), 4_096):
            some = new[begin : begin + 4_096]
            parts = np.stack((some >> 16, some >> 8 & 255, some & 255), axis=1)
            nearest[some] = np.square(parts[:, None] - palette).sum(axis=-1).argmin(axis=-1)
        images.append(Image.frombytes("P", picture.size, nearest[colour].tobytes()))
        images[-1].putpalette([*palette.ravel().tolist(), *spare])
    return images


def mp4(frames: Iterable[Frame], rate: float, width: int | None) -> bytes:
    """An H.264 video with every frame, written as the frames come.

    Args:
        frames: of one episode or of several, every step of it.
        rate: steps per second.
        width: of the video, in pixels; None for the environment's own.

    Returns:
        The file's content.

    Raises:
        OSError: the encoder is missing, or failed.
    """
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OSError(f"imageio-ffmpeg finds no program ffmpeg, which its own wheels bring: {error}") from error
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "episodes.mp4"
        writer, size = None, (0, 0)
        try:
            for frame in frames:
                picture = captioned(frame, width)
                if writer is None:
                    size = picture.width + picture.width % 2, picture.height + picture.height % 2  # yuv420p: even
                    more = ["-movflags", "+faststart"]
                    writer = imageio_ffmpeg.write_frames(
                        str(path), size, fps=rate, quality=7, macro_block_size=2, ffmpeg_log_level="error",
                        output_params=more,
                    )  # fmt: skip
                    writer.send(None)
                for _ in range(max(1, round(_HOLD * rate)) if frame.last else 1):
                    writer.send(_on_canvas(picture, size).tobytes())
        finally:
            if writer is not None:
                writer.close()
        return path.read_bytes()


def strip(frames: Iterable[Frame], width: int | None) -> bytes:
    """A PNG: an episode a row, frames from left to right, and below each frame what the policy says of the actions.

    Args:
        frames: of one episode or of several.
        width: of one frame, in pixels; None for 220.

    Returns:
        The file's content.
    """
    from PIL import Image

    rows: list[list[Frame]] = [[]]
    for frame in frames:
        rows[-1].append(frame)
        if frame.last:
            rows.append([])
    drawn = [_row(row, width or 220) for row in rows if row]
    whole = Image.new("RGB", (max(each.width for each in drawn), sum(each.height for each in drawn)), _LIGHT)
    top = 0
    for each in drawn:
        whole.paste(each, (0, top))
        top += each.height
    file = io.BytesIO()
    whole.save(file, "PNG", optimize=True)
    return file.getvalue()


def _row(frames: Sequence[Frame], width: int) -> Image:
    """The frames of one episode side by side, under a line with its title."""
    from PIL import Image, ImageDraw

    size, gap = max(12, width // 15), max(8, width // 20)
    line = size * 3 // 2
    pictures = [_scaled(frame.picture, width) for frame in frames]
    tallest, bars = max(picture.height for picture in pictures), max(len(frame.bars) for frame in frames)
    height = gap + line + tallest + line + bars * line + gap
    whole = Image.new("RGB", (gap + len(frames) * (width + gap), height), _LIGHT)
    draw, end = ImageDraw.Draw(whole), frames[-1]
    heading = f"{end.title}: return {end.total:.1f}, {end.step} steps"
    _write(draw, (gap, gap // 2 + line // 2), heading, size * 5 // 4, _DARK, "lm")
    for number, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
        left, top = gap + number * (width + gap), gap + line
        whole.paste(picture, (left, top))
        draw.rectangle((left, top, left + width - 1, top + picture.height - 1), outline=_GREY)
        top += tallest + line // 2
        when = f"step {frame.step}" + (", the end" if frame.last else "")
        _write(draw, (left, top), when, size, _DARK, "lm")
        _write(draw, (left + width, top), f"return {frame.total:.1f}", size, _DARK, "rm")
        _draw_bars(draw, frame.bars, (left, top + line), width, size)
    return whole


def _draw_bars(draw: ImageDraw, bars: Sequence[Bar], at: tuple[int, int], width: int, size: int) -> None:
    """The bars of one frame below each other, between their labels and texts; the first around the height of ``at``."""
    font, (left, middle), half = _font(size), at, size * 2 // 5
    begin = left + size // 2 + round(max((font.getlength(bar.label) for bar in bars), default=0))
    end = left + width - size // 2 - round(max((font.getlength(bar.text) for bar in bars), default=0))
    for bar in bars:
        low, high, mark = (begin + round((end - begin) * at) for at in (bar.low, bar.high, bar.mark or 0.0))
        _write(draw, (begin - size // 2, middle), bar.label, size, _DARK, "rm")
        draw.rectangle((begin, middle - half, end, middle + half), fill=_PALE)
        if high > low:
            draw.rectangle((low, middle - half, high, middle + half), fill=_ORANGE if bar.taken else _BLUE)
        if bar.mark is not None:
            draw.rectangle((mark - 1, middle - half - 2, mark + 1, middle + half + 2), fill=_ORANGE)
        _write(draw, (left + width, middle), bar.text, size, _DARK, "rm")
        middle += size * 3 // 2


def _write(draw: ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, anchor: str) -> None:
    draw.text(at, text, fill=colour, font=_font(size), anchor=anchor)


@functools.cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _scaled(picture: NDArray[np.uint8], width: int | None) -> Image:
    from PIL import Image

    image = Image.fromarray(picture)
    if width is None or width == image.width:
        return image
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.BILINEAR)


def _same_size(pictures: Sequence[Image]) -> list[Image]:
    """All on a canvas as large as the largest; an environment may draw episodes of different sizes."""
    size = max(each.width for each in pictures), max(each.height for each in pictures)
    return [_on_canvas(each, size) for each in pictures]


def _on_canvas(picture: Image, size: tuple[int, int]) -> Image:
    from PIL import Image

    if picture.size == size:
        return picture
    canvas = Image.new("RGB", size, _DARK)
    canvas.paste(picture, (0, 0))
    return canvas
