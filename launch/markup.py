"""Small pieces of HTML: text made safe, numbers, tables and keys."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def esc(value: Any) -> str:
    return escape(str(value))


def num(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "–" if value is None else esc(value)


def share(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"


def small(text: str) -> str:
    return f'<span class="small">{esc(text)}</span>'


def key(names: Mapping[str, str], kind: str = "") -> str:
    return "".join(f'<span class="key {kind} {name}">{esc(said)}</span>' for name, said in names.items())


def tr(cells: Sequence[str], kind: str = "") -> str:
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    top = "".join(f"<th>{esc(name)}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
