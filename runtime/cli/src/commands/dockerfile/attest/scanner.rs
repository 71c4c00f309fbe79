//! A scanner as a step over the result: an image that reads trees, and writes statements.
//!
//! It is cached as every step is: by its image, what it is told, and the content of what it scans.
//! Source: BuildKit's `docs/attestations/sbom-protocol.md`; how its Dockerfile frontend runs a scanner.

use std::collections::BTreeMap;

use rb_api::Job;
use rb_frontend::{ImageLocation, ImageRequest, ResolvedImage, WorldError};
use rb_llb::{ExecBuilder, ExecMeta, MountOptions, NodeMeta, State};
use rb_oci::Platform;

use crate::report::Failure;

/// Where the result is, below which what is scanned beside it, and where statements go.
const CORE: &str = "/run/src/core/sbom";
const EXTRAS: &str = "/run/src/extras/";
const OUT: &str = "/run/out/";

/// A scanner whose image is known.
pub(super) struct Scanner {
    /// Its image's name, for people.
    name: String,
    image: State,
    meta: ExecMeta,
}

impl Scanner {
    /// Looks up the image of a scanner; it runs on this machine, whatever it scans.
    pub(super) async fn find(
        job: &dyn Job,
        generator: &str,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let platform = Platform::host();
        let location = ImageLocation::Registry(generator.to_owned());
        let found = job.resolve_image(&ImageRequest { location, platform: platform.clone() }).await;
        let ResolvedImage { identifier, attrs, config, .. } =
            found.map_err(|error| unknown(generator, &error))?;
        let own = &config.config;
        let args =
            [own.entrypoint.clone(), own.cmd.clone()].into_iter().flatten().flatten().collect::<Vec<_>>();
        if args.is_empty() {
            let help = "an image that scans says with ENTRYPOINT or CMD what is run".to_owned();
            return Err(Failure::input(format!("the scanner `{generator}` has no command"), Some(help)));
        }
        let mut env = own.env.clone();
        env.push(format!("BUILDKIT_SCAN_DESTINATION={OUT}"));
        env.push(format!("BUILDKIT_SCAN_SOURCE={CORE}"));
        env.extend(parameters.iter().map(|(name, value)| format!("BUILDKIT_SCAN_{name}={value}")));
        let cwd = own.working_dir.clone().filter(|cwd| !cwd.is_empty()).unwrap_or_else(|| "/".to_owned());
        let meta = NodeMeta::named(format!("[internal] load scanner {generator}"));
        let image = State::source(identifier, attrs, Some(&platform), meta);
        Ok(Self {
            name: generator.to_owned(),
            image,
            meta: ExecMeta { args, env, cwd, ..ExecMeta::default() },
        })
    }

    /// Returns what it writes about a result and what else is to be scanned.
    pub(super) fn over(
        &self,
        result: &State,
        extras: &BTreeMap<String, State>,
        platform: &Platform,
    ) -> State {
        let mut meta = self.meta.clone();
        if !extras.is_empty() {
            meta.env.push(format!("BUILDKIT_SCAN_SOURCE_EXTRAS={EXTRAS}"));
        }
        let only_read = || MountOptions { readonly: true, ..MountOptions::default() };
        let mut exec = ExecBuilder::new(&self.image, meta).tmpfs("/tmp", 0).mount(CORE, result, only_read());
        for (name, tree) in extras {
            exec = exec.mount(format!("{EXTRAS}sbom-{name}"), tree, only_read());
        }
        let exec = exec.mount(OUT, &State::scratch(), MountOptions::default());
        let named = NodeMeta::named(format!("[{platform}] generating sbom using {}", self.name));
        exec.finish(Some(&Platform::host()), named).mount(OUT).unwrap_or_default()
    }
}

fn unknown(generator: &str, error: &WorldError) -> Failure {
    let help = "`--sbom=generator=IMAGE` names another scanner".to_owned();
    Failure::Said {
        kind: error.kind(),
        message: format!("the scanner `{generator}` cannot be had: {error}"),
        help: Some(help),
    }
}
