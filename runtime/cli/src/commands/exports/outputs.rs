//! What `-o` asks for of the targets that were named, one for each platform.
//!
//! What is taken of a target is the last image it saves, else its filesystem; of one that has none and only BUILDs, the image
//! that it builds. Of several platforms an image becomes an index, and files go to a folder for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rb_api::{Export, ImageName, LayoutPlace, Place, PlatformImage, Stream};
use rb_diag::SourceMap;
use rb_frontend::{SavedImage, TargetOutput};
use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::index::{closest, config_platform};
use rb_oci::{ImageConfig, Platform};

use super::{Entry, Wanted};
use crate::commands::anew;
use crate::output_spec::{Dest, OutputSpec};
use crate::report::Failure;

impl Wanted {
    /// Adds what `-o` asks for of a target, once for each platform.
    pub(in crate::commands) fn output_of(
        &mut self,
        spec: &OutputSpec,
        targets: &[Arc<TargetOutput>],
        cwd: &Path,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let built = built(targets)?;
        if let Some(first) = built.first() {
            let name = first.1.names.first().cloned();
            let mut images = Vec::with_capacity(built.len());
            for (label, image) in built {
                let root = self.root(&label, &image.state, sources)?;
                let image = PlatformImage { root, config: image.config.clone() };
                if !images.contains(&image) {
                    images.push(image);
                }
            }
            return self.output(spec, images, name.as_deref(), cwd);
        }
        let images: Result<Vec<_>, _> =
            targets.iter().map(|target| self.filesystem_of(target, sources)).collect();
        let saved = targets.iter().find_map(|target| target.images.last()?.names.first());
        self.output(spec, images?, saved.map(String::as_str), cwd)
    }

    /// Adds what `-o` asks for of images whose filesystems are these. Of several platforms, those of a tar become one, with a folder
    /// for each.
    pub(in crate::commands) fn output_of_states(
        &mut self,
        spec: &OutputSpec,
        made: &[(State, PlatformImage)],
        cwd: &Path,
        sources: &SourceMap,
    ) -> Result<(), Failure> {
        let images = || made.iter().map(|(_, image)| image.clone()).collect::<Vec<_>>();
        let OutputSpec::Tar { split, .. } = spec else { return self.output(spec, images(), None, cwd) };
        if !split.unwrap_or(made.len() > 1) {
            return self.output(spec, images(), None, cwd);
        }
        let Some((_, first)) = made.first() else { return Ok(()) };
        let mut all = State::scratch();
        for (state, image) in made.iter().filter(|(state, _)| !state.is_scratch()) {
            let folder = shown(&image.config).replace('/', "_");
            let copy = CopyAction {
                src: "/".to_owned(),
                dest: format!("/{folder}/"),
                dir_copy_contents: true,
                create_dest_path: true,
                ..CopyAction::default()
            };
            all = all.copy(state, copy, NodeMeta::named(format!("files for {}", shown(&image.config))));
        }
        if self.is_said(&images()) {
            self.notes
                .push("type=tar of several platforms has no attestations; type=oci has them".to_owned());
        }
        let root = self.root("the files of all platforms", &all, sources)?;
        self.output(spec, vec![PlatformImage { root, config: first.config.clone() }], None, cwd)
    }

