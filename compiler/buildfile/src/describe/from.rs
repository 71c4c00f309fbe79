//! FROM, and artifacts as they are written.

use rb_syntax::{Base, Call, CallArg, FileSource, FromBuildpacks, FromDockerfile, FromStmt, Word};

use super::{Line, arguments, written};
use crate::resolve::Resolved;

impl Line {
    pub(super) fn from(&mut self, FromStmt { base, platform }: &FromStmt<Resolved>) {
        // `DOCKERFILE` is a part of the keyword, so its flags follow it; so is `BUILDPACKS`.
        let flags =
            if matches!(base, Base::Dockerfile(_) | Base::Buildpacks(_)) { None } else { platform.as_ref() };
        self.option("platform", flags);
        match base {
            Base::Scratch => self.push("scratch"),
            Base::Image(word) => self.word(word),
            Base::Host { binds, fingerprints } => {
                self.push("@host");
                self.option("bind", binds);
                self.option("fingerprint", fingerprints);
            }
            Base::Target(call) => self.call(call),
            Base::Dockerfile(from) => self.dockerfile(from, platform),
            Base::Buildpacks(from) => self.buildpacks(from, platform),
        }
    }

    fn dockerfile(&mut self, from: &FromDockerfile<Resolved>, platform: &Option<Word>) {
        let FromDockerfile { context, file, target, args, allow_privileged } = from;
        self.push("DOCKERFILE");
        self.option("platform", platform);
        self.flag(*allow_privileged, "allow-privileged");
        self.option("target", target);
        for arg in args {
            let value = arg.value.as_ref().map(|value| format!("={}", value.raw)).unwrap_or_default();
            self.words.push(format!("--build-arg={}{value}", arg.name.value));
        }
        if let Some(file) = file {
            self.push("-f");
            self.file_source(file);
        }
        self.file_source(context);
    }

    fn buildpacks(&mut self, from: &FromBuildpacks<Resolved>, platform: &Option<Word>) {
        let FromBuildpacks { app, builder, buildpacks, environment, descriptor, run_image, launcher } = from;
        self.push("BUILDPACKS");
        self.option("platform", platform);
        self.option("builder", builder);
        for buildpack in buildpacks {
            self.push("--buildpack");
            self.file_source(buildpack);
        }
        for CallArg { name, value } in environment {
            let value = value.as_ref().map(|value| format!("={}", value.raw)).unwrap_or_default();
            self.words.push(format!("--env={}{value}", name.value));
        }
        if let Some(descriptor) = descriptor {
            self.push("--descriptor");
            self.file_source(descriptor);
        }
        self.option("run-image", run_image);
        if let Some(launcher) = launcher {
            self.push("--launcher");
            self.file_source(launcher);
        }
        self.file_source(app);
    }

    fn file_source(&mut self, source: &FileSource<Resolved>) {
        match source {
            FileSource::Path(path) => self.word(path),
            FileSource::Artifact { call, path } => self.artifact_of(call, path),
        }
    }

    pub(super) fn artifact_of(&mut self, call: &Call<Resolved>, path: &Word) {
        let artifact = format!("{}{}", written(&call.target).raw, path.raw);
        self.words.push(match call.args.is_empty() {
            true => artifact,
            false => format!("({artifact} {})", arguments(&call.args).collect::<Vec<_>>().join(" ")),
        });
    }
}
