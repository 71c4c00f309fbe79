//! Where the result goes: `-o`, `--load`, `--push`, and the names of `-t`.
//!
//! In: those flags. Out: outputs as every command has them, whose images have the names of `-t` unless they say other ones.
//! With none the image goes into the image store; `type=cacheonly` is none at all. Source: buildx build reference, "--output"; what it does with `--load` and
//! `--push`.

use rb_api::{ImageFormat, ImageName};
use rb_oci::MediaTypes;

use super::order::AS_OF_SEVERAL;
use crate::args::{DockerfileArgs, LayoutFormat, LoadChoice, OutputOptions};
use crate::commands::after;
use crate::output_spec::{OutputSpec, OutputSpecError, split_csv};
use crate::report::Failure;

/// What is written.
#[derive(Debug)]
pub(super) struct Outputs {
    /// Outputs, and files for other programs.
    pub(super) options: OutputOptions,
    /// What the user should know of them.
    pub(super) notes: Vec<String>,
}

/// Types whose result is an image.
const IMAGES: [&str; 4] = ["image", "registry", "docker", "oci"];

/// Settles the outputs.
pub(super) fn read(args: &DockerfileArgs, options: OutputOptions, push: bool) -> Result<Outputs, Failure> {
    if args.nowhere {
        return Ok(Outputs { options: OutputOptions { output: Vec::new(), ..options }, notes: Vec::new() });
    }
    for tag in &args.tag {
        if let Err(error) = tag.trim().parse::<rb_oci::Reference>() {
            return Err(Failure::input(format!("-t {tag}: {error}"), None));
        }
    }
    let mut texts = args.output.clone();
    if push {
        pushed(&mut texts, &args.tag)?;
    }
    let load = args.load.unwrap_or(args.default_load && texts.is_empty());
    if load && !texts.iter().any(|text| kind(text).as_deref() == Some("docker")) {
        texts.push("type=docker".to_owned());
    }
    let is_docker = args.format == Some(LayoutFormat::Docker);
    // With buildx's type for it, what was built stays in the cache alone.
    let is_kept = !texts.iter().any(|text| kind(text).as_deref() == Some("cacheonly"));
    texts.retain(|text| kind(text).as_deref() != Some("cacheonly"));
    let mut specs = Vec::new();
    for text in &texts {
        specs.push(named(text, &args.tag, is_docker).map_err(Failure::from)?);
    }
    if specs.is_empty() && is_kept {
        specs.push(kept(&args.tag, is_docker)?);
    }
    let mut outputs = Outputs { options: OutputOptions { output: specs, ..options }, notes: Vec::new() };
    outputs.settle_loading();
    Ok(outputs)
}

impl Outputs {
    /// Has one platform written as several are, if `text` says so.
    pub(super) fn as_of_several(&mut self, text: &str) -> Result<(), Failure> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => {
                let specs = std::mem::take(&mut self.options.output);
                self.options.output = specs.into_iter().map(OutputSpec::written_as_several).collect();
                Ok(())
            }
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(()),
            _ => Err(Failure::input(
                format!("--build-arg {AS_OF_SEVERAL}={text}: expected true or false"),
                None,
            )),
        }
    }

    /// Decides who loads what is to be loaded: Docker, or, where it is not, our own store.
    fn settle_loading(&mut self) {
        let is_loaded = |spec: &OutputSpec| matches!(spec, OutputSpec::Load { .. });
        if !self.options.output.iter().any(is_loaded) {
            return;
        }
        if after::has_docker() {
            self.options.load = Some(LoadChoice::Docker);
            return;
        }
        self.notes.push("no Docker runs here: the image is in the image store of rb alone".to_owned());
        for spec in &mut self.options.output {
            if let OutputSpec::Load { names, format } = spec {
                let names = std::mem::take(names).into_iter().map(ImageName::Plain).collect();
                *spec = OutputSpec::Image { names, format: format.clone(), push: None };
            }
        }
    }
}

/// Returns the type of an output as it was typed; none of a folder.
fn kind(text: &str) -> Option<String> {
    split_csv(text).iter().find_map(|field| field.trim().strip_prefix("type=").map(ToOwned::to_owned))
}

