"""The no to an operator's wish."""

from __future__ import annotations


class RefusedError(Exception):
    """The wish is refused; the text tells the person why and what to do."""

    def __init__(self, text: str, *, not_found: bool = False) -> None:
        super().__init__(text)
        self.not_found = not_found
