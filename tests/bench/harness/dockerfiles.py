"""Dockerfiles as people build them, without a Buildfile: `rb build` beside its peers.

Each phase is to be ahead of BuildKit, whose daemon is warm.
"""

import dataclasses

from .images import busybox
from .workloads import Phase, Workload


class Docker(Workload):
    """A workload that has a Dockerfile alone."""

    def write(self, dockerfile: str) -> None:
        (self.folder / "Dockerfile").write_text(dockerfile)
        (self.folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")

    def rewrite(self, path: str, run: int) -> None:
        """Changes one line of a file, for the first time in this run of all."""
        self.changes = getattr(self, "changes", 0) + 1
        file = self.folder / path
        first, rest = file.read_text().split("\n", 1)
        file.write_text(first.split(" # ")[0] + f" # change {self.changes}\n" + rest)


class App(Docker):
    name = "dockerfile-app"
    about = "rb build of an application: dependencies, sources, an image of what they make"
    title = "`rb build`, an application of 3 stages"

    def make(self) -> None:
        base = self.registry.push("dockerfile-app", [busybox], self.folder)
        (self.folder / "src").mkdir()
        for number in range(200):
            (self.folder / "src" / f"{number}.js").write_text(f"export const n = {number}\n" * 20)
        (self.folder / "package.json").write_text("{\n}\n")
        self.write(
            f"FROM {base} AS dependencies\nWORKDIR /app\nCOPY package.json .\n"
            "RUN mkdir modules && for n in $(seq 100); do cat package.json > modules/$n; done\n"
            "FROM dependencies AS build\nCOPY src src\nRUN mkdir dist && cat src/*.js > dist/bundle.js\nRUN md5sum dist/bundle.js > dist/sum\n"
            f"FROM {base} AS all\nENV MODE=production\nWORKDIR /srv\nCOPY --from=dependencies /app/modules modules\n"
            'COPY --from=build /app/dist .\nRUN wc -c bundle.js > size\nUSER 1000\nCMD ["cat", "bundle.js"]\n'
        )

    def phases(self) -> list:
        return [
            Phase("first build", cold=True, faster=1),
            Phase("nothing changed", faster=1),
            Phase("one line of a source changed", change=lambda run: self.rewrite("src/7.js", run), faster=1),
            Phase("one line of the Dockerfile changed", change=self.another_step, faster=1),
        ]

    def another_step(self, run: int) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        file = self.folder / "Dockerfile"
        lines = file.read_text().splitlines()
        lines[-3] = f"RUN wc -c bundle.js > size && echo {self.steps} >> size"
        file.write_text("\n".join(lines) + "\n")


class Stages(Docker):
    name = "dockerfile-stages"
    about = "rb build of 8 stages at once, each of which waits for 1 s"
    title = "`rb build`, 8 stages at once of 1 s each"

    def make(self) -> None:
        base = self.registry.push("dockerfile-stages", [busybox], self.folder)
        (self.folder / "run").write_text("0\n")
        stages = "".join(f"FROM {base} AS s{n}\nCOPY run /run\nRUN sleep 1; echo {n} > /out\n" for n in range(8))
        copies = "".join(f"COPY --from=s{n} /out /out{n}\n" for n in range(8))
        self.write(stages + f"FROM {base} AS all\n" + copies)

    def phases(self) -> list:
        # The longest way is one sleep; what is beside it is ours.
        return [Phase("all stages run", change=lambda run: self.rewrite("run", run), budget=1.2, faster=1)]


class Copies(Docker):
    name = "dockerfile-copies"
    about = "rb build of 40 COPY, one after the other"
    title = "`rb build`, 40 COPY"

    def make(self) -> None:
        base = self.registry.push("dockerfile-copies", [busybox], self.folder)
        for number in range(40):
            folder = self.folder / f"part{number}"
            folder.mkdir()
            for file in range(20):
                (folder / f"{file}").write_text(f"{number} {file}\n" * 40)
        self.write(f"FROM {base} AS all\n" + "".join(f"COPY part{n} /app/part{n}\n" for n in range(40)))

    def phases(self) -> list:
        return [
            Phase("first build", cold=True, faster=1),
            Phase("nothing changed", faster=1),
            Phase("what the first copies changed", change=lambda run: self.rewrite("part0/0", run), faster=1),
            Phase("what the last copies changed", change=lambda run: self.rewrite("part39/0", run), faster=1),
        ]


class Files(Docker):
    name = "dockerfile-files"
    about = "rb build of a context of 20,000 files of 10 kB"
    title = "`rb build`, 20,000 files in the context"

    def make(self) -> None:
        self.fill("src", int(20_000 * self.scale), 10_000)
        self.write("FROM scratch AS all\nCOPY . /src\n")

    def phases(self) -> list:
        return [
            Phase("first build", cold=True, faster=1),
            Phase("nothing changed", faster=1),
            Phase("one file changed", change=lambda run: self.touch("src", [7], run), faster=1),
        ]


class Elsewhere(Files):
    name = "dockerfile-elsewhere"
    about = "a context of 20,000 files of 10 kB sent to a BuildKit, by rb --engine and by buildctl"
    title = "`rb build --engine`, 20,000 files sent"

    def phases(self) -> list:
        return [dataclasses.replace(phase, elsewhere=True) for phase in super().phases()]


ALL = {kind.name: kind for kind in (App, Stages, Copies, Files, Elsewhere)}
