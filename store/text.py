"""Text of models, data and other programs, made harmless for whatever shows it."""

import re
import unicodedata

ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands, such as titles and links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # device control and other strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences, such as colours and cursor moves
    r"|\x1b[ -/]*[0-~]"
)
JOINERS = "\u200c\u200d"  # invisible, but part of the spelling in several scripts
LINE_ENDS = dict.fromkeys(map(ord, "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "↵")


def clean(text: str) -> str:
    """`text` on one line and without anything that steers a terminal: escape sequences, control, format and bidi
    characters, lone surrogates. Line breaks become ↵, tabs become spaces.
    """
    text = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\t", " ").translate(LINE_ENDS)
    return "".join(c for c in text if c in JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
