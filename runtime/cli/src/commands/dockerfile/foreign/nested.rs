//! Frontends that the frontend of an image asks for: our own for Dockerfiles, and further images.
//!
//! In: requests of a program that runs. Out: trees, or what is wrong, which is kept as it was found: the program hands on words alone.
//! **Invariants:** they work on the job of the build, and see what the first one sees; their number above one another is bounded.
//! Source: BuildKit's `frontend/gateway`, names of frontends and of options.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rb_diag::{Diagnostic, ErrorKind};
use rb_dockerfile::checks::report::Report;
use rb_dockerfile::{Input, Options, PlannedImage};
use rb_llb::Definition;
use rb_oci::{ImageConfig, Platform};
use rb_remote::guest::{Failed, Nested, Returned, ReturnedTree};
use tokio::sync::mpsc;

use super::{Errand, GIVEN, rebuilt, wanted};
use crate::commands::dockerfile::attest::Listening;
use crate::commands::gateway::{BuildGateway, Settling};
use crate::report::Failure;

/// Most frontends above one another.
const MOST_DEPTH: usize = 8;
/// An image that this program's own frontend stands for.
const OWN: &str = "docker/dockerfile";
/// The folder of the Dockerfile, and the option that gives it another name.
const DOCKERFILE: (&str, &str) = ("dockerfile", "dockerfilekey");
/// Folders of the client that a tree may stand for.
const CONTEXT: [&str; 2] = ["context", DOCKERFILE.0];
/// What comes with a tree that is handed in.
const INPUT: &str = "input-metadata:";

