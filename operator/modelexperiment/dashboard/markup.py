"""HTML that is escaped unless it says that it is HTML: names and messages are the users' text.

The report's templates need Jinja2, which an operator may run without.
"""

from __future__ import annotations

from html import escape

_VOID = frozenset(("input", "link", "meta"))


class Html(str):
    """Text that is HTML already, and is not escaped again."""


def text(*parts: object) -> Html:
    """Parts one after the other, each escaped where it is not HTML; None is nothing."""
    return Html("".join(_one(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element; it and the attributes' names are never a user's.
        children: text and elements; None is nothing.
        attributes: False and None leave one out, True gives it without a value. `class_` is class,
            and `data_key` is data-key.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{text(*children)}</{name}>")


def _one(part: object) -> str:
    return part if isinstance(part, Html) else escape(str(part))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