/// Adds what `--push` asks for: of images that are written anyway, or of one.
fn pushed(texts: &mut Vec<String>, tags: &[String]) -> Result<(), Failure> {
    let mut any = false;
    for text in texts.iter_mut() {
        match kind(text).as_deref() {
            Some("image") => {
                any = true;
                if !split_csv(text).iter().any(|field| field.starts_with("push=")) {
                    text.push_str(",push=true");
                }
            }
            Some("registry") => any = true,
            Some(_) | None => {}
        }
    }
    if any {
        return Ok(());
    }
    if tags.is_empty() {
        let help = Some("name where it goes: `-t registry/name:tag`".to_owned());
        return Err(Failure::input("--push: the image has no name", help));
    }
    texts.push("type=registry".to_owned());
    Ok(())
}

/// Reads an output, whose image has the names of `-t` unless it says other ones.
fn named(text: &str, tags: &[String], is_docker: bool) -> Result<OutputSpec, OutputSpecError> {
    let fields = split_csv(text);
    let says = |key: &str| fields.iter().any(|field| field.trim_start().starts_with(key));
    let mut text = text.to_owned();
    if kind(&text).is_some_and(|kind| IMAGES.contains(&kind.as_str())) {
        if !tags.is_empty() && !says("name=") {
            text.push_str(&name_field(tags));
        }
        if is_docker && !says("oci-mediatypes=") {
            text.push_str(",oci-mediatypes=false");
        }
    }
    text.parse()
}

/// Returns names as a field behind others: one field in quotes, with commas.
fn name_field(tags: &[String]) -> String {
    format!(",\"name={}\"", tags.join(",").replace('"', "\"\""))
}

/// The image goes into the store.
fn kept(tags: &[String], is_docker: bool) -> Result<OutputSpec, OutputSpecError> {
    if tags.is_empty() {
        let types = if is_docker { MediaTypes::Docker } else { MediaTypes::Oci };
        let format = ImageFormat { types, ..ImageFormat::default() };
        return Ok(OutputSpec::Image { names: Vec::new(), format, push: None });
    }
    named("type=image", tags, is_docker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(output: &[&str], tags: &[&str], push: bool) -> Result<Vec<OutputSpec>, String> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let args = DockerfileArgs { output: texts(output), tag: texts(tags), ..DockerfileArgs::default() };
        read(&args, OutputOptions::default(), push)
            .map(|outputs| outputs.options.output)
            .map_err(|failure| failure.message())
    }

    fn names(spec: &OutputSpec) -> Vec<String> {
        match spec {
            OutputSpec::Archive { names, .. } | OutputSpec::Load { names, .. } => names.clone(),
            OutputSpec::Image { names, .. } => names.iter().map(|name| format!("{name:?}")).collect(),
            OutputSpec::Tar { .. } | OutputSpec::Local { .. } => Vec::new(),
        }
    }

    #[test]
    fn images_have_the_names_of_t() {
        let read = |output: &str| specs(&[output], &["a:1", "b"], false).expect(output);
        assert_eq!(names(&read("type=oci,dest=x")[0]), ["a:1", "b"]);
        assert_eq!(names(&read("type=oci,dest=x,name=c")[0]), ["c"]);
        assert_eq!(names(&read("type=image")[0]).len(), 2);
        assert!(matches!(read("out")[0], OutputSpec::Local { .. }));
        let kept = specs(&[], &["a", "b"], false).expect("keeps");
        assert_eq!(names(&kept[0]).len(), 2);
        let unnamed = specs(&[], &[], false).expect("keeps");
        assert!(matches!(&unnamed[0], OutputSpec::Image { names, push: None, .. } if names.is_empty()));
    }

    #[test]
    fn what_stays_in_the_cache_is_no_output() {
        assert_eq!(specs(&["type=cacheonly"], &["a"], false).map(|specs| specs.len()), Ok(0));
        assert_eq!(specs(&["type=cacheonly", "out"], &["a"], false).map(|specs| specs.len()), Ok(1));
    }

    #[test]
    fn push_pushes_once() {
        let pushes = |spec: &OutputSpec| matches!(spec, OutputSpec::Image { push: Some(_), .. });
        for output in [&[][..], &["type=image"], &["type=registry"], &["type=image,push=true"]] {
            let specs = specs(output, &["a"], true).expect("reads");
            assert!(specs.len() == 1 && pushes(&specs[0]), "{output:?}");
        }
        let beside = specs(&["out"], &["a"], true).expect("reads");
        assert!(beside.len() == 2 && pushes(&beside[1]));
        assert_eq!(specs(&[], &[], true), Err("--push: the image has no name".to_owned()));
    }

    #[test]
    fn wrong_names_are_told() {
        let error = specs(&[], &["A b"], false).expect_err("no name");
        assert!(error.contains("A b"), "{error}");
    }
}
