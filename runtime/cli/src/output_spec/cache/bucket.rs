//! Fields of caches in buckets: `type=gha`, `type=s3` and `type=azblob`, as BuildKit's README has them.
//!
//! In: fields, and the variables that stand for some of them; what is typed comes first. Out: a place with its keys. Profiles of
//! `~/.aws` stand for variables ([`super::aws`]); services that hold such keys (roles of machines) are not asked.
//! **Invariant:** a token or account's key of the environment goes to no address that a value names, unless that is the service's own: a
//! bake file may come from a stranger. (S3's key proves one request each, and is sent nowhere.)

use std::sync::Arc;
use std::time::Duration;

use rb_api::CachePlace;
use rb_session::{ActionsCache, AzureContainer, AzureKey, Bucket, ObjectNames, S3Bucket, Secret};

use super::super::fields::{Fields, value_error};
use super::{CacheSpecError, Variables};

/// Where GitHub's and Azure's own services are.
const GITHUB: &str = ".actions.githubusercontent.com";
const AZURE: [&str; 3] =
    [".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"];
/// What a cache is called where nothing is said. BuildKit's has another name, so that neither takes the place of the other.
const NAME: &str = "rb";

pub(super) fn read(fields: &mut Fields, variables: Variables<'_>) -> Result<CachePlace, CacheSpecError> {
    let given = Given { fields, variables };
    Ok(CachePlace::Bucket(Arc::new(match given.fields.kind() {
        "gha" => Bucket::Actions(given.actions()?),
        "s3" => Bucket::S3(given.s3()?),
        _ => Bucket::Azure(given.azure()?),
    })))
}

struct Given<'a> {
    fields: &'a mut Fields,
    variables: Variables<'a>,
}