impl Errand<'_> {
    /// Runs what is asked for, as it comes. What is wrong first is left in `unmet`.
    pub(super) async fn serve(
        &self,
        mut asked: mpsc::Receiver<Nested>,
        unmet: &Mutex<Option<Failure>>,
    ) -> Infallible {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(asked) = asked.recv() => open.push(self.reply(asked, unmet)),
                Some(()) = open.next() => {}
                // Nobody can ask any more; who asked has ended, or will soon.
                else => return std::future::pending().await,
            }
        }
    }

    async fn reply(&self, asked: Nested, unmet: &Mutex<Option<Failure>>) {
        let Nested { frontend, options, inputs, answer } = asked;
        let made = self.nested(&frontend, options, inputs).await.map_err(|failure| {
            let (kind, message) = (ErrorKind::Input, failure.message());
            unmet.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            Failed::Said { kind, message }
        });
        // Who asked may have gone.
        drop(answer.send(made));
    }

    /// Has a frontend decide that is called by its name at BuildKit.
    fn nested<'s>(
        &'s self,
        frontend: &'s str,
        options: BTreeMap<String, String>,
        inputs: BTreeMap<String, Definition>,
    ) -> BoxFuture<'s, Result<Returned, Failure>> {
        Box::pin(async move {
            if self.depth >= MOST_DEPTH {
                return Err(Failure::input("frontends ask for one another without an end", None));
            }
            let inputs = self.states(&options, inputs)?;
            let errand = Errand { inputs: &inputs, depth: self.depth + 1, ..*self };
            match (frontend, options.get("source")) {
                ("dockerfile.v0", _) => errand.dockerfile(options).await,
                ("gateway.v0", Some(image)) if rb_dockerfile::is_own_frontend(image) => {
                    errand.dockerfile(options).await
                }
                ("gateway.v0", Some(image)) => errand.run_with(&image.clone(), options).await,
                ("gateway.v0", None) => Err(Failure::input("`gateway.v0` needs the option `source`", None)),
                (other, _) => Err(Failure::input(format!("there is no frontend `{other}`"), None)),
            }
        })
    }

    /// Returns trees that are handed in as what a Dockerfile is made of.
    fn states(
        &self,
        options: &BTreeMap<String, String>,
        inputs: BTreeMap<String, Definition>,
    ) -> Result<BTreeMap<String, Input>, Failure> {
        let state = |(name, definition): (String, Definition)| {
            let state = rebuilt::state(&definition, self.sources)?;
            let config =
                options.get(&format!("{INPUT}{name}")).map(|text| config(&name, text)).transpose()?;
            Ok::<_, Failure>((name, Input { state, config }))
        };
        let handed = inputs.into_iter().map(state).collect::<Result<BTreeMap<_, _>, _>>()?;
        // A tar in the place of the context is that for all of them, as its address is at BuildKit.
        let mut all = self.inputs.clone();
        all.retain(|name, _| self.order.lent.archive && CONTEXT.contains(&name.as_str()));
        all.extend(handed);
        Ok(all)
    }

    /// Has our own frontend decide.
    async fn dockerfile(&self, mut options: BTreeMap<String, String>) -> Result<Returned, Failure> {
        let Self { order, job, sources, .. } = self;
        // Who was named by a line of the file has read that line.
        if options.contains_key("cmdline") {
            options.insert(GIVEN.to_owned(), OWN.to_owned());
        }
        let lent = order.lent.name_of(DOCKERFILE.0);
        if lent != DOCKERFILE.0 {
            options.entry(DOCKERFILE.1.to_owned()).or_insert_with(|| lent.to_owned());
        }
        let all = options.clone();
        options.retain(|name, _| Options::is_known(name) && !name.starts_with(INPUT));
        let is_users = !CONTEXT.iter().any(|name| self.inputs.contains_key(*name));
        let start = Options {
            build_platform: Platform::host(),
            lent_context: order.lent.context(),
            inputs: self.inputs.clone(),
            shown: is_users.then(|| order.lent.file.clone()),
            ignore: order.ignore.clone().filter(|_| is_users),
            volumes: order.volumes.clone(),
            tells_arguments: true,
            ..Options::default()
        };
        let wrong = |items| Failure::Diagnostics { items, sources: (*sources).clone() };
        let options = Options::read(&options, start).map_err(wrong)?;
        let root = order.settings.cwd.clone();
        let own = BuildGateway::new((*job).clone(), (*sources).clone(), root, Settling::Nothing)
            .naming(self.naming.cloned());
        let gateway = Listening { gateway: &own, heard: &order.attests.heard };
        let failed = |items: Vec<Diagnostic>| {
            let mut of_steps = own.failures();
            if of_steps.is_empty() { wrong(items) } else { of_steps.remove(0) }
        };
        if let Some(question) = &options.request {
            return self.answered(question, &gateway, &options).await.map_err(failed)?;
        }
        match rb_dockerfile::plan_telling(&gateway, &options, sources, &mut Vec::new()).await {
            Ok(images) => self.returned(images, options.multi_platform),
            Err(items) => match wanted(&items, all.get(GIVEN), sources) {
                Some(image) => self.run_with(&image, all).await,
                None => Err(failed(items)),
            },
        }
    }

    fn returned(&self, images: Vec<PlannedImage>, is_index: bool) -> Result<Returned, Failure> {
        let is_index = is_index || images.len() > 1;
        let tree = |image: PlannedImage| {
            let mut definition = image.state.marshal(self.sources)?;
            if let Some(naming) = self.naming {
                naming(&mut definition);
            }
            let PlannedImage { platform, config, base, .. } = image;
            Ok::<_, Failure>(ReturnedTree { platform, definition, config: Some(config), base })
        };
        let trees = images.into_iter().map(tree).collect::<Result<_, _>>()?;
        Ok(Returned { trees, is_index, answers: BTreeMap::new(), warnings: Vec::new() })
    }

    /// Answers a question about the Dockerfile, as far as it is one that is known.
    async fn answered(
        &self,
        question: &str,
        gateway: &Listening<'_>,
        options: &Options,
    ) -> Result<Result<Returned, Failure>, Vec<Diagnostic>> {
        let json = |value: serde_json::Result<String>| value.expect("its keys are text");
        let mut status = None;
        let (json, text) = match question {
            "frontend.outline" => {
                let told = rb_dockerfile::outline(gateway, options, self.sources).await?;
                (json(serde_json::to_string(&told)), told.text())
            }
            "frontend.targets" => {
                let told = rb_dockerfile::targets(gateway, options, self.sources).await?;
                (json(serde_json::to_string(&told)), told.text())
            }
            "frontend.lint" => {
                let found = rb_dockerfile::check(gateway, options, self.sources).await;
                let report =
                    Report { findings: &found.findings, errors: &found.errors, sources: self.sources };
                status = Some(u8::from(!report.is_clean()).to_string());
                (report.json(), report.text())
            }
            other => {
                return Ok(Err(Failure::input(format!("unsupported request {other}"), None)));
            }
        };
        let pairs = [("result.json", json), ("result.txt", text), ("version", "1.0.0".to_owned())];
        let mut answers: BTreeMap<_, _> =
            pairs.map(|(name, value)| (name.to_owned(), Bytes::from(value))).into();
        answers.extend(status.map(|status| ("result.statuscode".to_owned(), Bytes::from(status))));
        Ok(Ok(Returned { trees: Vec::new(), is_index: false, answers, warnings: Vec::new() }))
    }
}

/// Reads what is said of an image that is handed in, as BuildKit's client writes it.
fn config(name: &str, text: &str) -> Result<ImageConfig, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::input(format!("what is said of the input `{name}` cannot be read: {error}"), None)
    };
    let said: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    let Some(said) = said.get("containerimage.config") else {
        return Err(wrong(&"it has no config"));
    };
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, said);
    let bytes = bytes.map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}
