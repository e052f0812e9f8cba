"""Quiet hours: when a contact is not told of tests and alarms. Pure. They never apply to a 911 call."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo


def quiet_until(hours: str, timezone: str, at: float) -> float | None:
    """When the quiet hours (`22:00-06:00`) that a time `at` falls into end, seconds since 1970; None outside of them.

    Of equal ends it is always quiet: told a day later. A time zone that is not known counts as UTC.
    """
    if not hours:
        return None
    begin, end = (_minutes(text) for text in hours.split("-"))
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        zone = ZoneInfo("UTC")
    now = datetime.fromtimestamp(at, zone)
    minute = now.hour * 60 + now.minute
    inside = begin <= minute < end if begin < end else (minute >= begin or minute < end)
    if not inside:
        return None
    until = now.replace(hour=end // 60 % 24, minute=end % 60, second=0, microsecond=0)
    if until <= now:
        until += timedelta(days=1)
    return until.timestamp()


def _minutes(text: str) -> int:
    hour, _, minute = text.strip().partition(":")
    return int(hour) * 60 + int(minute)
