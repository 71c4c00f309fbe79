"""Repositories of git that both may read, from a daemon of the run's own, and bundles of them as blobs of a layout."""

import hashlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

WHO = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "A"), ("EMAIL", "a@example.com"))}
WHEN = {"GIT_AUTHOR_DATE": "1600000000 +0000", "GIT_COMMITTER_DATE": "1600000000 +0000"}
ALONE = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *words) -> str:
    done = subprocess.run(["git", *words], cwd=folder, env=os.environ | WHO | WHEN | ALONE, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"git {words}: {done.stderr}")
    return done.stdout.strip()


class Repositories:
    """`app` of three commits with tags and a submodule, `history` of two, `single` of one, and `bundles`, a layout with some of `app`."""

    def __init__(self, work: Path):
        self.folder = work / "repositories"
        self.facts = {}
        library, _ = self.make("library", ["lib.c"])
        app, commits = self.make("app", ["README", "src/main.c", "src/deep/x"])
        self.facts |= {"first": commits[0], "second": commits[1]}
        git(app, "tag", "light", commits[1])
        git(app, "tag", "-a", "heavy", "-m", "x", commits[1])
        (app / "run").write_text("#!/bin/sh\n")
        (app / "run").chmod(0o755)
        (app / "link").symlink_to("src/main.c")
        (app / ".gitmodules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = ../library\n')
        git(app, "add", ".")
        git(app, "update-index", "--add", "--cacheinfo", f"160000,{git(library, 'rev-parse', 'HEAD')},lib")
        git(app, "commit", "-qm", "linked")
        self.facts["main"] = git(app, "rev-parse", "HEAD")
        git(app, "branch", "second", commits[1])
        _, commits = self.make("history", ["one", "two"])
        self.facts["history"] = commits[1]
        single, commits = self.make("single", ["only"])
        self.facts["single"] = commits[0]
        self.layout = work / "layouts" / "bundles"
        (self.layout / "blobs" / "sha256").mkdir(parents=True)
        (self.layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self.layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
        for name, words in (
            ("whole", ["main", "second", "light", "heavy"]),
            ("part", ["light"]),
            ("thin", [f"{self.facts['first']}..second", "second"]),
        ):
            path = self.folder / f"{name}.bundle"
            git(app, "bundle", "create", str(path), *words)
            self.facts[name] = self.put(path.read_bytes())
        self.facts["nonsense"] = self.put(b"no bundle")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.facts["host"] = f"127.0.0.1:{port}"
        (work / "repositories.json").write_text(json.dumps(self.facts))
        words = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={self.folder}"]
        program = Path(git(work, "--exec-path")) / "git-daemon"
        null = subprocess.DEVNULL
        self.daemon = subprocess.Popen([program, *words], stdin=null, stdout=null, stderr=null, env=os.environ | ALONE)
        self.wait(port)

    def wait(self, port: int) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.daemon.poll() is not None:
                    raise
                time.sleep(0.05)

    def make(self, name: str, files: list) -> tuple:
        """Makes a repository with a commit for each file."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "main")
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
        commits = []
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(f"{path} of {name}\n")
            git(folder, "add", ".")
            git(folder, "commit", "-qm", path)
            commits.append(git(folder, "rev-parse", "HEAD"))
        return folder, commits

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.layout / "blobs" / "sha256" / digest).write_bytes(data)
        return f"sha256:{digest}"

    def stop(self) -> None:
        self.daemon.terminate()
        self.daemon.wait()
