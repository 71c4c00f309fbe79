"""A worker: reads articles, as JSON lines, and writes the digest of each week."""

import collections
import datetime
import json
import sys

from dates import week

from .limits import SUMMARY


def digest(lines):
    """Yields the lines of the digest: a week, and below it the beginning of each of its articles."""
    weeks = collections.defaultdict(list)
    for article in map(json.loads, lines):
        day = datetime.date.fromisoformat(article["day"])
        weeks[week(day)].append(article["text"][:SUMMARY])
    for name, articles in sorted(weeks.items()):
        yield name
        yield from (f"  {article}" for article in articles)


def main():
    for line in digest(sys.stdin):
        print(line)
