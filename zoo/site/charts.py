"""Pictures of a card, as SVG in the page: its parts, and the rates of groups of speakers."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..architecture import PREDICTION
from .html import Html, join, tag

_BOX, _GAP, _LINE = 300, 26, 17
_LETTERS = 42
"""Of a line inside a box."""


class Bar(NamedTuple):
    """A rate with its interval, in percent."""

    label: str
    rate: float
    low: float | None
    high: float | None
    note: str = ""


def architecture(parts: Mapping[str, str]) -> Html:
    """The parts of a model from the sound to the answer, the text's way beside the sound's."""
    chain = [(name, what) for name, what in parts.items() if name != PREDICTION]
    texts = [(name, _wrapped(what)) for name, what in chain]
    side = _wrapped(parts[PREDICTION]) if PREDICTION in parts else None
    boxes, y, tops = [], 8.0, []
    for name, lines in texts:
        height = _height(lines)
        boxes.append(_box(8, y, name, lines))
        tops.append((y, height))
        y += height + _GAP
    arrows = [
        _arrow(8 + _BOX / 2, top + height, 8 + _BOX / 2, top + height + _GAP)
        for top, height in tops[:-1]
    ]
    width = _BOX + 16
    if side is not None:
        (top, height), x = tops[-1], _BOX + 60
        boxes.append(_box(x, tops[-2][0], PREDICTION, side))
        bottom = tops[-2][0] + _height(side)
        middle = top + height / 2
        arrows.append(_elbow(x + _BOX / 2, bottom, 8 + _BOX, middle))
        width = x + _BOX + 8
        y = max(y, bottom + _GAP)
    label = "The model's parts: " + "; ".join(f"{name}: {what}" for name, what in parts.items())
    return _figure(width, y - _GAP + 8, label, [*arrows, *boxes])


def bars(rows: Iterable[Bar], unit: str, label: str) -> Html:
    """Rates as points on one scale, their intervals as lines."""
    shown = list(rows)
    most = max([*(b.high or b.rate for b in shown), 1e-9]) * 1.04
    left, wide, step = 150, 400, 26

    def x(value: float) -> float:
        return round(left + wide * max(value, 0.0) / most, 1)

    marks: list[Html] = [
        tag("line", x1=left, y1=4, x2=left, y2=step * len(shown) + 4, class_="axis")
    ]
    for i, b in enumerate(shown):
        y = step * i + 18
        marks.append(tag("text", b.label[:22], x=left - 8, y=y + 4, text_anchor="end"))
        if b.low is not None and b.high is not None:
            marks.append(tag("line", x1=x(b.low), y1=y, x2=x(b.high), y2=y, class_="span"))
        marks.append(tag("circle", cx=x(b.rate), cy=y, r=5, class_="dot"))
        value = f"{b.rate:.2f} %{f' {b.note}' if b.note else ''}"
        marks.append(tag("text", value, x=left + wide + 14, y=y + 4))
    said = "; ".join(f"{b.label} {b.rate:.2f} %" for b in shown)
    return _figure(left + wide + 150, step * len(shown) + 12, f"{label}, {unit}: {said}", marks)


def icon() -> str:
    """The site's own small picture."""
    heights = (6, 14, 22, 12, 18, 8)
    lines = [
        tag("rect", x=4 + 4 * i, y=16 - h / 2, width=2.5, height=h, rx=1.2, fill="#0b5cad")
        for i, h in enumerate(heights)
    ]
    return tag("svg", lines, xmlns="http://www.w3.org/2000/svg", viewBox="0 0 32 32")


def _figure(width: float, height: float, label: str, inner: Iterable[Html]) -> Html:
    return tag(
        "svg", join(inner), viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", role="img",
        aria_label=label, class_="chart",
    )  # fmt: skip


def _box(x: float, y: float, name: str, lines: list[str]) -> Html:
    rect = tag("rect", x=x, y=y, width=_BOX, height=_height(lines), rx=6, class_="box")
    texts = [tag("text", name, x=x + 12, y=y + 20, class_="part")]
    texts += [
        tag("text", line, x=x + 12, y=y + 20 + _LINE * (i + 1)) for i, line in enumerate(lines)
    ]
    return join([rect, *texts])


def _height(lines: list[str]) -> float:
    return 32 + _LINE * len(lines)


def _arrow(x: float, y: float, x2: float, y2: float) -> Html:
    head = f"M{x2 - 4:g} {y2 - 7:g} L{x2:g} {y2:g} L{x2 + 4:g} {y2 - 7:g}"
    return tag("path", d=f"M{x:g} {y:g} L{x2:g} {y2:g} {head}", class_="arrow")


def _elbow(x: float, y: float, x2: float, y2: float) -> Html:
    head = f"M{x2 + 7:g} {y2 - 4:g} L{x2:g} {y2:g} L{x2 + 7:g} {y2 + 4:g}"
    return tag("path", d=f"M{x:g} {y:g} L{x:g} {y2:g} L{x2:g} {y2:g} {head}", class_="arrow")


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split()[:80]:
        word = word[:_LETTERS]
        if len(lines[-1]) + len(word) + 1 > _LETTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