    /// Adds what `-o` asks for of images.
    pub(in crate::commands) fn output(
        &mut self,
        spec: &OutputSpec,
        images: Vec<PlatformImage>,
        name: Option<&str>,
        cwd: &Path,
    ) -> Result<(), Failure> {
        let named = |given: &[String]| match given {
            [] => name.map(ToOwned::to_owned).into_iter().collect(),
            given => given.to_vec(),
        };
        let place = |dest: &Dest| match dest {
            Dest::Path(path) => Place::File(cwd.join(path)),
            Dest::Stdout => {
                anew::forbid();
                Place::Stream(Stream::new(std::io::stdout()))
            }
        };
        let export = match spec {
            OutputSpec::Archive { dest, tar, docker, names, format } => {
                let images = if *docker { self.for_this_machine(images)? } else { images };
                let format = self.format(format, &images);
                let format = if *docker { self.said_nowhere(&images, format) } else { format };
                Entry::Export(Export::OciLayout {
                    format,
                    images,
                    names: named(names),
                    destination: match place(dest) {
                        Place::File(path) if !tar => LayoutPlace::Folder(path),
                        place => LayoutPlace::Archive(place),
                    },
                })
            }
            OutputSpec::Tar { dest, epoch_seconds, split: _ } => {
                let [PlatformImage { root, .. }] = images.as_slice() else {
                    return Err(several("type=tar", &images));
                };
                let (root, destination) = (*root, place(dest));
                Entry::Export(Export::Tar { root, destination, epoch_seconds: *epoch_seconds })
            }
            OutputSpec::Local { dest, delete, split } => {
                if *split == Some(false) && images.len() > 1 {
                    return Err(several("type=local,platform-split=false", &images));
                }
                let is_split = split.unwrap_or(images.len() > 1);
                for PlatformImage { root, config } in images {
                    let mut destination = cwd.join(dest);
                    if is_split {
                        destination.push(shown(&config).replace('/', "_"));
                    }
                    self.entries.push(Entry::Export(Export::Local {
                        root,
                        path: "/".to_owned(),
                        destination,
                        into: false,
                        entries: false,
                        merge: !delete,
                        optional: false,
                        confine: None,
                        follow: true,
                    }));
                }
                return Ok(());
            }
            OutputSpec::Image { names, format, push } => Entry::Export(Export::Image {
                format: self.format(format, &images),
                images,
                names: names.clone(),
                push: *push,
            }),
            OutputSpec::Load { names, format } => {
                let images = self.for_this_machine(images)?;
                let names = named(names).into_iter().map(ImageName::Plain).collect();
                let format = self.format(format, &images);
                let format = self.said_nowhere(&images, format);
                Entry::Load(Export::Image { images, names, format, push: None })
            }
        };
        self.entries.push(export);
        Ok(())
    }

    /// Chooses what Docker takes of several platforms, and notes that.
    fn for_this_machine(&mut self, images: Vec<PlatformImage>) -> Result<Vec<PlatformImage>, Failure> {
        if images.len() < 2 {
            return Ok(images);
        }
        let all = platforms(&images);
        let host = Platform::host();
        let found = images.into_iter().filter_map(|image| Some((config_platform(&image.config)?, image)));
        let Some(image) = closest(&host, found) else {
            return Err(Failure::input(
                format!("type=docker takes the image for {host}, and there are {all}"),
                Some("`type=oci` takes all of them".to_owned()),
            ));
        };
        let note = format!("of {all}, type=docker has {} alone; type=oci has all", shown(&image.config));
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        Ok(vec![image])
    }
}

fn several(what: &str, images: &[PlatformImage]) -> Failure {
    Failure::input(
        format!("{what} takes the files of one platform, and there are {}", platforms(images)),
        Some("name one with `--platform`, or write folders: `type=local`".to_owned()),
    )
}

fn platforms(images: &[PlatformImage]) -> String {
    images.iter().map(|image| shown(&image.config)).collect::<Vec<_>>().join(", ")
}

fn shown(config: &ImageConfig) -> String {
    config_platform(config)
        .map_or_else(|| format!("{}/{}", config.os, config.architecture), |platform| platform.to_string())
}

/// Returns what targets build that have nothing of their own, each image with its target; nothing, where one has.
fn built(targets: &[Arc<TargetOutput>]) -> Result<Vec<(String, &SavedImage)>, Failure> {
    let has_own = |target: &Arc<TargetOutput>| {
        !target.images.is_empty() || !target.state.is_scratch() || target.builds.is_empty() || target.on_host
    };
    if targets.iter().any(has_own) {
        return Ok(Vec::new());
    }
    let mut images = Vec::new();
    let mut names = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&TargetOutput> = targets.iter().rev().map(AsRef::as_ref).collect();
    while let Some(target) = open.pop() {
        if !seen.insert(&target.key) {
            continue;
        }
        open.extend(target.builds.iter().rev().map(AsRef::as_ref));
        let label = target.key.target.to_string();
        for image in &target.images {
            names.entry(image.names.first()).or_insert_with(|| label.clone());
            images.push((label.clone(), image));
        }
    }
    if names.len() > 1 {
        let listed: Vec<&str> = names.keys().flatten().map(|name| name.as_str()).collect();
        let label = targets.iter().map(|target| target.key.target.to_string()).next().unwrap_or_default();
        return Err(Failure::input(
            format!("-o: `{label}` has nothing of its own and builds several images: {}", listed.join(", ")),
            names.values().next().map(|label| format!("name the target of one, such as `{label}`")),
        ));
    }
    Ok(images)
}
