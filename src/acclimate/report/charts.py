"""Charts as inline SVG. Colours are CSS classes, so that one drawing serves light and dark.

Drawn by hand rather than by matplotlib: a tenth of the bytes, text that stays text, and colours that follow the reader's theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from acclimate.report.wording import number, signed

WIDTH, HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 38
_MAX_TICKS = 5
_MAX_NAME = 28


@dataclass(frozen=True)
class Series:
    """A named line; `tone` is a CSS class: reference, first to fourth, baseline or accent."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    tone: str
    style: str = ""
    markers: bool = False


@dataclass(frozen=True)
class Interval:
    """A difference with its interval."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Dots:
    """One row of a dot plot: each seed's value, and their mean."""

    name: str
    values: Sequence[float]
    tone: str


@dataclass(frozen=True)
class _Scale:
    """A map from data to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            return _Scale(math.log(self.low), math.log(self.high), self.start, self.end)(math.log(value))
        return round(self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start), 1)


def ticks(low: float, high: float, most: int = _MAX_TICKS) -> list[float]:
    """Round numbers inside [low, high], at steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, y_range: tuple[float, float] | None = None, log_x: bool = False
) -> str:
    """Lines over a shared horizontal axis, with a legend; empty where no series has a point.

    Args:
        log_x: a logarithmic axis, marked at the points of the first series.
    """
    drawn = [each for each in series if len(each.x)]
    if not drawn:
        return ""
    xs, ys = [x for each in drawn for x in each.x], [y for each in drawn for y in each.y]
    low, high = y_range or _padded(min(ys), max(ys))
    x_scale, y_scale = _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT - 14 * log_x, log_x), _Scale(low, high, HEIGHT - _BOTTOM, _TOP)
    parts = [
        _axes(x_scale, y_scale, x_label, y_label, drawn[0].x if log_x else ticks(min(xs), max(xs), 6)),
        *(_line(each, x_scale, y_scale) for each in drawn),
    ]
    names = legend([(each.name, each.tone, each.style) for each in drawn]) if len(drawn) > 1 else ""
    return _svg("".join(parts), f"{y_label} by {x_label}") + names


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """Names with their colours, once each."""
    unique = list(dict.fromkeys(entries))
    key = '<svg class="key" viewBox="0 0 18 8" aria-hidden="true"><path class="line {}" d="M0 4H18"/></svg>'
    items = "".join(f"<li>{key.format(escape(f'{tone} {style}'))}{escape(name)}</li>" for name, tone, style in unique)
    return Markup(f'<ul class="legend">{items}</ul>')


def interval_chart(intervals: Sequence[Interval], *, x_label: str) -> str:
    """Differences with their intervals against zero."""
    low, high = _padded(min(0.0, *(each.low for each in intervals)), max(0.0, *(each.high for each in intervals)))
    height = _TOP + 44 * len(intervals) + _BOTTOM
    x_scale = _Scale(low, high, 16, WIDTH - 16)
    parts = [
        _x_axis(x_scale, height, x_label, ticks(low, high, 6), signs=True),
        f'<path class="zero" d="M{x_scale(0)} {_TOP - 6}V{height - _BOTTOM}"/>',
    ]
    for row, each in enumerate(intervals):
        y = _TOP + 30 + 44 * row
        tone = "baseline" if each.low <= 0 <= each.high else "first"
        text = f"{each.name}: {signed(each.mean)} ({signed(each.low)} to {signed(each.high)})"
        ends = "".join(f'<path class="line {tone}" d="M{x_scale(end)} {y - 5}v10"/>' for end in (each.low, each.high))
        parts.append(
            f'<text class="label" x="16" y="{y - 12}">{escape(text)}</text>'
            f'<path class="line {tone}" d="M{x_scale(each.low)} {y}H{x_scale(each.high)}"/>{ends}'
            f'<circle class="dot {tone}" cx="{x_scale(each.mean)}" cy="{y}" r="5"/>'
        )
    return _svg("".join(parts), x_label, height)


def dot_chart(rows: Sequence[Dots], *, x_label: str) -> str:
    """A row of dots for each name, a bar at their mean."""
    values = [value for row in rows for value in row.values]
    height = _TOP + 34 * len(rows) + _BOTTOM
    left = max(84, 14 + 7 * max(len(_short(row.name, _MAX_NAME)) for row in rows))
    x_scale = _Scale(*_padded(min(values), max(values)), left, WIDTH - 16)
    parts = [_x_axis(x_scale, height, x_label, ticks(x_scale.low, x_scale.high, 6))]
    for index, row in enumerate(rows):
        y, mean, name = _TOP + 18 + 34 * index, sum(row.values) / len(row.values), _short(row.name, _MAX_NAME)
        dots = "".join(
            f'<circle class="dot {row.tone}" cx="{x_scale(value)}" cy="{y}" r="4.5"><title>{number(value, 4)}</title></circle>'
            for value in row.values
        )
        parts.append(
            f'<text class="label" x="0" y="{y + 4}">{escape(name)}</text><path class="grid" d="M{left} {y}H{WIDTH - 16}"/>'
            f'<path class="line {row.tone} mean" d="M{x_scale(mean)} {y - 10}v20"/>{dots}'
        )
    return _svg("".join(parts), x_label, height)


