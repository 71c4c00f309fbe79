//! What building an app would do now, for `rb why`.
//!
//! In: a build as it is typed behind `rb pack build`. Out: what the cache says of its steps. Detection is a step, too: where it would
//! have to run, that is what would run, and what comes of it is not known.
//! **Invariant:** nothing runs.

use std::path::Path;
use std::sync::Arc;

use rb_api::{Course, Root};
use rb_buildpacks::frontend::{self, FrontendError};
use rb_diag::{Diagnostic, SourceMap};

use super::build::{self, Ordered};
use super::phases;
use super::previous::Found;
use super::whole::Whole;
use crate::args::{BuildOptions, OutputOptions, PackBuild, PackLifecycle};
use crate::commands::build::open_job;
use crate::commands::exports::Wanted;
use crate::commands::foresight::{self, Foresight, Heard};
use crate::commands::gateway::{BuildGateway, Settling};
use crate::commands::past;
use crate::commands::record::document::OfApp;
use crate::commands::record::{Asked, Listener};
use crate::commands::workbench::Workbench;
use crate::environment::Environment;
use crate::progress::Progress;
use crate::report::Failure;
use crate::settings::given::Given;
use crate::settings::{self, Display, ProgressMode, Settings};
use crate::world::Withheld;

/// The build of an app, as others ask about it.
pub(in crate::commands) struct Subject {
    args: PackBuild,
    ordered: Ordered,
}

impl Subject {
    /// Settles what was typed.
    pub(in crate::commands) fn read(
        environment: &Environment,
        outer: BuildOptions,
        args: PackBuild,
    ) -> Result<Self, Failure> {
        let options = args.options().over(outer);
        let settings = settings::settle(&options, &OutputOptions::default(), Given::default(), environment)?;
        if settings.engine.is_some() {
            let help = Some("leave --engine out: `rb why --last` tells of builds there".to_owned());
            return Err(Failure::input("what an engine elsewhere would run is not known", help));
        }
        let ordered = build::ordered(environment, &settings, &args)?;
        Ok(Self { args, ordered })
    }

    /// Returns the folder of the app.
    pub(in crate::commands) fn folder(&self) -> &Path {
        &self.ordered.order.folder
    }

    /// Returns the settings of the build.
    pub(in crate::commands) fn settings(&self) -> &Settings {
        &self.ordered.order.settings
    }

    /// Returns the names by which builds of it are found again.
    pub(in crate::commands) fn names(&self) -> Vec<String> {
        names(&self.args)
    }

    /// Returns what its record says was asked for.
    pub(in crate::commands) fn asked(&self, command: &'static str) -> Asked {
        asked(command, &self.args, &self.settings().cwd)
    }

    /// Returns what a record says of it.
    pub(in crate::commands) fn told(&self) -> OfApp {
        told(&self.args, &self.settings().cwd)
    }

    /// Looks at what the build would do.
    pub(in crate::commands) fn look(&self) -> Result<(Foresight, Heard), Failure> {
        let Self { args, ordered } = self;
        let (order, settings) = (&ordered.order, self.settings());
        let bench = Workbench::open(settings, self.asked("why"), Some(&order.folder))?;
        let previous = Found::of(&bench, ordered, args)?;
        let quiet = Display { mode: ProgressMode::Quiet, ..settings.display };
        let mut progress = Progress::start(quiet, &args.image);
        let listener = Listener::default();
        let seen = bench.run(async {
            let session = Arc::new(order.session.clone());
            let events = listener.sink(progress.sink());
            let job = open_job(settings, &bench, session, events, Course::Look);
            let sources = SourceMap::default();
            let withheld: Arc<Withheld> = Arc::default();
            let gateway =
                BuildGateway::new(Arc::clone(&job), sources.clone(), settings.cwd.clone(), Settling::Nothing)
                    .withholding(Arc::clone(&withheld));
            let (mut wanted, mut stopped) = (Wanted::annotated(&[]), Vec::new());
            for (request, previous) in ordered.requests().into_iter().zip(&previous.images) {
                let planned = match args.lifecycle {
                    PackLifecycle::Rb => {
                        let asked = (request, previous.as_ref());
                        let planned = frontend::plan(&gateway, asked, &sources, &|_| {}).await;
                        planned.map(Whole::from)
                    }
                    PackLifecycle::Builder => {
                        let created = frontend::create(&gateway, request, None, &|_| {}).await;
                        created.map(Whole::from)
                    }
                };
                match planned {
                    Ok(whole) => {
                        let sboms = ordered.sbom_folder(args, &request.platform);
                        whole.wanted(&mut wanted, (ordered.goal(), true), sboms.as_deref(), &sources)?;
                    }
                    Err(FrontendError::World(error)) if withheld.has(&error.to_string()) => {
                        stopped.push(
                            Diagnostic::error("withheld", error.to_string())
                                .with_trail(format!("in {}", args.image)),
                        );
                    }
                    Err(error) => return Err(phases::failed(error, &gateway, &sources, quiet)),
                }
            }
            let mut request = wanted.asked().request;
            let root = |definition| Root { label: args.image.clone(), definition };
            request.roots.extend(gateway.unanswered().into_iter().map(root));
            foresight::ask(job.as_ref(), request, stopped).await
        });
        progress.finish();
        bench.close();
        Ok((seen?, listener.document()))
    }
}

/// Returns what the record of a build says was asked for.
pub(super) fn asked(command: &'static str, args: &PackBuild, folder: &Path) -> Asked {
    let title = format!("pack build {}", args.image);
    Asked::of(command, title).naming(names(args)).of_app(told(args, folder))
}

fn names(args: &PackBuild) -> Vec<String> {
    vec![format!("{}{}", past::APP, args.image)]
}

fn told(args: &PackBuild, folder: &Path) -> OfApp {
    let says_values = !args.choices.env.is_empty();
    let words = if says_values { Vec::new() } else { args.words.clone() };
    OfApp { folder: folder.to_str().map(ToOwned::to_owned), words }
}
