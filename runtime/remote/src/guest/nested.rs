//! Other frontends that a frontend asks for: what it says goes to whoever runs frontends, and trees come back.
//!
//! In: the name of a frontend, its options, trees that it is handed. Out: its result as the wire has it. **Invariant:** its trees are trees
//! of the frontend that asked, so they count as its own, and a step of theirs that fails is told as one.

use std::collections::BTreeMap;

use bytes::Bytes;
use rb_llb::Definition;
use rb_wire::gateway::{self, result};
use tokio::sync::oneshot;
use tonic::Status;

use super::served::Served;
use super::{Failed, Returned, ReturnedTree, lock};
use crate::results;

/// What a frontend asks another one for.
#[derive(Debug)]
pub struct Nested {
    /// Which: `dockerfile.v0`, or `gateway.v0` for an image that its options name.
    pub frontend: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Trees that it is handed, by name.
    pub inputs: BTreeMap<String, Definition>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Returned, Failed>>,
}

impl Served {
    /// Has another frontend decide.
    pub(super) async fn nested(&self, request: gateway::SolveRequest) -> Result<gateway::Result, Status> {
        let frontend = request.frontend;
        let Some(frontends) = &self.given.frontends else {
            let message = format!("a frontend of an image cannot ask for the frontend `{frontend}` here");
            return Err(Status::unimplemented(message));
        };
        if request.definition.is_some_and(|bytes| !bytes.is_empty()) {
            return Err(Status::invalid_argument("cannot solve with both Definition and Frontend specified"));
        }
        let inputs = request.frontend_inputs.iter();
        let inputs = inputs.map(|(name, bytes)| Ok((name.clone(), self.definition(bytes)?)));
        let inputs = inputs.collect::<Result<BTreeMap<_, _>, Status>>()?;
        let (answer, answered) = oneshot::channel();
        let asked = Nested { frontend, options: request.frontend_opt, inputs, answer };
        let nobody = || Status::unavailable("nobody runs frontends any more");
        frontends.send(asked).await.map_err(|_| nobody())?;
        match answered.await.map_err(|_| nobody())? {
            Ok(returned) => self.result(returned, request.evaluate).await,
            Err(Failed::Step(failed)) => {
                let (error, definition) = *failed;
                Err(self.failed(error, &definition))
            }
            Err(Failed::Said { message, .. }) => Err(Status::unknown(message)),
        }
    }

    /// Writes what another frontend has returned.
    async fn result(&self, returned: Returned, evaluate: bool) -> Result<gateway::Result, Status> {
        let Returned { trees, is_index, answers, warnings } = returned;
        lock(&self.state).warn(warnings);
        let mut refs = Vec::with_capacity(trees.len());
        for ReturnedTree { definition, .. } in &trees {
            if evaluate {
                self.make(definition).await?;
            }
            let def = Bytes::from(definition.to_bytes());
            let def = Some(def).filter(|_| !definition.is_empty());
            refs.push(gateway::Ref { id: self.keep(definition.clone())?, def });
        }
        let mut metadata = answers;
        let mut listed = Vec::new();
        for ReturnedTree { platform, config, base, .. } in &trees {
            let of_platform = if is_index { format!("/{platform}") } else { String::new() };
            for (key, config) in [(results::CONFIG, config), (results::BASE, base)] {
                let Some(config) = config else { continue };
                let config =
                    serde_json::to_vec(config).map_err(|error| Status::internal(error.to_string()))?;
                metadata.insert(format!("{key}{of_platform}"), config.into());
            }
            listed.push(serde_json::json!({ "ID": platform.to_string(), "Platform": platform }));
        }
        if is_index {
            let list = serde_json::json!({ "Platforms": listed }).to_string();
            metadata.insert("refs.platforms".to_owned(), list.into());
        }
        let result = match is_index {
            true => {
                let names = trees.iter().map(|tree| tree.platform.to_string());
                result::Result::Refs(gateway::RefMap { refs: names.zip(refs).collect() })
            }
            false => result::Result::Ref(refs.into_iter().next().unwrap_or_default()),
        };
        Ok(gateway::Result { result: Some(result), metadata })
    }
}
