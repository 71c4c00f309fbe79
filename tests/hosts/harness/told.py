"""What a guest said, and whether it is what has to be."""

import json
import re

from .kinds import EVERYWHERE, USUAL, Kind

# Of what a check said, enough to see what went wrong.
LAST_LINES = 15


class Told:
    """The checks of a guest: who tried what, with which exit code and words."""

    def __init__(self, said: str, console: str):
        self.notes: list[str] = []
        self.ran: list[tuple[str, str, int, str]] = []
        self.ended = False
        self.console = console
        for line in said.replace("\r", "").splitlines():
            if line.startswith("| ") and self.ran:
                who, name, code, words = self.ran[-1]
                self.ran[-1] = (who, name, code, words + line[2:] + "\n")
            elif match := re.match(r"@@ ran (\S+) (\S+) (\d+) (\d+)$", line):
                self.ran.append((match[1], match[2], int(match[3]), ""))
            elif line == "@@ end":
                self.ended = True
            elif line.startswith("@@ then"):
                self.ran = [(f"{who}, before", name, code, words) for who, name, code, words in self.ran]
                self.notes.append("then")
            else:
                self.notes.append(line.removeprefix("@@ "))

    def summary(self) -> list[str]:
        """Returns a line for each who: what went, and what doctor finds amiss."""
        lines = [note for note in self.notes if note != "then"]
        for who in dict.fromkeys(entry[0] for entry in self.ran):
            mine = [entry for entry in self.ran if entry[0] == who]
            done = sum(code == 0 for _, _, code, _ in mine)
            refused = ", ".join(f"{name} ({code})" for _, name, code, _ in mine if code != 0)
            lines.append(f"{who}: {done} of {len(mine)} checks" + (f"; not: {refused}" if refused else ""))
            for name, verdict, reason in self.doctor(who):
                if verdict != "ok":
                    lines.append(f"  doctor: {verdict} {name}: {reason}")
        return lines

    def doctor(self, who: str) -> list[tuple[str, str, str]]:
        for by, name, _, words in self.ran:
            if (by, name) == (who, "doctor") and "{" in words:
                said = json.loads(words[words.index("{") :])
                return [(check["name"], check["verdict"], check["reason"]) for check in said["checks"]]
        return []


def differences(told: Told, kind: Kind, digests: dict[str, tuple[str, str]]) -> list[str]:
    """Returns what is not as it has to be. `digests` are those of the hosts before."""
    wrong = []
    if not told.ended:
        wrong.append("it did not come to its end; the console says:\n" + told.console[-2000:])
    if not told.ran:
        wrong.append("it tried nothing")
    wanted_of = lambda who, name: kind.expected.get((who, name)) or kind.expected.get(("*", name)) or EVERYWHERE.get((who, name))
    for who, name, code, words in told.ran:
        expected = wanted_of(who, name)
        flat = " ".join(words.replace("│", " ").split())
        if name == "doctor":
            found = {check: (verdict, reason) for check, verdict, reason in told.doctor(who)}
            for check in found:
                verdict, reason = found[check]
                wanted, part = kind.doctor.get((who, check)) or kind.doctor.get(("*", check)) or USUAL.get((who.split(",")[0], check)) or ("ok", "")
                if verdict != wanted or part not in reason:
                    wrong.append(f"{who}: doctor says {verdict} of {check} ({reason}), not {wanted} {part}")
            if not found:
                wrong.append(f"{who}: doctor says nothing: {words}")
        if (code, True) != (expected.code if expected else 0, expected is None or expected.words in flat):
            last = "\n".join(f"    {line}" for line in words.splitlines()[-LAST_LINES:])
            wrong.append(f"{who}: {name} ended with {code}, not {expected or 0}:\n{last}")
        is_made = name in ("digest", "chroot-digest") or (name == "images" and not wanted_of(who, "image"))
        if code == 0 and is_made:
            name = name.removeprefix("chroot-")
            found = words.split()[0] if name == "digest" else "".join(re.findall(r'"digest": "([^"]*)"', words))
            first = digests.setdefault(name, (who, found))
            if first[1] != found:
                wrong.append(f"{who}: {name} is {found}, but {first[1]} for {first[0]} of the first host")
    return wrong
