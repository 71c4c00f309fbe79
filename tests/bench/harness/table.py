"""The table of README, in Markdown: times, how many times as long a peer takes, memory, budgets, machine and date.

In: rows of samples by tool; a text stands for samples that do not count. Out: text.
"""

import os
import platform
import statistics
import time

# What a row says of a tool that has no such thing.
NOTHING = "–"


def median(samples: list) -> float:
    """Returns the median of the wall times in seconds."""
    return statistics.median(sample.wall for sample in samples)


def cell_text(cell) -> str:
    """Writes a cell without its ratio."""
    return cell if isinstance(cell, str) else duration(median(cell))


def duration(seconds: float) -> str:
    """Writes a time with two or three digits that mean something."""
    if seconds >= 2:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"


def table(able: list, absent: list, rows: list, notes: list, chosen) -> str:
    """Writes rows of (workload, phase, {tool: samples or text})."""
    names = [tool.name for tool in able]
    head = ["work", *(tool.title for tool in able), "memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    before = None
    for workload, phase, row in rows:
        what = phase.name if workload is before else whole_name(workload, phase)
        cells = [beside(row, name) for name in names]
        memory = " / ".join(most(row[name]) for name in names)
        lines.append(f"| {what} | " + " | ".join(cells) + f" | {memory} |")
        before = workload
    text = [
        "In brackets: how many times as long as `rb`. Memory is the peak of resident memory, of a client and its daemon together, in "
        "the order of the columns. " + machine(able, chosen),
        *budgets(rows),
        *notes,
        *(f"Not compared: {reason}." for reason in absent),
    ]
    return "\n".join(lines + [line for part in text for line in ("", part)])


def whole_name(workload, phase) -> str:
    """Returns what a row is called where it stands alone."""
    return ": ".join(part for part in (workload.title, phase.name) if part)


def beside(row: dict, name: str) -> str:
    """Writes a cell with its ratio to ours."""
    text, ours, theirs = cell_text(row[name]), row["rb"], row[name]
    if name != "rb" and not isinstance(theirs, str) and not isinstance(ours, str) and median(ours) > 0:
        text += f" ({median(theirs) / median(ours):.1f}×)"
    return text


def most(cell) -> str:
    return NOTHING if isinstance(cell, str) else f"{max(sample.memory for sample in cell) / 1e6:.0f}"


def budgets(rows: list) -> list:
    """Says which budgets are met, and which are not."""
    met, short = [], []
    for workload, phase, row in rows:
        if isinstance(row["rb"], str):
            continue
        what = whole_name(workload, phase)
        took = median(row["rb"])
        if phase.budget is not None:
            text = f"{what}: {duration(took)} of {duration(phase.budget)}"
            (met if took <= phase.budget else short).append(text)
        theirs = row.get("buildkit", NOTHING)
        if phase.faster is not None and not isinstance(theirs, str):
            ratio = median(theirs) / took
            text = f"{what}: {ratio:.1f} times as fast as BuildKit, to be {phase.faster:g} times"
            (met if ratio >= phase.faster else short).append(text)
    said = [f"Budgets that are met: {'; '.join(met)}."] if met else []
    return said + ([f"Short of their budgets: {'; '.join(short)}."] if short else [])


def machine(able: list, chosen) -> str:
    """Says what was run where, and when."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 2**20
    versions = "; ".join(tool.version() for tool in able)
    return (
        f"Medians of {chosen.runs} runs (one of what takes more than half a minute), scale {chosen.scale:g}; {os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux "
        f"{platform.release().split('-')[0]}, {time.strftime('%Y-%m-%d')}; {versions}."
    )
