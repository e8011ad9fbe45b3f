"""Code in the README and the guides, as it is written there.

A fenced block says its language. A block of shell or Python is run by a test; what looks things up
and all Python in the suite, the rest of the shell in `make soak`. A comment in the line before says
why one is not run:

    <!-- only parsed: needs a microphone -->
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *GUIDES]
LANGUAGES = {"sh", "python", "json", "yaml", "text"}
_FENCE = re.compile(
    r"^(?:<!-- only parsed: (?P<why>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_BETWEEN = {"&&", "||", "|", "&", ";", "do"}
_LOOKS_UP = (
    *("list", "search", "show", "compare", "site", "merge"),
    *("push", "experiment"),
)


class Block(NamedTuple):
    page: Path
    line: int
    """Of the fence."""
    language: str
    why: str
    """Why it is not run; empty where it is."""
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, language: str = "") -> list[Block]:
    """All of a page, or those of a language."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        fence = text.index("```", match.start())
        line = text.count("\n", 0, fence) + 1
        found.append(Block(page, line, match["language"], match["why"] or "", match["code"]))
    return [block for block in found if language in ("", block.language)]


def outside(page: Path) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def commands(code: str) -> list[list[str]]:
    """The simple commands of a shell's lines, as words, without redirections and variables that
    are set before them."""
    found: list[list[str]] = []
    waiting = ""
    for line in code.replace("\\\n", " ").splitlines():
        waiting = f"{waiting}\n{line}" if waiting else line
        lexer = shlex.shlex(waiting, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation goes on in the next line
            continue
        waiting = ""
        at = 0
        while at < len(words):
            end = next((i for i in range(at, len(words)) if words[i] in _BETWEEN), len(words))
            simple = words[at:end]
            cut = next((i for i, word in enumerate(simple) if word[:1] in ("<", ">", ">>")), None)
            simple = simple[:cut]
            while simple and re.match(r"\w+=", simple[0]):
                simple = simple[1:]
            found += [simple] if simple else []
            at = end + 1
    return found


def of_parley(code: str) -> list[list[str]]:
    """The arguments of the `parley` commands among them."""
    found = []
    for words in commands(code):
        at = next((i for i, w in enumerate(words) if w in ("parley", ".venv/bin/parley")), None)
        if at is not None:
            found.append(words[at + 1 :])
    return found


def looks_up(words: list[str]) -> bool:
    """Whether a command reads what is there, and runs no model."""
    typed = " ".join(words)
    reads = any(typed == each or typed.startswith(f"{each} ") for each in _LOOKS_UP)
    return reads and (words[0] != "experiment" or "--dry-run" in words or len(words) == 1)
