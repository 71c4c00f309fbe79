//! Where files come from: the build context, the folder of the Dockerfile, and contexts with names.
//!
//! In: options, and a gateway that reads single files of what they name. Out: the Dockerfile's text, and states for what
//! instructions take. What the client lends is asked for path by path, so its state is made once all paths are known.
//! **Invariant:** the gateway is asked for what BuildKit's frontend asks for, in the same states.
//! Source: BuildKit's `frontend/dockerui`.

mod archive;
mod elsewhere;
mod ignore;
mod local;
mod named;
mod text;

use std::sync::Arc;

use rb_diag::{Diagnostic, SourceFile, SourceMap};
use rb_frontend::{Answer, Gateway, Query, WorldError};
use rb_llb::{CopyAction, NodeMeta, State, attr};

use crate::codes;
use crate::failure::{self, Fallible};
use crate::git_reference::GitReference;
use crate::options::Options;

pub use elsewhere::{Elsewhere, below, elsewhere};
pub(crate) use ignore::Ignored;
pub(crate) use local::{Folder, Taken};
pub(crate) use named::{Loaded, NamedContexts, Origin};

/// Largest Dockerfile and ignore file.
const MOST_BYTES: u64 = 16 << 20;
const DOCKERFILE: &str = "Dockerfile";
const DOCKERIGNORE: &str = ".dockerignore";
/// Under what name a file of the web is a context.
const REMOTE_FILE: &str = "context";

/// The build context.
#[derive(Debug)]
pub(crate) struct Context {
    place: Place,
    /// The Dockerfile's folder.
    dockerfile: State,
    /// The Dockerfile's path in it.
    filename: String,
    /// What it is called where people see it, if that is something else.
    shown: Option<String>,
    /// The repository that the context is.
    pub(crate) repository: Option<GitReference>,
    /// The address of the file of the web that it is.
    pub(crate) web: Option<String>,
}

#[derive(Debug)]
enum Place {
    /// The client lends it.
    Client(Folder),
    /// It is brought from somewhere.
    Elsewhere(State),
}

/// What stands in the Dockerfile's folder.
pub(crate) struct Texts {
    /// The Dockerfile.
    pub(crate) dockerfile: Arc<SourceFile>,
    /// `Dockerfile.dockerignore`, which is used instead of the context's own.
    pub(crate) ignore: Option<String>,
}

impl Context {
    /// Finds the context that the options name.
    pub(crate) async fn find(gateway: &dyn Gateway, options: &Options) -> Fallible<Self> {
        let lent = options.lent_context.as_ref();
        let name = lent.map_or_else(|| "context".to_owned(), |lent| lent.name.clone());
        let mut context = Self {
            place: Place::Client(Folder {
                shared_key: name.clone(),
                name,
                unique: lent.and_then(|lent| lent.unique.clone()),
                excludes: Vec::new(),
                shown: internal("load build context"),
            }),
            dockerfile: State::scratch(),
            filename: options.filename.clone(),
            shown: options.shown.clone(),
            repository: None,
            web: None,
        };
        let elsewhere = context.find_elsewhere(gateway, options).await?;
        let handed = options.inputs.get("dockerfile").map(|input| input.state.clone());
        context.dockerfile = match elsewhere {
            Some(state) => {
                let tree = state.clone();
                context.place = Place::Elsewhere(sub_folder(state, options));
                if options.dockerfile_folder.is_some() { context.lent_dockerfile(options) } else { tree }
            }
            None => {
                if let Some(input) = options.inputs.get("context") {
                    context.place = Place::Elsewhere(sub_folder(input.state.clone(), options));
                }
                let handed = handed.filter(|_| options.dockerfile_folder.is_none());
                handed.unwrap_or_else(|| context.lent_dockerfile(options))
            }
        };
        Ok(context)
    }

