"""Words in letters that can be read from across the room."""

from typing import Final

_HEIGHT: Final = 5
_GLYPHS: Final = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
        zip(
            *(
                row.split()
                for row in (
                    ".#. ##. .## ##. ### ### .## #.# ### ..# #.# #.. #...# #..# .#. ##. .#. ##. .## ### #.# #.# #...# "
                    "#.# #.# ### .#. .#. ##. ##. #.# ### .## ### .#. .#. ... ...",
                    "#.# #.# #.. #.# #.. #.. #.. #.# .#. ..# #.# #.. ##.## ##.# #.# #.# #.# #.# #.. .#. #.# #.# #...# "
                    "#.# #.# ..# #.# ##. ..# ..# #.# #.. #.. ..# #.# #.# ... ...",
                    "### ##. #.. #.# ##. ##. #.# ### .#. ..# ##. #.. #.#.# #.## #.# ##. #.# ##. .#. .#. #.# #.# #.#.# "
                    ".#. .#. .#. #.# .#. .#. .#. ### ##. ##. .#. .#. .## ### ...",
                    "#.# #.# #.. #.# #.. #.. #.# #.# .#. #.# #.# #.. #...# #..# #.# #.. ### #.# ..# .#. #.# #.# ##.## "
                    "#.# .#. #.. #.# .#. #.. ..# ..# ..# #.# .#. #.# ..# ... ...",
                    "#.# ##. .## ##. ### #.. .## #.# ### .#. #.# ### #...# #..# .#. #.. .## #.# ##. .#. ### .#. #...# "
                    "#.# .#. ### .#. ### ### ##. ..# ##. .#. .#. .#. ##. ... ###",
                )
            ),
            strict=True,
        ),
        strict=True,
    )
)


def large(text: str, columns: int) -> str:
    """Return `text` in letters five lines high, a word a line if need be, or as it is where it does not fit."""
    text = text.upper()
    drawn: list[list[str]] = []
    for word in text.split():
        rows = _word(word)
        if rows is None or len(rows[0]) > columns:
            return text
        joined = [f"{before}        {after}" for before, after in zip(drawn[-1], rows, strict=True)] if drawn else rows
        if drawn and len(joined[0]) <= columns:
            drawn[-1] = joined
        else:
            drawn.append(rows)
    return "\n\n".join("\n".join(rows) for rows in drawn)


def _word(word: str) -> list[str] | None:
    """Return a word's rows, two columns for each dot, as characters are twice as high as wide."""
    if not all(letter in _GLYPHS for letter in word):
        return None
    dots = ("  ".join(_GLYPHS[letter][row] for letter in word) for row in range(_HEIGHT))
    return [row.replace(".", "  ").replace("#", "██") for row in dots]
