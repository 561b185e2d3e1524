"""Stand-in for ``slicer.i18n``: nothing is translated, but what cannot be translated is refused."""

from __future__ import annotations


def tr(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"tr() takes a str, got {text!r}")
    return text


def translate(context: str, text: str) -> str:
    if not isinstance(context, str):
        raise TypeError(f"translate() takes a context and a text, got {context!r}")
    return tr(text)
