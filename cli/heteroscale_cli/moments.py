"""Times as a person types them: ``2026-11-26T10:15``, ``10:15``, ``-10m``, in the machine's zone."""

from __future__ import annotations

from datetime import datetime, timedelta

from heteroscale_cli.connection import seconds
from heteroscale_cli.errors import usage

FORMS = "2026-11-26T10:15, with a zone 2026-11-26T10:15Z, 10:15, or 10m ago as -10m"


def moment(text: str, option: str, now: datetime) -> float:
    """Return what ``text`` means at ``now`` (which has a zone), in seconds since 1970.

    A time of day is the last one that has been; without a zone it is that of ``now``.

    Raises:
        CliError: it is no time.

    """
    plain = text.strip()
    if plain == "now":
        return now.timestamp()
    if plain[:1] == "-" or plain[-1:] in "smhd":
        return now.timestamp() - seconds(plain.removeprefix("-"), option)
    try:
        if plain[2:3] == ":":
            return _of_day(plain, now)
        # ``10`` may be an hour, a minute or a day; ``2026`` is a year to some.
        found = datetime.fromisoformat("" if plain.isdecimal() else plain)
    except ValueError:
        raise usage(f"{option}: {text!r} is no time: give {FORMS}") from None
    return (found if found.tzinfo else found.replace(tzinfo=now.tzinfo)).timestamp()


def _of_day(text: str, now: datetime) -> float:
    time = datetime.fromisoformat(f"{now:%Y-%m-%d}T{text}")
    found = time if time.tzinfo else time.replace(tzinfo=now.tzinfo)
    return (found if found <= now else found - timedelta(days=1)).timestamp()
