"""An app built with buildpacks: `rb pack build` where nothing changed. Peers have no such command.

The builder consists of busybox and of modules that are shell scripts; nothing is downloaded.
"""

import io
import json
import tarfile

from .images import busybox
from .workloads import Phase, Workload

DETECT = '#!/bin/sh\nprintf \'[[provides]]\\nname="%s"\\n[[requires]]\\nname="%s"\\n\' > "$2"\n'
BUILD = """#!/bin/sh
mkdir "$1/made"
cat src/* > "$1/made/all"
printf '[types]\\nlaunch=true\\nbuild=true\\ncache=true\\n' > "$1/made.toml"
printf '[[processes]]\\ntype="web"\\ncommand=["true"]\\ndefault=true\\n' > "$1/launch.toml"
"""
NO = "#!/bin/sh\nexit 100\n"


def texts(files: dict, owner: int = 0) -> callable:
    """Returns what fills a layer with texts by their paths; what ends with `/` is a folder."""

    def fill(archive: tarfile.TarFile) -> None:
        for path, text in files.items():
            entry = tarfile.TarInfo(path.rstrip("/"))
            entry.mode, entry.uid, entry.gid, entry.size = 0o755, owner, owner, len(text.encode())
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
            archive.addfile(entry, io.BytesIO(text.encode()))

    return fill


class Pack(Workload):
    name = "pack"
    about = "an app of 100 files and a builder of 6 buildpacks, 4 of which build"
    title = "`rb pack build`, 4 buildpacks"
    modules = 6

    def make(self) -> None:
        (self.folder / "src").mkdir()
        for number in range(100):
            (self.folder / "src" / str(number)).write_text(f"{number}\n" * 20)
        self.base = self.registry.push("pack-run", [busybox], self.folder)
        # The layer of each module comes after three others, as in builders of pack.
        below = [busybox, texts({"layers/": "", "workspace/": ""}, 1000), texts({"cnb/lifecycle/launcher": "#!/bin/sh\n"})]
        layers = [*below, *(self.module(number) for number in range(self.modules))]
        self.builder = self.registry.push("pack-builder", layers, self.folder, lambda diffs: self.config(diffs[len(below) :]))

    def module(self, number: int) -> callable:
        folder, name = f"cnb/buildpacks/bench_{number}/1", f"bench/{number}"
        about = f'api = "0.10"\n[buildpack]\nid = "{name}"\nversion = "1"\n'
        detect = DETECT.replace("%s", name, 2) if number % 3 else NO
        return texts({f"{folder}/buildpack.toml": about, f"{folder}/bin/detect": detect, f"{folder}/bin/build": BUILD})

    def config(self, diffs: list) -> dict:
        modules = [f"bench/{number}" for number in range(self.modules)]
        metadata = {
            "images": [{"image": self.base}],
            "lifecycle": {"version": "0.21.0", "apis": {"platform": {"supported": ["0.12", "0.13", "0.14"]}}},
        }
        labels = {
            "io.buildpacks.builder.metadata": metadata,
            "io.buildpacks.buildpack.order": [{"group": [{"id": one, "version": "1", "optional": True} for one in modules]}],
            "io.buildpacks.buildpack.layers": {one: {"1": {"api": "0.10", "layerDiffID": diff}} for one, diff in zip(modules, diffs)},
        }
        return {
            "Env": ["PATH=/bin", "CNB_USER_ID=1000", "CNB_GROUP_ID=1000"],
            "User": "1000:1000",
            "Labels": {name: json.dumps(value) for name, value in labels.items()},
        }

    def phases(self) -> list:
        # The first call of all, which builds, is not counted.
        call = ["pack", "build", "app:1", "-q", "-B", self.builder, "-p", "."]
        return [Phase("nothing changed", call=call, budget=0.150)]


ALL = {kind.name: kind for kind in (Pack,)}