impl Given<'_> {
    /// Takes a field that says something.
    fn take(&mut self, key: &'static str) -> Option<String> {
        self.fields.take(key).filter(|value| !value.is_empty())
    }

    /// Takes a field for which a variable may stand.
    fn or(&mut self, key: &'static str, variable: &'static str) -> Option<String> {
        self.take(key).or_else(|| (self.variables)(variable))
    }

    /// The same, of one that has to be said.
    fn need(
        &mut self,
        kind: &'static str,
        key: &'static str,
        variable: &'static str,
    ) -> Result<String, CacheSpecError> {
        self.or(key, variable).ok_or(CacheSpecError::Unsaid { kind, key, variable })
    }

    fn duration(&mut self, key: &'static str, otherwise: Duration) -> Result<Duration, CacheSpecError> {
        let Some(text) = self.take(key) else { return Ok(otherwise) };
        let read = humantime::parse_duration(&text).ok().filter(|duration| !duration.is_zero());
        Ok(read.ok_or_else(|| value_error(key, text, "a time, such as 10m"))?)
    }

    fn objects(&mut self, prefix: Option<String>, blobs: &str, manifests: &str) -> ObjectNames {
        let names = self.take("name").unwrap_or_default();
        let names = names.split(';').map(str::trim).filter(|name| !name.is_empty());
        let mut names: Vec<String> = names.map(ToOwned::to_owned).collect();
        if names.is_empty() {
            names.push(NAME.to_owned());
        }
        // That they are empty is something that is said.
        let mut prefix_of =
            |key, otherwise: &str| self.fields.take(key).unwrap_or_else(|| otherwise.to_owned());
        let blobs_prefix = prefix_of("blobs_prefix", blobs);
        let manifests_prefix = prefix_of("manifests_prefix", manifests);
        ObjectNames { names, prefix: prefix.unwrap_or_default(), blobs_prefix, manifests_prefix }
    }

    fn actions(mut self) -> Result<ActionsCache, CacheSpecError> {
        let version = self.take("version");
        match version.as_deref() {
            None | Some("2") => {}
            Some("1") => return Err(CacheSpecError::ActionsVersion { said: "version=1" }),
            Some(other) => return Err(value_error("version", other.to_owned(), "2").into()),
        }
        let old = self.take("url");
        let url = match (self.take("url_v2"), old, version) {
            (Some(url), _, _) | (None, Some(url), Some(_)) => Some(url),
            (None, Some(_), None) => {
                return Err(CacheSpecError::ActionsVersion { said: "url= without version=2" });
            }
            (None, None, _) => {
                let is_off = |value: &String| matches!(value.to_lowercase().as_str(), "false" | "0");
                if (self.variables)("ACTIONS_CACHE_SERVICE_V2").as_ref().is_some_and(is_off) {
                    return Err(CacheSpecError::ActionsVersion { said: "ACTIONS_CACHE_SERVICE_V2=false" });
                }
                (self.variables)("ACTIONS_RESULTS_URL")
            }
        };
        let (kind, variable) = ("gha", "ACTIONS_RESULTS_URL");
        let url = url.ok_or(CacheSpecError::Unsaid { kind, key: "url_v2", variable })?;
        let (key, variable) = ("token", "ACTIONS_RUNTIME_TOKEN");
        let token = match self.take(key) {
            Some(token) => token,
            None => {
                let token = (self.variables)(variable);
                let token = token.ok_or(CacheSpecError::Unsaid { kind, key, variable })?;
                let is_own = https_host(&url).is_some_and(|host| host.ends_with(GITHUB));
                if !is_own && (self.variables)("ACTIONS_RESULTS_URL").as_ref() != Some(&url) {
                    return Err(CacheSpecError::Elsewhere { kind, key, variable });
                }
                token
            }
        };
        // With those BuildKit asks for all keys at once; what is there is asked for one by one here.
        self.take("ghtoken");
        self.take("repository");
        Ok(ActionsCache {
            url,
            token: Secret::new(token),
            scope: self.take("scope").unwrap_or_else(|| "buildkit".to_owned()),
            timeout: self.duration("timeout", Duration::from_secs(600))?,
        })
    }

    fn s3(mut self) -> Result<S3Bucket, CacheSpecError> {
        let kind = "s3";
        let bucket = self.need(kind, "bucket", "AWS_BUCKET")?;
        let region = self.need(kind, "region", "AWS_REGION")?;
        let prefix = self.take("prefix");
        let objects = self.objects(prefix, "blobs/", "manifests/");
        let parallelism = match self.take("upload_parallelism") {
            None => 4,
            Some(text) => match text.parse() {
                Ok(number @ 1..=64) => number,
                _ => return Err(value_error("upload_parallelism", text, "a number from 1 to 64").into()),
            },
        };
        // What is said of a key here is not mixed with what is said of another there.
        let typed = self.take("access_key_id");
        let session_token = self.take("session_token");
        let (access_key_id, secret, session_token) = match typed {
            Some(id) => {
                let secret = self.take("secret_access_key");
                (id, secret.ok_or_else(|| self.fields.missing("secret_access_key"))?, session_token)
            }
            None => {
                let id = (self.variables)("AWS_ACCESS_KEY_ID");
                let (key, variable) = ("access_key_id", "AWS_ACCESS_KEY_ID");
                let id = id.ok_or(CacheSpecError::Unsaid { kind, key, variable })?;
                let secret = self.need(kind, "secret_access_key", "AWS_SECRET_ACCESS_KEY")?;
                (id, secret, session_token.or_else(|| (self.variables)("AWS_SESSION_TOKEN")))
            }
        };
        // How often something is tried is `--retry`; how answers are compressed has no say here.
        for key in ["retry_mode", "retry_max_attempts", "disable_accept_encoding"] {
            self.take(key);
        }
        Ok(S3Bucket {
            bucket,
            region,
            endpoint_url: self.or("endpoint_url", "AWS_ENDPOINT_URL_S3"),
            path_style: self.fields.flag("use_path_style")?.unwrap_or(false),
            objects,
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: session_token.map(Secret::new),
            parallelism,
            touch_refresh: self.duration("touch_refresh", Duration::from_secs(24 * 3600))?,
        })
    }

    fn azure(mut self) -> Result<AzureContainer, CacheSpecError> {
        let kind = "azblob";
        let name = self.or("account_name", "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME");
        let url = self.or("account_url", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
        let url = url.or_else(|| Some(format!("https://{}.blob.core.windows.net", name.as_deref()?)));
        let (key, variable) = ("account_url", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
        let url = url.ok_or(CacheSpecError::Unsaid { kind, key, variable })?;
        let (account_url, query) = match url.split_once('?') {
            Some((url, query)) => (url.to_owned(), Some(query.to_owned()).filter(|query| !query.is_empty())),
            None => (url, None),
        };
        let host = account_url.split_once("://").map_or("", |(_, rest)| rest);
        let first = host.split(['.', '/', ':']).next().unwrap_or_default().to_owned();
        let shared = self.take("secret_access_key");
        // A signature is for the account, whoever is shown it.
        let is_own = |given: &Self, url: &str, account: &str| {
            let known = (given.variables)("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
            let is_known = known.is_some_and(|known| known.split('?').next() == Some(url));
            let host = https_host(url).unwrap_or_default();
            is_known || AZURE.iter().any(|suffix| host.strip_suffix(suffix) == Some(account))
        };
        let has_variable = ["AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"]
            .iter()
            .any(|name| (self.variables)(name).is_some());
        let key = match (shared, query) {
            (Some(key), _) => AzureKey::Shared(Secret::new(key)),
            (None, Some(query)) => AzureKey::Signature(Secret::new(query)),
            (None, None)
                if has_variable && !is_own(&self, &account_url, name.as_deref().unwrap_or(&first)) =>
            {
                let (key, variable) = ("secret_access_key", "AZURE_STORAGE_KEY");
                return Err(CacheSpecError::Elsewhere { kind, key, variable });
            }
            (None, None) => {
                match ((self.variables)("AZURE_STORAGE_KEY"), (self.variables)("AZURE_STORAGE_SAS_TOKEN")) {
                    (Some(key), _) => AzureKey::Shared(Secret::new(key)),
                    (None, Some(query)) => AzureKey::Signature(Secret::new(query.trim_start_matches('?'))),
                    (None, None) => return Err(CacheSpecError::AzureKey),
                }
            }
        };
        let prefix = self.or("prefix", "BUILDKIT_AZURE_STORAGE_PREFIX");
        let container = self.or("container", "BUILDKIT_AZURE_STORAGE_CONTAINER");
        Ok(AzureContainer {
            account_url,
            account: name.unwrap_or(first),
            container: container.unwrap_or_else(|| "buildkit-cache".to_owned()),
            objects: self.objects(prefix, "blobs", "manifests"),
            key,
        })
    }
}

/// Returns the host of an address that is reached by TLS.
fn https_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    let host = rest.split(['/', '?', '#', '\\']).next()?;
    (!host.contains(['@', ':'])).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{read_from, read_to, without_secrets};
    use super::*;

    fn place(text: &str, variables: &[(&str, &str)]) -> Result<Bucket, String> {
        let find = |name: &'static str| {
            variables.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        match read_from(text, Path::new("/w"), &find) {
            Ok(CachePlace::Bucket(bucket)) => Ok((*bucket).clone()),
            Ok(other) => panic!("{other} is no bucket"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn fields_come_before_variables() {
        let variables = [
            ("AWS_REGION", "eu-1"),
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "t"),
        ];
        let text =
            "type=s3,bucket=b,region=us-1,name=main;other,prefix=p/,use_path_style=true,upload_parallelism=2";
        let Ok(Bucket::S3(found)) = place(text, &variables) else { panic!("it reads") };
        assert_eq!(
            (found.region.as_str(), found.access_key_id.as_str(), found.parallelism),
            ("us-1", "A", 2)
        );
        assert_eq!(found.objects.names, ["main", "other"]);
        assert!(found.path_style && found.session_token == Some(Secret::new("t")));
        // Another's key does not get our token.
        let text = "type=s3,bucket=b,access_key_id=B,secret_access_key=x,blobs_prefix=";
        let Ok(Bucket::S3(found)) = place(text, &variables) else { panic!("it reads") };
        assert_eq!((found.access_key_id.as_str(), found.session_token), ("B", None));
        assert_eq!((found.objects.blobs_prefix.as_str(), found.objects.names[0].as_str()), ("", "rb"));
        let variables = [("ACTIONS_RESULTS_URL", "https://r.example/"), ("ACTIONS_RUNTIME_TOKEN", "t")];
        let Ok(Bucket::Actions(found)) = place("type=gha,scope=main,mode=max", &variables) else {
            panic!("it reads")
        };
        assert_eq!((found.url.as_str(), found.scope.as_str()), ("https://r.example/", "main"));
        let variables = [("AZURE_STORAGE_KEY", "aw==")];
        let text = "type=azblob,account_url=https://me.blob.core.windows.net,name=a";
        let Ok(Bucket::Azure(found)) = place(text, &variables) else { panic!("it reads") };
        assert_eq!((found.account.as_str(), found.container.as_str()), ("me", "buildkit-cache"));
        let Ok(Bucket::Azure(found)) =
            place("type=azblob,account_url=https://me.example/?sig=s3cr3t", &variables)
        else {
            panic!("it reads")
        };
        assert_eq!(found.key, AzureKey::Signature(Secret::new("sig=s3cr3t")));
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_lacks_or_is_wrong_is_told_by_name() {
        for (text, variables, said) in [
            ("type=gha", &[][..], "type=gha needs url_v2=…, or ACTIONS_RESULTS_URL"),
            ("type=gha,url_v2=https://r.example", &[], "type=gha needs token=…"),
            ("type=gha,version=1,token=t", &[], "version=1 is version 1"),
            ("type=gha,url=https://c.example,token=t", &[], "url= without version=2"),
            ("type=gha,token=t", &[("ACTIONS_CACHE_SERVICE_V2", "false")], "ACTIONS_CACHE_SERVICE_V2=false"),
            (
                "type=gha,url_v2=https://r.example,token=t,timeout=soon",
                &[],
                "`timeout=soon`: expected a time",
            ),
            (
                "type=gha,url_v2=https://evil.example",
                &[("ACTIONS_RUNTIME_TOKEN", "t"), ("ACTIONS_RESULTS_URL", "https://r.example")],
                "for another, type token=",
            ),
            (
                "type=gha,url_v2=https://evil.example/.actions.githubusercontent.com",
                &[("ACTIONS_RUNTIME_TOKEN", "t")],
                "for another, type token=",
            ),
            (
                "type=azblob,account_url=https://evil.example,account_name=me",
                &[("AZURE_STORAGE_KEY", "aw==")],
                "for another, type secret_access_key=",
            ),
            (
                "type=azblob,account_url=https://evil.blob.core.windows.net,account_name=me",
                &[("AZURE_STORAGE_KEY", "aw==")],
                "for another, type secret_access_key=",
            ),
            ("type=s3", &[], "type=s3 needs bucket=…, or AWS_BUCKET"),
            ("type=s3,bucket=b", &[], "type=s3 needs region=…"),
            ("type=s3,bucket=b,region=r", &[], "type=s3 needs access_key_id=…"),
            ("type=s3,bucket=b,region=r,access_key_id=a", &[], "type=s3 needs secret_access_key=…"),
            (
                "type=s3,bucket=b,region=r,access_key_id=a,secret_access_key=x,upload_parallelism=0",
                &[],
                "upload_parallelism=0",
            ),
            ("type=azblob", &[], "type=azblob needs account_url=…"),
            ("type=azblob,account_url=https://a.example", &[], "secret_access_key=…, AZURE_STORAGE_KEY"),
            (
                "type=azblob,account_url=https://a.example,secret_access_key=x,contaner=c",
                &[],
                "did you mean `container`?",
            ),
        ] {
            let error = place(text, variables).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let to = read_to(
            "type=s3,bucket=b,region=r,access_key_id=a,secret_access_key=x,mode=max,ignore-error=true",
            Path::new("/w"),
            &|_| None,
        );
        assert!(to.is_ok_and(|(export, _)| export.ignore_error));
    }

    #[test]
    fn no_secret_is_left_of_a_value() {
        let text =
            "type=s3,bucket=b,access_key_id=a,secret_access_key=hunter2,SESSION_TOKEN=hunter2,name=x;y";
        assert_eq!(without_secrets(text), "type=s3,bucket=b,access_key_id=a,name=x;y");
        assert_eq!(
            without_secrets("type=s3,secret_acces_key=hunter2,SECRET=hunter2,name=n"),
            "type=s3,name=n"
        );
        assert_eq!(without_secrets("type=gha,token=hunter2,ghtoken=hunter2,scope=m"), "type=gha,scope=m");
        assert_eq!(
            without_secrets("type=azblob,account_url=https://a.example/?sig=hunter2,name=n"),
            "type=azblob,account_url=https://a.example/,name=n"
        );
        assert_eq!(without_secrets("\"type=local\",\"src=/a,b\""), "type=local,\"src=/a,b\"");
        assert_eq!(without_secrets("me/app:1"), "me/app:1");
    }
}
