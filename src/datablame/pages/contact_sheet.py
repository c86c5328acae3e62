"""The one painter of contact sheets: pictures in a grid, each with a few words below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from datablame.dataset import Dataset
from datablame.pages.figures import ORANGE, encoded, packed, thumbnail

SIDE, GAP = 96, 8
"""Pixels of a picture, and between pictures."""
SMALL, COLUMNS = 32, 40
"""Pixels of an image of the interactive maps' sheet, and images a line."""
LINE = 13
"""Pixels of a line of words."""
Words = Sequence[tuple[str, str]]
"""Lines of words with their colours."""


class ContactSheet:
    """A white page with rows of pictures; `head` is the height above the first row, in pixels."""

    def __init__(self, width: int, rows: int, lines: int = 2, head: int = 0):
        self.head, self.tall = head, SIDE + LINE * lines + 4 + GAP
        self.image = Image.new("RGB", (width, head + max(1, rows) * self.tall + GAP), "white")
        self.pen = ImageDraw.Draw(self.image)
        self.font, self.bold = ImageFont.load_default(11), ImageFont.load_default(13)

    def title(self, x: int, text: str, colour: str) -> None:
        """Words above the first row."""
        self.pen.text((x, 5), text, colour, self.bold)

    def put(
        self,
        image: Image.Image,
        x: int,
        row: int,
        words: Words = (),
        framed: bool = False,
        width: int = SIDE,
    ) -> None:
        """A picture, its words below it, each cut to a width in pixels; a frame marks it."""
        y = self.head + row * self.tall
        self.image.paste(image, (x, y))
        if framed:
            self.pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=ORANGE, width=3)
        for step, (text, colour) in enumerate(words):
            at = (x, y + SIDE + 1 + LINE * step)
            self.pen.text(at, _clipped(text, width, self.font), colour, self.font)

    def encoded(self) -> bytes:
        """The page as PNG."""
        return encoded(self.image)


def square(data: Dataset, row: int, side: int = SIDE) -> Image.Image:
    """An example's picture in colour, brought to a square."""
    return thumbnail(data, row, side).convert("RGB").resize((side, side))


def atlas(data: Dataset, rows: Sequence[int]) -> Image.Image:
    """Small pictures side by side, COLUMNS a line: what the interactive maps show."""
    side = SMALL
    whole = Image.new("RGB", (COLUMNS * side, -(-len(rows) // COLUMNS) * side), "black")
    for turn, row in enumerate(rows):
        whole.paste(packed(data, row, side), (turn % COLUMNS * side, turn // COLUMNS * side))
    return whole


def _clipped(text: str, width: int, font: Any) -> str:
    """As much of the text as fits into a width in pixels."""
    while font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
