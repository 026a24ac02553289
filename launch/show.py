"""Results on standard output: as one JSON object, or for people."""

import json as json_module
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from launch.runs import results

WIDEST = 4  # columns of a table that still fits a terminal


def show(json: bool, value: Any) -> None:
    """Results go to standard output: as one JSON object, or for people."""
    if json:
        print(json_module.dumps(value))
    else:
        results.print(_as_table(value))


def columns(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Rows by name, alike in their columns."""
    table = Table("", *next(iter(rows.values())))
    for name, row in rows.items():
        table.add_row(name, *map(_cell, row.values()))
    return table


def _as_table(value: dict[str, Any]) -> Table:
    """A two-column table; lists of rows become tables within it, upright where they would be too wide."""
    table = Table(show_header=False)
    for name, entry in value.items():
        rows = entry if isinstance(entry, list) and entry and isinstance(entry[0], dict) else None
        if rows is None:
            table.add_row(name, _as_table(entry) if isinstance(entry, dict) and entry else _cell(entry))
        elif len(rows[0]) > WIDEST:
            for row in rows:
                table.add_row(name, _as_table(row))
        else:
            inner = Table(*rows[0])
            for row in rows:
                inner.add_row(*map(_cell, row.values()))
            table.add_row(name, inner)
    return table


def _cell(value: Any) -> Text:
    """As it stands: a key or a message may hold what looks like markup."""
    return Text(_as_text(value), overflow="fold")


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_as_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {x}" for name, x in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
