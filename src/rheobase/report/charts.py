"""Charts for a web page, without a plotting library.

A report is read on a monitor at night, on a phone and on paper. A plotting library's image has one size and one set of colours;
these charts have neither: lines and areas are SVG that stretches to the available space, in colours chosen by the style sheet,
and all text is HTML, so that it keeps its size and can be read aloud. Spike rasters, which may have millions of points, are
small PNG images of black with varying opacity, which the style sheet inverts on a dark page.

Every function returns HTML. Text arguments are escaped here; only parameters named `drawing` are HTML already.
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float, Shaped, UInt8

SIZE = 1000  # Charts are drawn in a square of this many units and stretched to fit.
_HUGE = 1e100  # Beyond it, differences overflow: drawn as a gap, like NaN.


@dataclass(frozen=True)
class Scale:
    """An axis: the values at its two ends, and the format of a tick's value."""

    low: float
    high: float
    percent: bool = False
    whole: bool = False  # Only whole numbers make sense, as for epochs.

    @classmethod
    def covering(cls, values: Iterable[float], *, low: float | None = None, percent: bool = False) -> "Scale":
        """The axis that shows all finite values, beginning at `low` if that is given.

        Example:
            >>> Scale.covering([2.0, float("nan"), 5.0])
            Scale(low=2.0, high=5.0, percent=False, whole=False)
        """
        finite = [value for value in values if abs(value) < _HUGE] or [0.0]
        bottom = min(finite) if low is None else low
        top = max(*finite, bottom)
        if top - bottom <= 1e-9 * max(abs(top), 1e-3):
            top = bottom + max(abs(bottom), 1e-2)
        return cls(bottom, top, percent)

    def at(self, value: float) -> float:
        """Where a value lies, as a fraction of the axis."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round values along the axis, as (fraction of the axis, text).

        Example:
            >>> [text for _, text in Scale(0.0, 0.5, percent=True).ticks()]
            ['0%', '10%', '20%', '30%', '40%', '50%']
        """
        least = (self.high - self.low) / most
        least = max(least, 1.0) if self.whole else least
        power = 10.0 ** math.floor(math.log10(least))
        factors = (1, 2, 5, 10, 20) if self.whole and power < 10 else (1, 2, 2.5, 5, 10, 20)
        step = next(factor * power for factor in factors if factor * power >= least * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(self.at(n * step), self.write(n * step)) for n in range(first, last + 1)]

    def write(self, value: float) -> str:
        """A value as written beside a tick."""
        return f"{100 * value:.6g}%" if self.percent else f"{value:.6g}"


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name, its values and the style sheet's class for it."""

    name: str
    values: Sequence[float]
    style: str


def line(xs: Sequence[float], values: Sequence[float], x: Scale, y: Scale, style: str) -> str:
    """A line through points as SVG; a value that is not finite is a gap, a point between two gaps a dot."""
    runs: list[list[str]] = [[]]
    for position, value in zip(xs, values, strict=True):
        if abs(value) < _HUGE:
            runs[-1].append(f"{SIZE * x.at(position):.1f},{SIZE * (1 - y.at(value)):.1f}")
        elif runs[-1]:
            runs.append([])
    lines = "".join(f"M{'L'.join(points)}" for points in runs if len(points) > 1)
    dots = "".join(f"M{points[0]}h.5" for points in runs if len(points) == 1)  # A short line with round ends.
    return f'<path class="line {style}" d="{lines}"/>' + (
        f'<path class="line dot {style}" d="{dots}"/>' if dots else ""
    )


def points(xs: Sequence[float], values: Sequence[float], x: Scale, y: Scale, style: str) -> str:
    """Dots as SVG."""
    places = (f"M{SIZE * x.at(at):.1f},{SIZE * (1 - y.at(value)):.1f}h.5" for at, value in zip(xs, values, strict=True))
    return f'<path class="line dot {style}" d="{"".join(places)}"/>'


def bars(edges: Sequence[float], lows: Sequence[float], highs: Sequence[float], x: Scale, y: Scale, style: str) -> str:
    """Adjacent bars as SVG: bar k stands between `edges[k]` and `edges[k + 1]` and spans `lows[k]` to `highs[k]`."""
    drawing = []
    for left, right, low, high in zip(edges[:-1], edges[1:], lows, highs, strict=True):
        if high > low:
            width, height = SIZE * (x.at(right) - x.at(left)), SIZE * (y.at(high) - y.at(low))
            drawing.append(
                f"M{SIZE * x.at(left):.1f},{SIZE * (1 - y.at(low)):.1f}v{-height:.1f}h{width:.1f}v{height:.1f}z"
            )
    return f'<path class="bar {style}" d="{"".join(drawing)}"/>'


