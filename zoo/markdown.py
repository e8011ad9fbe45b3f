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


def replace_block(text: str, name: str, content: str) -> str:
    """`text` with the generated block `name` renewed; at the end where somebody took it out."""
    first, last = (re.escape(mark.format(name)) for mark in _MARKS)
    new, count = re.subn(
        f"{first}.*?{last}", lambda _: block(name, content), text, count=1, flags=re.DOTALL
    )
    return new if count else f"{text.rstrip()}\n\n{block(name, content)}\n"
