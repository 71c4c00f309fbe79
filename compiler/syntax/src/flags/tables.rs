//! Which command has which flags, and since when.
//!
//! Source: earthly-language, "Commands"; `--bind`, `--fingerprint`, `--env`, `--timeout`, `--retry`,
//! `--device` and `--always` are our own; `COPY --parents` and `--link` are a Dockerfile's.

use super::{FlagSpec, FlagTable, Takes};
use crate::Edition;

const fn spec(name: &'static str, takes: Takes) -> FlagSpec {
    FlagSpec { name, takes, repeats: false, since: Edition::Earthly06, deprecated: None }
}

const fn switch(name: &'static str) -> FlagSpec {
    spec(name, Takes::Nothing)
}

const fn toggle(name: &'static str) -> FlagSpec {
    spec(name, Takes::Toggle)
}

const fn value(name: &'static str) -> FlagSpec {
    spec(name, Takes::Value)
}

/// A flag whose values all count.
const fn values(name: &'static str) -> FlagSpec {
    FlagSpec { repeats: true, ..value(name) }
}

const PLATFORM: FlagSpec = value("platform");
const PLATFORMS: FlagSpec = values("platform");
const ALLOW_PRIVILEGED: FlagSpec = switch("allow-privileged");
const PASS_ARGS: FlagSpec = switch("pass-args");
const BUILD_ARG: FlagSpec = FlagSpec {
    deprecated: Some((Edition::Earthly06, "write `--NAME=value` behind the reference")),
    ..values("build-arg")
};

/// How a command runs: flags of RUN, IF and FOR.
const PRIVILEGED: FlagSpec = switch("privileged");
const SSH: FlagSpec = switch("ssh");
const NO_CACHE: FlagSpec = toggle("no-cache");
const MOUNT: FlagSpec = values("mount");
const SECRET: FlagSpec = values("secret");
const ENV: FlagSpec = FlagSpec { since: Edition::One, ..values("env") };

/// Flags before the word of `FROM`.
pub(crate) const FROM: FlagTable =
    FlagTable { owner: "FROM", flags: &[PLATFORM, ALLOW_PRIVILEGED, PASS_ARGS, BUILD_ARG] };
/// Flags behind `FROM @host`.
pub(crate) const FROM_HOST: FlagTable =
    FlagTable { owner: "FROM @host", flags: &[values("bind"), values("fingerprint")] };
/// Flags of `FROM DOCKERFILE`; `-f` is `--file`.
pub(crate) const FROM_DOCKERFILE: FlagTable = FlagTable {
    owner: "FROM DOCKERFILE",
    flags: &[value("file"), values("build-arg"), value("target"), PLATFORM, ALLOW_PRIVILEGED],
};
/// Flags of `FROM BUILDPACKS`.
pub(crate) const FROM_BUILDPACKS: FlagTable = FlagTable {
    owner: "FROM BUILDPACKS",
    flags: &[
        value("builder"),
        values("buildpack"),
        values("env"),
        value("descriptor"),
        value("run-image"),
        value("launcher"),
        PLATFORM,
    ],
};
/// Flags of `RUN`.
pub(crate) const RUN: FlagTable = FlagTable {
    owner: "RUN",
    flags: &[
        value("network"),
        FlagSpec { since: Edition::One, ..value("timeout") },
        FlagSpec { since: Edition::One, ..value("retry") },
        NO_CACHE,
        switch("push"),
        switch("entrypoint"),
        PRIVILEGED,
        SECRET,
        SSH,
        MOUNT,
        ENV,
        FlagSpec { since: Edition::One, ..values("device") },
        switch("interactive"),
        switch("interactive-keep"),
        switch("aws"),
        value("oidc"),
        switch("raw-output"),
    ],
};
/// Flags of `IF`.
pub(crate) const IF: FlagTable =
    FlagTable { owner: "IF", flags: &[PRIVILEGED, SSH, NO_CACHE, MOUNT, SECRET, ENV] };
/// Flags of `ELSE IF`.
pub(crate) const ELSE_IF: FlagTable = FlagTable { owner: "ELSE IF", ..IF };
/// Flags of `FOR`.
pub(crate) const FOR: FlagTable =
    FlagTable { owner: "FOR", flags: &[value("sep"), PRIVILEGED, SSH, NO_CACHE, MOUNT, SECRET, ENV] };
/// Flags of `COPY`.
pub(crate) const COPY: FlagTable = FlagTable {
    owner: "COPY",
    flags: &[
        switch("dir"),
        FlagSpec { since: Edition::One, ..switch("parents") },
        FlagSpec { since: Edition::One, ..switch("link") },
        switch("if-exists"),
        switch("keep-ts"),
        switch("keep-own"),
        switch("symlink-no-follow"),
        value("chmod"),
        value("chown"),
        PLATFORM,
        ALLOW_PRIVILEGED,
        PASS_ARGS,
        BUILD_ARG,
    ],
};
/// Flags of `ARG`.
pub(crate) const ARG: FlagTable = FlagTable { owner: "ARG", flags: &[switch("required"), switch("global")] };
/// Flags of `SAVE ARTIFACT`.
pub(crate) const SAVE_ARTIFACT: FlagTable = FlagTable {
    owner: "SAVE ARTIFACT",
    flags: &[
        switch("if-exists"),
        FlagSpec { since: Edition::One, ..switch("always") },
        switch("force"),
        switch("keep-ts"),
        FlagSpec {
            deprecated: Some((Edition::Earthly07, "take it away: an artifact keeps its owner anyway")),
            ..switch("keep-own")
        },
        switch("symlink-no-follow"),
    ],
};
/// Flags of `SAVE IMAGE`.
pub(crate) const SAVE_IMAGE: FlagTable = FlagTable {
    owner: "SAVE IMAGE",
    flags: &[
        switch("push"),
        switch("insecure"),
        switch("no-manifest-list"),
        switch("cache-hint"),
        values("cache-from"),
        switch("without-earthly-labels"),
    ],
};
/// Flags before the reference of `BUILD`.
pub(crate) const BUILD: FlagTable = FlagTable {
    owner: "BUILD",
    flags: &[PLATFORMS, ALLOW_PRIVILEGED, PASS_ARGS, BUILD_ARG, toggle("auto-skip")],
};
/// Flags before the reference of `DO`.
pub(crate) const DO: FlagTable = FlagTable { owner: "DO", flags: &[ALLOW_PRIVILEGED, PASS_ARGS] };
/// Flags of `IMPORT`.
pub(crate) const IMPORT: FlagTable = FlagTable { owner: "IMPORT", flags: &[ALLOW_PRIVILEGED, PASS_ARGS] };
/// Flags of `CACHE`.
pub(crate) const CACHE: FlagTable =
    FlagTable { owner: "CACHE", flags: &[value("sharing"), value("chmod"), value("id"), switch("persist")] };
/// Flags of `GIT CLONE`.
pub(crate) const GIT_CLONE: FlagTable =
    FlagTable { owner: "GIT CLONE", flags: &[value("branch"), switch("keep-ts")] };
/// Flags of `HEALTHCHECK`.
pub(crate) const HEALTHCHECK: FlagTable = FlagTable {
    owner: "HEALTHCHECK",
    flags: &[
        value("interval"),
        value("timeout"),
        value("start-period"),
        value("start-interval"),
        value("retries"),
    ],
};