def figure(body: str, caption: str, style: str = "") -> str:
    """A figure with its caption; `body` is HTML, the caption plain text."""
    return f'<figure class="{style}">{body}<figcaption>{escape(caption)}</figcaption></figure>'


def svg(drawing: str) -> str:
    """A drawing that stretches to the element around it."""
    return f'<svg viewBox="0 0 {SIZE} {SIZE}" preserveAspectRatio="none" aria-hidden="true">{drawing}</svg>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """The key to a chart's colours, from (style, text)."""
    keys = "".join(f'<span class="key {style}">{escape(text)}</span>' for style, text in entries)
    return f'<span class="legend">{keys}</span>'


def chart(
    title: str,
    drawing: str,
    x: Scale,
    y: Scale,
    *,
    x_name: str,
    alt: str,
    key: str = "",
    mark: tuple[float, str] | None = None,
) -> str:
    """A drawing with axes, a title, a key and, at one position along the x axis, a mark.

    Args:
        title: what the y axis shows.
        drawing: SVG elements in units of `SIZE`, from `line` or `bars`.
        x: the x axis.
        y: the y axis.
        x_name: what the x axis shows.
        alt: the description for a reader who cannot see the chart.
        key: HTML from `legend`.
        mark: position on the x axis and text.

    Returns:
        The chart as HTML.
    """
    texts, rules = [], []
    for fraction, text in y.ticks(4):
        rules.append(f"M0,{SIZE * (1 - fraction):.1f}h{SIZE}")
        texts.append(f'<i class="y" style="bottom:{100 * fraction:.2f}%">{text}</i>')
    texts += [f'<i class="x" style="left:{100 * fraction:.2f}%">{text}</i>' for fraction, text in x.ticks()]
    marked = ""
    if mark is not None:
        fraction = x.at(mark[0])
        at = 100 * fraction  # The text moves left with its place, so that it stays within the chart.
        marked = f'<path class="mark" d="M{SIZE * fraction:.1f},0v{SIZE}"/>'
        texts.append(f'<i class="mark" style="left:{at:.2f}%;transform:translateX(-{at:.2f}%)">{escape(mark[1])}</i>')
    return (
        f'<div class="chart{" marked" if mark else ""}"><div class="title">{escape(title)}{key}</div>'
        f'<div class="area" role="img" aria-label="{escape(alt)}">'
        f'{svg(f"""<path class="grid" d="{"".join(rules)}"/>{marked}{drawing}""")}{"".join(texts)}</div>'
        f'<div class="axis">{escape(x_name)}</div></div>'
    )


def pooled(
    image: Shaped[np.ndarray, "rows columns"], rows: int, columns: int
) -> Float[np.ndarray, "fewer_rows fewer_columns"]:
    """Sum neighbouring pixels until the image has at most this many rows and columns.

    Example:
        >>> pooled(np.ones((4, 3), dtype=np.uint8), rows=2, columns=10)
        array([[2., 2., 2.],
               [2., 2., 2.]])
    """
    for axis, most in enumerate((rows, columns)):
        if image.shape[axis] > most:
            starts = np.arange(most) * image.shape[axis] // most
            image = np.add.reduceat(image, starts, axis=axis, dtype=np.float64)
    return image.astype(np.float64)


def raster_png(strength: Float[np.ndarray, "rows columns"]) -> str:
    """An image as a data URI: opacity shows the size of a value, black its being positive, red its being negative.

    Values are relative to the 99th percentile of the nonzero ones, so that a few large ones do not hide the rest; the smallest
    are still clearly visible.
    """
    size = np.abs(strength)
    largest = float(np.quantile(size[size > 0], 0.99)) if (size > 0).any() else 1.0
    shade = 1 + np.rint(126 * np.minimum(size / largest, 1))
    return _png(np.where(size > 0, shade + 128 * (strength < 0), 0).astype(np.uint8))


def _png(pixels: UInt8[np.ndarray, "rows columns"]) -> str:
    """Pixels as a PNG with a palette (ISO/IEC 15948): 0 is clear, 1 to 127 ever denser black, 129 to 255 red."""
    height, width = pixels.shape
    opacity = np.rint(np.linspace(80, 255, 127)).astype(np.uint8).tobytes()
    black, red = bytes((16, 24, 40)), bytes((200, 64, 10))
    palette = black * 128 + red * 128
    # Every row begins with a byte that names its filter; 0 is none.
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"tRNS", b"\0" + opacity + b"\0" + opacity),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
