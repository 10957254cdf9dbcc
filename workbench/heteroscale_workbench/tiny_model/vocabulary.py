"""A byte-level BPE of 256 bytes, four marks, and the words that ``heteroscale load`` sends.

Any text can be encoded; a word of a load's prompt is one token, so its counts are exact.
"""

from __future__ import annotations

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
UNKNOWN, BEGIN, END, PAD = range(len(SPECIAL))
CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def _byte_letters() -> list[str]:
    """Return the letter that byte-level BPE writes for each byte, as GPT-2 chose them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


BLANK = _byte_letters()[ord(" ")]
MERGES = (
    ("t", "h"),
    ("th", "e"),
    (BLANK, "the"),
    ("e", "n"),
    ("en", "d"),
    (BLANK, "end"),
)
TOKENS = (*SPECIAL, *_byte_letters(), *(left + right for left, right in MERGES))
