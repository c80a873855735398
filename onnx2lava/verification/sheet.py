"""Tables that fit the terminal: numbers are never cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from custom_ops.terminal import WIDE

__all__ = ["Sheet"]

_LONGEST_NAME = 32
"""Characters of a name in the first column; longer ones go on in the next line."""
_GAP = 3
"""Spaces between two columns."""
_MOST_ROWS = 300
"""Of one table: few read more, and each takes milliseconds. A table in one piece has all."""


@dataclass(frozen=True)
class Sheet:
    """Rows of text, printed as one table where it fits.

    Where it does not, columns that say the same in every row are said once instead, and the others are split into several tables
    below each other, each with the first column.

    Args:
        title: of the table.
        columns: their headings; the first names what a row is about.
        rows: a cell for each column.
        totals: rows below a line, likewise.
        left: headings of columns of words, which stand on the left.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()
    left: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if len(self.rows) > _MOST_ROWS and options.max_width < WIDE:
            yield replace(self, rows=self.rows[:_MOST_ROWS])
            yield Text(f"and {len(self.rows) - _MOST_ROWS:,} more rows, which --wide shows")
            return
        width = options.max_width
        kept = [0, *self._filled()]
        if self._width(kept) > width:
            alike = [index for index in kept[1:] if self._says_one_thing(index)]
            kept = [index for index in kept if index not in alike]
        else:
            alike = []
        yield Text(self.title, style="bold")
        if alike:
            same = [f"{self.columns[index]} {self.rows[0][index]}" for index in alike if self.rows[0][index]]
            yield from map(Text, _lines("everywhere: ", same, width))
        yield from (self._table(part) for part in self._parts(kept, width))

    def _parts(self, kept: Sequence[int], width: int) -> Iterator[list[int]]:
        """As many columns as fit, and then the next ones."""
        part = [kept[0]]
        for index in kept[1:]:
            if len(part) > 1 and self._width([*part, index]) > width:
                yield part
                part = [kept[0]]
            part.append(index)
        yield part

    def _width(self, kept: Sequence[int]) -> int:
        columns = [max(cell_len(cell) for cell in (self.columns[i], *(row[i] for row in self._all()))) for i in kept]
        return min(columns[0], _LONGEST_NAME) + sum(columns[1:]) + _GAP * (len(kept) - 1)

    def _table(self, kept: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
        for index in kept:
            heading = self.columns[index]
            words = index == 0 or heading in self.left
            name = {"overflow": "fold", "max_width": _LONGEST_NAME} if index == 0 else {"no_wrap": True}
            table.add_column(Text(heading), justify="left" if words else "right", **name)  # type: ignore[arg-type]
        whole = len(kept) > 1 and kept[1] == next(iter(self._filled()), None)
        for rows in (self.rows, self.totals):
            for row in rows:
                # A row that has nothing to say in a second part is not repeated there.
                if any(row[index] for index in kept[1:]) or (whole and rows is self.rows):
                    table.add_row(*(Text(row[index]) for index in kept))
            table.add_section()
        return table

    def _says_one_thing(self, index: int) -> bool:
        """Whether a column is the same in all rows, of which there are several, and has no total."""
        return len(self.rows) > 1 and len({row[index] for row in self.rows}) == 1 and not any(row[index] for row in self.totals)

    def _filled(self) -> list[int]:
        """Columns that say something, but the first."""
        return [index for index in range(1, len(self.columns)) if any(row[index] for row in self._all())]

    def _all(self) -> list[Sequence[str]]:
        return [*self.rows, *self.totals]


def _lines(start: str, items: Sequence[str], width: int) -> Iterator[str]:
    """As many items in a line as fit, so that no name stands apart from its number."""
    line, fresh = start, True
    for item in items:
        if not fresh and cell_len(f"{line}, {item},") > width:
            yield f"{line},"
            line, fresh = " " * len(start), True
        line += item if fresh else f", {item}"
        fresh = False
    if items:
        yield line
