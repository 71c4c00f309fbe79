//! Lists: the tags of a repository, and what refers to a manifest.
//!
//! In: a repository. Out: lists, page by page put together, with bounds on their pages and entries. A next page is on the
//! same registry or nowhere. Source: OCI distribution-spec, "Listing tags", "Listing referrers" and its tag schema.

use rb_oci::index::JSON_LIMIT_BYTES;
use rb_oci::{Descriptor, Digest, ImageIndex, Repository};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Url};

use crate::endpoint::Endpoint;
use crate::error::clean;
use crate::registry::pull_scope;
use crate::transport::{Ask, read_bounded};
use crate::{Registry, RegistryError};

const PAGES: usize = 200;
const ENTRIES: usize = 200_000;

impl Registry {
    /// Returns the tags of a repository, in the registry's order.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let name = format!("tags of {repository}");
        let pages: Vec<Page> = self.pages(repository, "tags/list?n=1000", &name).await?;
        Ok(pages.into_iter().flat_map(|page| page.tags.unwrap_or_default()).collect())
    }

    /// Returns the manifests that have the one with `digest` as their subject: signatures, attestations. Where the
    /// registry keeps no such list, the tag that other clients keep instead is read.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let name = format!("referrers of {repository}@{digest}");
        match self.pages::<ImageIndex>(repository, &format!("referrers/{digest}"), &name).await {
            Ok(pages) => return Ok(pages.iter().flat_map(|page| page.manifests().clone()).collect()),
            // Registries that do not know the question answer in several ways.
            Err(RegistryError::NotFound { .. } | RegistryError::Refused { status: 400 | 405 | 501, .. }) => {}
            Err(error) => return Err(error),
        }
        let tag = format!("sha256-{}", digest.hex());
        match self.document(repository, &tag, None, None, &format!("{repository}:{tag}")).await {
            Ok(found) => serde_json::from_slice::<ImageIndex>(&found.bytes)
                .map(|index| index.manifests().clone())
                .map_err(|error| RegistryError::content(repository.host(), name, clean(&error.to_string()))),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn pages<T: serde::de::DeserializeOwned>(
        &self,
        repository: &Repository,
        rest: &str,
        name: &str,
    ) -> Result<Vec<T>, RegistryError> {
        let endpoint = self.origin(repository);
        let refused = |reason: &str| RegistryError::content(&endpoint.name, name, reason);
        let transport = self.transport(&endpoint).await?;
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut url = transport.url(repository, path);
        url.set_query(query);
        let mut pages = Vec::new();
        let mut bytes = 0;
        loop {
            let (page, next) = self.page(&endpoint, repository, &url, name).await?;
            bytes += page.len();
            // No entry is shorter than that.
            if pages.len() >= PAGES || bytes > ENTRIES * 100 {
                return Err(refused("the list does not end"));
            }
            pages.push(serde_json::from_slice(&page).map_err(|error| refused(&clean(&error.to_string())))?);
            let Some(next) = next else { return Ok(pages) };
            let next = url.join(&next).map_err(|_| refused("its next page has no URL"))?;
            if next.origin() != url.origin() {
                return Err(refused("its next page is on another host"));
            }
            if next == url {
                return Err(refused("its next page is itself"));
            }
            url = next;
        }
    }

    async fn page(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        url: &Url,
        name: &str,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let mut tries = self.tries(endpoint);
        let scopes = [pull_scope(endpoint, repository)];
        loop {
            let get = async {
                let transport = self.transport(endpoint).await?;
                let accepted =
                    HeaderValue::from_static("application/json, application/vnd.oci.image.index.v1+json");
                let headers = HeaderMap::from_iter([(ACCEPT, accepted)]);
                let ask = Ask { scopes: &scopes, headers, ..Ask::new(Method::GET, url.clone(), name) };
                let response = transport.send(ask).await?;
                let response = transport.expected(response, &Method::GET, url, name, &[200]).await?;
                let next = next_page(response.headers());
                let limits = &self.limits;
                Ok((read_bounded(response, JSON_LIMIT_BYTES, limits, &endpoint.name, name).await?, next))
            };
            match get.await {
                Ok(page) => return Ok(page),
                Err(error) => tries.pause(error).await?,
            }
        }
    }
}

/// Reads `Link: </v2/…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok()).find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let rest = rest.to_ascii_lowercase().replace([' ', '"'], "");
        rest.split(';').any(|parameter| parameter == "rel=next").then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        let next =
            |text: &'static str| next_page(&HeaderMap::from_iter([(LINK, HeaderValue::from_static(text))]));
        assert_eq!(
            next(r#"</v2/x/tags/list?n=1&last=a>; rel="next""#).as_deref(),
            Some("/v2/x/tags/list?n=1&last=a")
        );
        assert_eq!(next("<x>;REL=next").as_deref(), Some("x"));
        assert_eq!(next(r#"<x>; rel="prev""#), None);
        assert_eq!(next("x; rel=next"), None);
    }
}
