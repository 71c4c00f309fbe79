//! Small things that a client gives: secrets, credentials, a sign of life.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_registry::{Credential, Credentials};
use rb_wire::filesync::auth_server::Auth;
use rb_wire::filesync::{CredentialsRequest, CredentialsResponse};
use rb_wire::health::health_check_response::ServingStatus;
use rb_wire::health::health_server::Health;
use rb_wire::health::{HealthCheckRequest, HealthCheckResponse};
use rb_wire::secrets::secrets_server::Secrets;
use rb_wire::secrets::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

/// What BuildKit calls the registry of Docker Hub, and what people do.
const HUB: (&str, &str) = ("registry-1.docker.io", "docker.io");

/// Prefix of the secrets in which a git source looks for a login; the host follows.
const GIT_HEADER: &str = "GIT_AUTH_HEADER.";

/// Answers for them.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) session: Arc<dyn rb_session::Session>,
    pub(super) credentials: Arc<dyn Credentials>,
}

#[tonic::async_trait]
impl Secrets for Given {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let secret = self.session.secret(&id).map(|secret| secret.as_ref().to_vec());
        // The login of a host of repositories is lent as git's own header, and as no other secret is.
        let login = || {
            let origin = format!("https://{}/", id.strip_prefix(GIT_HEADER)?);
            let login = self.session.git_access(&origin).login?;
            Some(format!("basic {}", STANDARD.encode(login.as_ref())).into_bytes())
        };
        match secret.or_else(login) {
            Some(data) => Ok(Response::new(GetSecretResponse { data: data.into() })),
            None => Err(Status::not_found(format!("no secret is lent as `{id}`"))),
        }
    }
}

#[tonic::async_trait]
impl Auth for Given {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let host = if host == HUB.0 { HUB.1 } else { &host };
        let found = self.credentials.get(host).await;
        let found = found.map_err(|error| Status::failed_precondition(rb_diag::chain(&error)))?;
        let text = |secret: &rb_session::Secret| {
            let text = String::from_utf8(secret.as_ref().to_vec());
            text.map_err(|_| Status::failed_precondition(format!("the password for {host} is no UTF-8")))
        };
        Ok(Response::new(match found {
            None => CredentialsResponse::default(),
            Some(Credential::Password { user, password }) => {
                CredentialsResponse { username: user, secret: text(&password)? }
            }
            // Without a name it is a token to be exchanged.
            Some(Credential::IdentityToken(token)) => {
                CredentialsResponse { username: String::new(), secret: text(&token)? }
            }
            Some(Credential::RegistryToken(_)) => {
                let reason = format!("what is known for {host} is a token that only this machine can use");
                return Err(Status::failed_precondition(reason));
            }
        }))
    }
}

#[tonic::async_trait]
impl Health for Given {
    async fn check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }
}

#[cfg(test)]
mod tests {
    use rb_registry::CredentialError;
    use rb_session::{GitAccess, LocalSession, Secret};

    use super::*;

    struct Known;

    #[tonic::async_trait]
    impl Credentials for Known {
        async fn get(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
            Ok((host == "docker.io")
                .then(|| Credential::Password { user: "me".into(), password: Secret::new("hunter2") }))
        }
    }

    #[tokio::test]
    async fn only_what_is_lent_is_given() {
        let access = GitAccess { login: Some(Secret::new("me:pass")), ssh_command: None };
        let session = LocalSession::default()
            .with_secret("token", Secret::new("t"))
            .with_git_access("https://git.example.com/", access);
        let given = Given { session: Arc::new(session), credentials: Arc::new(Known) };
        let secret = async |id: &str| {
            let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
            given.get_secret(Request::new(request)).await.map(|response| response.into_inner().data)
        };
        assert_eq!(secret("token").await.expect("lent"), "t");
        assert_eq!(secret("GIT_AUTH_HEADER.git.example.com").await.expect("lent"), "basic bWU6cGFzcw==");
        for id in ["other", "GIT_AUTH_HEADER.example.com", "GIT_AUTH_HEADER.git.example.com/", ""] {
            assert_eq!(secret(id).await.expect_err(id).code(), tonic::Code::NotFound);
        }
        let login = async |host: &str| {
            let request = CredentialsRequest { host: host.to_owned() };
            let answer = given.credentials(Request::new(request)).await.expect("answers").into_inner();
            (answer.username, answer.secret)
        };
        assert_eq!(login("registry-1.docker.io").await, ("me".to_owned(), "hunter2".to_owned()));
        assert_eq!(login("example.com").await, (String::new(), String::new()));
    }
}