def heat_map(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """A confusion matrix; shades are shares of the row, numbers are counts."""
    cell, left, top = 24, 96, 88
    size = cell * len(labels)
    parts = []
    for row, values in enumerate(counts):
        total = sum(values) or 1
        y = top + row * cell
        parts.append(f'<text class="label end" x="{left - 6}" y="{y + 16}">{escape(_short(labels[row]))}</text>')
        parts.append(
            f'<text class="label" transform="translate({left + row * cell + 16} {top - 6}) rotate(-60)">'
            f"{escape(_short(labels[row]))}</text>"
        )
        for column, value in enumerate(values):
            title = f"{labels[row]} taken for {labels[column]}: {value} of {total}"
            parts.append(_cell(left + column * cell, y, cell, value, value / total, "first" if row == column else "accent", title))
    frame = f'<rect class="frame" x="{left}" y="{top}" width="{size}" height="{size}"/>'
    width, height = left + size + 34, top + size + 4
    limits = f"min-width:{round(0.9 * width)}px;max-width:{round(1.25 * width)}px"
    drawn = f'<svg class="heat" viewBox="0 0 {width} {height}" style="{limits}" role="img" aria-label="confusion matrix">'
    return Markup(f'<div class="scroll">{drawn}{frame}{"".join(parts)}</svg></div>')


def _cell(x: float, y: float, cell: int, value: int, share: float, tone: str, title: str) -> str:
    if not value:
        return ""
    text = f'<text class="cell{" strong" if share > 0.55 else ""}" x="{x + cell / 2}" y="{y + 15.5}">{value}</text>'
    return (
        f'<g><title>{escape(title)}</title><rect class="fill {tone}" x="{x}" y="{y}" width="{cell}" height="{cell}" '
        f'fill-opacity="{round(0.08 + 0.92 * share, 2)}"/>{text}</g>'
    )


def bar_table(rows: Sequence[tuple[str, float, str]], *, highlight: str | None = None) -> str:
    """Horizontal bars as HTML, so that their text does not shrink with the page: (name, value, value as text). Empty without rows."""
    if not rows:
        return ""
    most = max(value for _, value, _ in rows) or 1.0
    items = []
    for name, value, text in rows:
        bar = f'<span class="bar {"first" if name == highlight else "reference"}" style="width:{100 * value / most:.1f}%"></span>'
        items.append(f'<li><span class="name">{escape(name)}</span><span>{bar}</span><span class="value">{escape(text)}</span></li>')
    return Markup(f'<ul class="bars">{"".join(items)}</ul>')


def reliability_chart(series: Sequence[Series]) -> str:
    """Accuracy by confidence; on the dashed diagonal a model means what it says."""
    diagonal = Series("ideal", [0.0, 1.0], [0.0, 1.0], "baseline", "dashed")
    return line_chart([diagonal, *series], x_label="confidence", y_label="accuracy", y_range=(0.0, 1.0))


def _line(series: Series, x_scale: _Scale, y_scale: _Scale) -> str:
    points = [(x_scale(x), y_scale(y)) for x, y in zip(series.x, series.y, strict=True)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    titles = [f"{series.name}: {number(y, 4)} at {x:g}" for x, y in zip(series.x, series.y, strict=True)]
    dots = "".join(
        f'<circle class="dot {escape(series.tone)}" cx="{x}" cy="{y}" r="3.5"><title>{escape(title)}</title></circle>'
        for (x, y), title in zip(points, titles, strict=True)
    )
    return f'<path class="line {escape(series.tone)} {series.style}" d="{path}"/>' + (dots if series.markers else "")


def _axes(x_scale: _Scale, y_scale: _Scale, x_label: str, y_label: str, x_marks: Sequence[float]) -> str:
    marks = ticks(y_scale.low, y_scale.high)
    lines = "".join(f'<path class="grid" d="M{_LEFT} {y_scale(tick)}H{WIDTH - _RIGHT}"/>' for tick in marks)
    texts = "".join(f'<text class="end" x="{_LEFT - 6}" y="{y_scale(tick) + 4}">{_tick(tick, marks)}</text>' for tick in marks)
    label = f'<text class="axis" transform="translate(11 {(HEIGHT - _BOTTOM + _TOP) / 2}) rotate(-90)">{escape(y_label)}</text>'
    return lines + texts + label + _x_axis(x_scale, HEIGHT, x_label, x_marks)


def _x_axis(x_scale: _Scale, height: float, x_label: str, marks: Sequence[float], *, signs: bool = False) -> str:
    y = height - _BOTTOM
    texts = "".join(f'<text class="mid" x="{x_scale(tick)}" y="{y + 15}">{_tick(tick, marks, signs)}</text>' for tick in marks)
    middle = (x_scale.start + x_scale.end) / 2
    line = f'<path class="axis-line" d="M{x_scale.start} {y}H{x_scale.end}"/>'
    return f'{line}{texts}<text class="axis" x="{middle}" y="{height - 5}">{escape(x_label)}</text>'


def _tick(value: float, marks: Sequence[float], signs: bool = False) -> str:
    step = marks[1] - marks[0] if len(marks) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{value:{'+' if signs and value else ''},.{digits}f}"
    return text.replace("-", "\u2212")


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def _short(label: str, most: int = 14) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}\u2026"


def _svg(body: str, label: str, height: float = HEIGHT) -> str:
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {round(height)}" role="img" aria-label="{escape(label)}">{body}</svg>')
