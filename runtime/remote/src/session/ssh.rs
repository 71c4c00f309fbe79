//! Agents of the client: whoever is connected may list the keys and sign with them, and nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use rb_session::{DEFAULT_SSH, SshAgent};
use rb_wire::ssh::ssh_server::Ssh;
use rb_wire::ssh::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{Fed, values};

/// Answers for agents.
pub(super) struct Agents {
    pub(super) session: Arc<dyn rb_session::Session>,
    pub(super) scratch: PathBuf,
}

impl Agents {
    fn find(&self, id: &str) -> Result<SshAgent, Status> {
        let id = if id.is_empty() { DEFAULT_SSH } else { id };
        self.session.ssh(id).ok_or_else(|| Status::not_found(format!("no ssh agent is lent as `{id}`")))
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.find(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = Fed<BytesMessage>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Fed<BytesMessage>>, Status> {
        let id = values(request.metadata(), "buildkit.ssh.id")?.into_iter().next().unwrap_or_default();
        let agent = self.find(&id)?;
        let failed =
            |error: std::io::Error| Status::unavailable(format!("the agent cannot be lent: {error}"));
        let folder = tempfile::Builder::new().prefix("agent-").tempdir_in(&self.scratch).map_err(failed)?;
        let socket = folder.path().join("s");
        // The agent's own threads answer there, and close it when it is dropped.
        let lent = agent.listen(&socket).map_err(failed)?;
        let stream = UnixStream::connect(&socket).await.map_err(failed)?;
        let mut incoming = request.into_inner();
        let (answer, answers) = mpsc::channel(8);
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let forth = async {
                while let Ok(Some(message)) = incoming.message().await {
                    if writer.write_all(&message.data).await.is_err() {
                        return;
                    }
                }
            };
            let back = async {
                let mut piece = vec![0; 32 << 10];
                while let Ok(length @ 1..) = reader.read(&mut piece).await {
                    let data = bytes::Bytes::copy_from_slice(&piece[..length]);
                    if answer.send(Ok(BytesMessage { data })).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = forth => {}
                () = back => {}
            }
            // Closing waits for the agent's thread.
            tokio::task::spawn_blocking(move || drop((lent, folder))).await.ok();
        });
        Ok(Response::new(Fed::new(answers)))
    }
}
