//! Showing a registry who asks: passwords, and tokens from its token service.
//!
//! In: challenges, scopes and what [`Credentials`] know. Out: the `Authorization` of a request. Tokens are kept per set
//! of scopes until shortly before they expire; while one is fetched, others that need one wait for it.
//! **Invariant:** credentials go to the registry they are for and to the token service it names, never over plain HTTP
//! when the registry itself speaks TLS, and never along with a redirect.
//! Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_session::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::challenge::Challenge;
use crate::transport::{Ask, Transport, read_bounded};
use crate::{Credential, RegistryError};

/// What is known about showing an endpoint who asks.
#[derive(Default)]
pub(crate) struct Auth {
    state: Mutex<State>,
    credential: OnceCell<Option<Credential>>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    tokens: BTreeMap<String, Token>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Tokens that say nothing live so long; also the least that is believed. Source: the token specification.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds, when it may expire on the way.
const TOKEN_REST: Duration = Duration::from_secs(10);
const TOKEN_ANSWER_LIMIT_BYTES: u64 = 256 << 10;
/// Token sets that are kept; a build asks for few.
const TOKENS: usize = 1000;

impl Transport<'_> {
    /// Returns what to send along with a request for `scopes`, as far as that is known before the registry asks.
    pub(crate) async fn authorization(
        &self,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut state = self.endpoint.auth.state.lock().await;
        match state.challenge.clone() {
            None => match self.credential().await? {
                // Nobody needs to be asked for this one.
                Some(Credential::RegistryToken(token)) => {
                    bearer(&self.endpoint.name, token.as_ref()).map(Some)
                }
                _ => Ok(None),
            },
            Some(challenge) => self.answer(&mut state, &challenge, scopes).await,
        }
    }

    /// Answers a challenge; `refused` is what was sent before. `None` where nothing better is known.
    pub(crate) async fn challenged(
        &self,
        challenge: Challenge,
        scopes: &[String],
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let mut state = self.endpoint.auth.state.lock().await;
        let key = scopes.join(" ");
        if refused.is_some() && state.tokens.get(&key).map(|token| &token.header) == refused {
            state.tokens.remove(&key);
        }
        let answer = self.answer(&mut state, &challenge, scopes).await?;
        state.challenge = Some(challenge);
        Ok(answer.filter(|answer| Some(answer) != refused))
    }

