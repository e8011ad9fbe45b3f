"""Markdown that is partly generated: tables, and blocks between marks that are renewed in place.

Whatever a person writes outside the marks stays.
"""

import re
from collections.abc import Sequence

_MARKS = "<!-- parley:{0} (generated) -->", "<!-- /parley:{0} -->"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # A bar inside a cell would end it.
    lines = [head, ["---"] * len(head), *([c.replace("|", "\\|") for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def block(name: str, content: str) -> str:
    """The generated block `name`."""
    first, last = (mark.format(name) for mark in _MARKS)
    return f"{first}\n{content}\n{last}"


def replace_block(
    text: str, name: str, content: str, *, heading: str = "", after: str | None = None
) -> str:
    """`text` with the generated block `name` renewed.

    Where it is not there (somebody took it out, or the text is older than the block) it comes
    under its `heading`, behind the block `after` if the text has that, else at the end.
    """
    first, last = (re.escape(mark.format(name)) for mark in _MARKS)
    fresh = block(name, content)
    new, count = re.subn(f"{first}.*?{last}", lambda _: fresh, text, count=1, flags=re.DOTALL)
    if count:
        return new
    part = f"## {heading}\n\n{fresh}" if heading and f"## {heading}\n" not in text else fresh
    end = _MARKS[1].format(after)
    if after and end in text:
        before, rest = text.split(end, 1)
        return f"{before}{end}\n\n{part}{rest}"
    return f"{text.rstrip()}\n\n{part}\n"


def percent(wer: float, low: float | None, high: float | None) -> str:
    """`5.31 % (4.20 to 6.55)`; the arguments are percents."""
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{wer:.2f} %{interval}"


def verdict(now: float, low: float | None, high: float | None) -> str:
    """Whether a number that was measured again lies in the interval of the old one."""
    if low is None or high is None:
        return ""
    return "within the interval" if low <= now <= high else "outside the interval"
