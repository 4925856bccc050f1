"""Text as HTML and SVG. What is not `Markup` already is escaped, so nothing of a record can become a tag."""

from __future__ import annotations

from html import escape

from loadtest.report.words import clean

_EMPTY = frozenset({"br", "circle", "col", "line", "meta", "path", "rect", "use"})


class Markup(str):
    """Text that is HTML or SVG already."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """An element. An underscore at an attribute's end is dropped, others become hyphens; None leaves one out."""
    said = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None)
    if name in _EMPTY and not children:
        return Markup(f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    """One after the other."""
    return Markup("".join(child if isinstance(child, Markup) else text(child) for child in children if child))


def text(plain: str) -> Markup:
    """Escaped, and no line ends before a percent sign."""
    return Markup(escape(clean(plain).replace(" %", "\N{NO-BREAK SPACE}%"), quote=True))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return text(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
