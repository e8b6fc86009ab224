"""Dates as invoices write them, in many languages."""

from __future__ import annotations

import datetime
import re
import unicodedata

_MONTHS = (
    "january jan januar janner jänner janvier janv enero ene gennaio gen januari stycznia styczen janeiro leden ledna",
    "february feb februar fevrier fevr fev febrero febbraio febbr februari lutego luty fevereiro unora",
    "march mar marz maerz mars marzo maart mrt marca marzec marco brezna",
    "april apr avril avr abril abr aprile kwietnia kwiecien dubna",
    "may mai mayo maggio mag mei maja maj maio kvetna",
    "june jun juni juin junio giugno giu czerwca czerwiec junho cervna",
    "july jul juli juillet juil julio luglio lug lipca lipiec julho cervence",
    "august aug aout agosto ago agustus augustus sierpnia sierpien srpna augusti",
    "september sep sept septembre septiembre settembre set wrzesnia wrzesien setembro zari",
    "october oct oktober okt octobre octubre ottobre ott pazdziernika pazdziernik outubro rijna",
    "november nov novembre noviembre listopada listopad novembro listopadu",
    "december dec dezember dez decembre diciembre dic dicembre grudnia grudzien dezembro prosince",
)
_MONTH_OF = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}

_NAME = r"(?P<name>[^\W\d_]{3,12})\.?"
_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})[-./](?P<month>\d{1,2})[-./](?P<day>\d{1,2})(?!\d)",
        r"(?P<year>\d{4})\s?年\s?(?P<month>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?日",
        r"(?P<year>\d{4})\s?년\s?(?P<month>\d{1,2})\s?월\s?(?P<day>\d{1,2})\s?일",
        r"(?<!\d)(?P<day>\d{1,2})(?P<mark>[-./])\s?(?P<month>\d{1,2})(?P=mark)\s?(?P<year>\d{4}|\d{2})(?!\d)",
        rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th|er|º|°|\.)?[-\s]*(?:de\s+)?{_NAME}(?:\s+de|\s+del)?,?[-\s]*(?P<year>\d{{4}})",
        rf"{_NAME}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})",
    )
]


def date_in(text: str, *, month_first: bool = False) -> str | None:
    """The first date in a text, as ISO 8601. `month_first` decides what 03/04/2026 is, where both could be."""
    found = [
        (match.start(), iso) for form in _FORMS for match in form.finditer(text) if (iso := _iso(match, month_first))
    ]
    return min(found)[1] if found else None


def _iso(match: re.Match[str], month_first: bool) -> str | None:
    parts = match.groupdict()
    name = parts.get("name")
    month = _month(name) if name else int(parts["month"])
    day, year = int(parts["day"]), int(parts["year"])
    if parts.get("mark") == "/" and (month_first or month > 12) and day <= 12:
        day, month = month, day
    try:
        return datetime.date(year + 2000 if year < 100 else year, month, day).isoformat()
    except ValueError:
        return None


def _month(name: str) -> int:
    """The number of a month by its name or a short form, accents or not; 0 if it is none."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return _MONTH_OF.get("".join(c for c in plain if not unicodedata.combining(c)), 0)