    /// Looks for a repository or an address of the web.
    async fn find_elsewhere(&mut self, gateway: &dyn Gateway, options: &Options) -> Fallible<Option<State>> {
        let Some(address) = options.context.as_deref() else { return Ok(None) };
        let wrong = |message: String| Diagnostic::error(codes::CONTEXT, message);
        if let Some(mut repository) = GitReference::parse_context(address).map_err(wrong)? {
            let epoch = options.build_args.get("SOURCE_DATE_EPOCH");
            if repository.times.is_none() && epoch.is_some_and(|epoch| !epoch.is_empty()) {
                repository.times = Some("commit".to_owned());
            }
            if options.keep_git_dir {
                repository.keeps_git_folder = Some(true);
            }
            let state = repository.state(NodeMeta::named(internal(&format!("load git source {address}"))));
            self.repository = Some(repository);
            return Ok(Some(state));
        }
        if !is_web(address) {
            let help =
                "a build context is a folder, `-`, or an address of a repository, a Dockerfile or an archive";
            return Err(wrong(format!("`{address}` is not the address of a context")).with_help(help));
        }
        self.web = Some(address.to_owned());
        let file = remote_file(address, NodeMeta::named(internal("load remote build context")));
        let path = remote_path();
        let query = Query::ReadStart { path, length_bytes: archive::HEAD_BYTES };
        let answer = gateway.query(&file, query).await;
        match answer.map_err(|error| failure::world(codes::CONTEXT, &error, None))? {
            Answer::File(head) if archive::is_archive(&head) => Ok(Some(unpacked(&file))),
            _ => {
                REMOTE_FILE.clone_into(&mut self.filename);
                Ok(Some(file))
            }
        }
    }

    /// Returns what of the client's folder is needed to read the Dockerfile.
    fn lent_dockerfile(&self, options: &Options) -> State {
        let name = options.dockerfile_folder.as_deref().unwrap_or("dockerfile");
        let mut files = vec![self.filename.clone(), format!("{}{DOCKERIGNORE}", self.filename)];
        files.extend(self.lower_case_filename());
        let folder = Folder {
            name: name.to_owned(),
            shared_key: name.to_owned(),
            unique: None,
            excludes: Vec::new(),
            shown: internal(&format!("load build definition from {}", self.filename)),
        };
        folder.files(options, &files)
    }

    /// Returns the path of a `dockerfile`, which is looked for where there is no `Dockerfile`.
    fn lower_case_filename(&self) -> Option<String> {
        let folder = self.filename.strip_suffix(DOCKERFILE)?;
        (folder.is_empty() || folder.ends_with('/'))
            .then(|| rb_path::clean(&format!("{folder}{}", DOCKERFILE.to_lowercase())))
    }

    /// Reads the Dockerfile, and the ignore file beside it.
    pub(crate) async fn read(
        &self,
        gateway: &dyn Gateway,
        options: &Options,
        sources: &SourceMap,
    ) -> Fallible<Texts> {
        if let Some(given) = &options.given {
            let (dockerfile, ignore) = (Arc::clone(&given.dockerfile), Some(given.ignore.clone()));
            return Ok(Texts { dockerfile, ignore });
        }
        let mut names = vec![self.filename.clone()];
        names.extend(self.lower_case_filename());
        for name in &names {
            // That it is not there is one thing, that nobody could look another.
            if let Some(text) = read_text(gateway, &self.dockerfile, name, codes::CONTEXT).await? {
                let beside = format!("{}{DOCKERIGNORE}", self.filename);
                let ignore = read_text(gateway, &self.dockerfile, &beside, codes::CONTEXT).await?;
                let shown = self.shown.as_ref().unwrap_or(name).clone();
                return Ok(Texts { dockerfile: sources.add(shown, text), ignore });
            }
        }
        let message = format!("failed to read dockerfile: `{}` does not exist", self.filename);
        let help = "name another file with `--file`, or the folder that holds it as the build context";
        Err(Diagnostic::error(codes::NO_DOCKERFILE, message).with_help(help))
    }

