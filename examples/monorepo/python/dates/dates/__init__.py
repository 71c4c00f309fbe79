"""Dates as editors write them."""

import datetime


def week(day: datetime.date) -> str:
    """Returns the week of a day, as ISO 8601 counts: `2024-W01`."""
    year, number, _ = day.isocalendar()
    return f"{year}-W{number:02}"