    async fn answer(
        &self,
        state: &mut State,
        challenge: &Challenge,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credential = self.credential().await?;
        if let Some(Credential::RegistryToken(token)) = credential {
            return bearer(&self.endpoint.name, token.as_ref()).map(Some);
        }
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                let Some(Credential::Password { user, password }) = credential else { return Ok(None) };
                return basic(&self.endpoint.name, user, password).map(Some);
            }
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let key = scopes.join(" ");
        let now = Instant::now();
        state.tokens.retain(|_, token| token.until > now);
        if let Some(token) = state.tokens.get(&key) {
            return Ok(Some(token.header.clone()));
        }
        let mut wanted = scopes.to_vec();
        // What the registry names beyond that, it needs for reasons of its own.
        wanted.extend(
            scope
                .iter()
                .flat_map(|scope| scope.split(' '))
                .filter(|scope| !scope.is_empty())
                .map(ToOwned::to_owned),
        );
        wanted.sort();
        wanted.dedup();
        let token = self.fetch_token(realm, service.as_deref(), &wanted, credential.as_ref()).await?;
        let header = token.header.clone();
        if state.tokens.len() < TOKENS {
            state.tokens.insert(key, token);
        }
        Ok(Some(header))
    }

    async fn credential(&self) -> Result<&Option<Credential>, RegistryError> {
        let look_up = || async { Ok(self.credentials.get(&self.endpoint.name).await?) };
        self.endpoint.auth.credential.get_or_try_init(look_up).await
    }

    /// Whether we have nothing to show.
    pub(crate) fn is_anonymous(&self) -> bool {
        !matches!(self.endpoint.auth.credential.get(), Some(Some(_)))
    }

    async fn fetch_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Token, RegistryError> {
        let realm = self.check_realm(realm)?;
        if let Some(Credential::IdentityToken(token)) = credential {
            match self.post_for_token(&realm, service, scopes, token).await {
                // Some services know the older way alone.
                Err(RegistryError::NotFound { .. } | RegistryError::Refused { status: 405, .. }) => {}
                other => return other,
            }
        }
        let mut url = realm;
        let mut headers = HeaderMap::new();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            if let Some(Credential::Password { user, .. }) = credential {
                query.append_pair("account", user);
            }
        }
        let shown = match credential {
            Some(Credential::Password { user, password }) => {
                Some(basic(&self.endpoint.name, user, password)?)
            }
            Some(Credential::IdentityToken(token)) => Some(basic(&self.endpoint.name, "<token>", token)?),
            Some(Credential::RegistryToken(_)) | None => None,
        };
        shown.into_iter().for_each(|shown| drop(headers.insert(AUTHORIZATION, shown)));
        let ask = Ask { headers, ..Ask::new(Method::GET, url, "its token") };
        self.read_token(&ask, None).await
    }

    /// Trades a refresh token for an access token (OAuth2).
    async fn post_for_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        refresh: &Secret,
    ) -> Result<Token, RegistryError> {
        let refresh =
            std::str::from_utf8(refresh.as_ref()).map_err(|_| self.bad_secret("its identity token"))?;
        // A URL's query and a form are written alike.
        let mut form = Url::parse("http://form/").expect("a URL");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", "rb")
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", refresh);
        let body = form.query().unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let ask = Ask { headers, ..Ask::new(Method::POST, realm.clone(), "its token") };
        self.read_token(&ask, Some(body)).await
    }

    async fn read_token(&self, ask: &Ask<'_>, body: Option<String>) -> Result<Token, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<f64>,
        }
        let asked = Instant::now();
        let host = ask.url.host_str().unwrap_or_default().to_owned();
        let response = self.execute_once(ask, None, body).await?;
        if response.status().is_redirection() {
            return Err(RegistryError::misled(
                &host,
                "redirects who asks for a token, which could give a password away",
            ));
        }
        let response = self.expect(response, ask, &[200]).await.map_err(|error| match error {
            // The words of the service, under the name of the registry that people log in to.
            RegistryError::Denied { said, .. } => self.unauthorized(ask.name, said),
            other => other,
        })?;
        let bytes = Zeroizing::new(
            read_bounded(response, TOKEN_ANSWER_LIMIT_BYTES, self.limits(), &host, "token").await?,
        );
        let wrong = |reason: &str| RegistryError::content(&host, "token", reason);
        let answer: Answer =
            serde_json::from_slice(&bytes).map_err(|_| wrong("it is not the JSON of a token service"))?;
        let named = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = Zeroizing::new(named.ok_or_else(|| wrong("it is missing in the answer"))?);
        let life = answer
            .expires_in
            .filter(|life| life.is_finite() && *life >= 0.0)
            .map_or(TOKEN_LIFE, |life| Duration::from_secs_f64(life.min(86_400.0)).max(TOKEN_LIFE));
        Ok(Token { header: bearer(&host, token.as_bytes())?, until: asked + life - TOKEN_REST })
    }

    /// Refuses token services that a stranger could read along with.
    fn check_realm(&self, realm: &Url) -> Result<Url, RegistryError> {
        let misled = |reason: String| Err(RegistryError::misled(&self.endpoint.name, reason));
        let host = realm.host_str().unwrap_or_default();
        match realm.scheme() {
            "https" => {}
            "http" if self.base.scheme() == "http" => {}
            "http" => {
                return misled(format!(
                    "names a token service on plain HTTP, `{host}`, which could give a password away"
                ));
            }
            other => return misled(format!("names a token service that speaks `{other}`")),
        }
        if !realm.username().is_empty() || realm.password().is_some() {
            return misled("names a token service with a password in its URL".to_owned());
        }
        let mut realm = realm.clone();
        realm.set_fragment(None);
        Ok(realm)
    }

    fn bad_secret(&self, what: &str) -> RegistryError {
        RegistryError::Options {
            option: format!("credentials for {}", self.endpoint.name),
            reason: format!("{what} is no text"),
        }
    }
}

fn basic(host: &str, user: &str, password: &Secret) -> Result<HeaderValue, RegistryError> {
    let mut pair = Zeroizing::new(format!("{user}:").into_bytes());
    pair.extend_from_slice(password.as_ref());
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_slice())));
    sensitive(host, text.as_bytes())
}

fn bearer(host: &str, token: &[u8]) -> Result<HeaderValue, RegistryError> {
    let mut text = Zeroizing::new(b"Bearer ".to_vec());
    text.extend_from_slice(token);
    sensitive(host, &text)
}

fn sensitive(host: &str, bytes: &[u8]) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::from_bytes(bytes)
        .map_err(|_| RegistryError::content(host, "token", "it has characters that no header may have"))?;
    header.set_sensitive(true);
    Ok(header)
}

impl Transport<'_> {
    /// Makes the error of one who is not known well enough.
    pub(crate) fn unauthorized(&self, name: &str, said: String) -> RegistryError {
        let (host, name) = (self.endpoint.name.clone(), name.to_owned());
        RegistryError::Unauthorized { host, name, said, anonymous: self.is_anonymous() }
    }
}