    /// Leaves out what the ignore file says: the text of the one beside the Dockerfile, or else the context's own.
    /// A context from elsewhere is taken as it is.
    pub(crate) async fn exclude(
        &mut self,
        gateway: &dyn Gateway,
        options: &Options,
        ignore: Option<String>,
    ) -> Fallible<Ignored> {
        let Place::Client(folder) = &mut self.place else { return Ok(Ignored::default()) };
        let text = match ignore {
            Some(text) => Some(text),
            None => {
                own_ignore_file(gateway, options, folder, internal(&format!("load {DOCKERIGNORE}"))).await?
            }
        };
        folder.excludes = ignore::patterns(&text.unwrap_or_default());
        Ok(Ignored::new(&folder.excludes))
    }

    /// Returns the context, or what of it is taken.
    pub(crate) fn state(&self, options: &Options, taken: &Taken) -> State {
        match &self.place {
            Place::Client(folder) => folder.state(options, taken),
            Place::Elsewhere(state) => state.clone(),
        }
    }
}

/// Reads the ignore file of a folder that the client lends.
async fn own_ignore_file(
    gateway: &dyn Gateway,
    options: &Options,
    folder: &Folder,
    shown: String,
) -> Fallible<Option<String>> {
    let shared_key = format!("{}-{DOCKERIGNORE}", folder.shared_key);
    let files = Folder { name: folder.name.clone(), shared_key, unique: None, excludes: Vec::new(), shown };
    let state = files.files(options, &[DOCKERIGNORE.to_owned()]);
    read_text(gateway, &state, DOCKERIGNORE, codes::CONTEXT).await
}

/// Reads a file of a state; none where there is none.
async fn read_text(
    gateway: &dyn Gateway,
    state: &State,
    name: &str,
    code: &'static str,
) -> Fallible<Option<String>> {
    let path = rb_llb::absolute_path("/", name, false);
    let bytes = match gateway.query(state, Query::ReadFile { path, limit_bytes: MOST_BYTES }).await {
        Ok(Answer::File(bytes)) => bytes,
        Ok(_) | Err(WorldError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failure::world(code, &error, None)),
    };
    text::decode(bytes).map(Some).map_err(|at| {
        let message = format!("`{name}` is not UTF-8 text: {at}");
        Diagnostic::error(code, message)
            .with_help("write it in UTF-8: `iconv -f LATIN1 -t UTF-8` makes it of older text")
    })
}

/// Returns the folder of a context that counts.
fn sub_folder(state: State, options: &Options) -> State {
    let Some(folder) = &options.context_sub_dir else { return state };
    let copy = CopyAction {
        src: rb_llb::absolute_path("/", folder, false),
        dest: "/".to_owned(),
        dir_copy_contents: true,
        ..CopyAction::default()
    };
    State::scratch().copy(&state, copy, NodeMeta::default())
}

/// Returns a file of the web, which lies in its tree as [`REMOTE_FILE`].
pub(crate) fn remote_file(address: &str, meta: NodeMeta) -> State {
    let attrs = [(attr::HTTP_FILENAME.to_owned(), REMOTE_FILE.to_owned())].into();
    State::source(address, attrs, None, meta)
}

/// Returns the path of a file of the web in its tree.
pub(crate) fn remote_path() -> String {
    format!("/{REMOTE_FILE}")
}

/// Returns what is in an archive of the web.
pub(crate) fn unpacked(file: &State) -> State {
    let unpack = CopyAction {
        src: remote_path(),
        dest: "/".to_owned(),
        attempt_unpack: true,
        ..CopyAction::default()
    };
    State::scratch().copy(file, unpack, NodeMeta::default())
}

pub(crate) fn is_web(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

/// Marks what no line of the file asks for.
pub(crate) fn internal(text: &str) -> String {
    format!("[internal] {text}")
}
