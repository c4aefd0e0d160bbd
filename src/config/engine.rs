//! `remote:` of the configuration: the user's own engine, and the git repository by which work goes there and comes
//! back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde::de::Deserializer;

use super::scalar::{self, scalar};
use super::url::UrlError;
use super::{ApiKey, ServerUrl, key, value};
use crate::environment::Environment;

/// The engine that tasks of the provider `remote` go to.
#[derive(Clone)]
pub(crate) struct RemoteEngine {
    pub url: ServerUrl,
    /// The token, where the engine asks for one.
    pub token: Option<ApiKey>,
    /// See [`ServerUrl::proxy`]; it may hold a password.
    pub proxy: Option<String>,
    pub(crate) exchange: ExchangeAt,
    /// The agent's program and its arguments, as the worker finds them; the prompt is its standard input.
    pub(crate) agent: Vec<String>,
    /// How much of a node's resources a job takes, by the engine's names for them.
    pub(crate) resources: BTreeMap<String, f64>,
    pub(crate) dirty: Uncommitted,
    /// Whether the worker fetches the files that LFS keeps, with its own credentials.
    pub(crate) lfs: bool,
    /// Whether the worker fetches the submodules, with its own credentials.
    pub(crate) submodules: bool,
}

/// Does not show the proxy, which may hold a password.
impl fmt::Debug for RemoteEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteEngine")
            .field("url", &self.url)
            .field("token", &self.token)
            .field("exchange", &self.exchange)
            .field("agent", &self.agent)
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

/// The bare repository that this machine and the workers reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExchangeAt {
    /// An address as git takes it.
    Url(String),
    /// A remote of the project's own, such as `origin`.
    RemoteOfProject(String),
}

impl ExchangeAt {
    fn parse(text: &str) -> Result<Self, String> {
        let text = scalar::name(text)?.trim().to_owned();
        // Git would take it for an option.
        if text.starts_with('-') {
            return Err(format!("`{text}` is no address that git takes"));
        }
        if has_password(&text) {
            return Err(
                "has a password in it, which every worker and the engine's page would show: \
                        let git ask its credential helper, or use ssh"
                    .to_owned(),
            );
        }
        match text.starts_with('/') || text.contains(':') {
            true => Ok(Self::Url(text)),
            false if text.contains('/') || text.starts_with('~') => Err(format!(
                "`{text}` is neither a remote's name, such as origin, nor an address or an absolute path"
            )),
            false => Ok(Self::RemoteOfProject(text)),
        }
    }
}

/// Whether `text` is an address with a password in it: `https://name:word@host/`, and over HTTP also
/// `https://TOKEN@host/`.
pub(crate) fn has_password(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_http = ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
    authority.rsplit_once('@').is_some_and(|(user, _)| is_http || user.contains(':'))
}

/// What happens to a task whose project has uncommitted changes, which do not travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Uncommitted {
    /// The task waits until they are committed.
    #[default]
    Hold,
    /// The task goes without them.
    Ignore,
}

/// The section as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub(super) struct RemoteSection {
    #[serde(deserialize_with = "kind")]
    kind: Option<()>,
    #[serde(deserialize_with = "url")]
    url: Option<ServerUrl>,
    #[serde(deserialize_with = "value::optional_path")]
    token_file: Option<PathBuf>,
    #[serde(deserialize_with = "exchange")]
    exchange: Option<ExchangeAt>,
    #[serde(deserialize_with = "scalar::command")]
    agent: Vec<String>,
    resources: BTreeMap<String, Share>,
    dirty: Uncommitted,
    #[serde(deserialize_with = "value::switch")]
    lfs: bool,
    #[serde(deserialize_with = "value::switch")]
    submodules: bool,
}

impl Default for RemoteSection {
    fn default() -> Self {
        let agent = ["claude", "-p", "--output-format", "json", "--dangerously-skip-permissions"];
        Self {
            kind: None,
            url: None,
            token_file: None,
            exchange: None,
            agent: agent.map(str::to_owned).to_vec(),
            resources: BTreeMap::from([("ccl".to_owned(), Share(1.0))]),
            dirty: Uncommitted::default(),
            lfs: false,
            submodules: false,
        }
    }
}

/// How much of one resource a job takes.
#[derive(Debug)]
struct Share(f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| {
            let share = text.parse().ok().filter(|share: &f64| share.is_finite() && *share > 0.0);
            share.map(Self).ok_or_else(|| format!("`{text}` is not a number above 0"))
        })
    }
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<()>, D::Error> {
    scalar(deserializer, |text| match text {
        "ray" => Ok(Some(())),
        other => Err(format!("`{other}` is no engine that ccl knows; there is: ray")),
    })
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServerUrl>, D::Error> {
    scalar(deserializer, |text| match ServerUrl::read(text) {
        Ok(url) => Ok(Some(url)),
        Err(UrlError::NoUrl) => Err("is not an address such as http://127.0.0.1:8265".to_owned()),
        Err(UrlError::Password) => {
            Err("has a name or a password in it; take it out and use remote.token_file".to_owned())
        }
        Err(UrlError::Unencrypted) => {
            Err("would send the token unencrypted; use https, or a tunnel to \
                                           this machine: ssh -L 8265:localhost:8265 HEAD"
                .to_owned())
        }
        Err(error @ UrlError::Query) => Err(error.to_string()),
    })
}

fn exchange<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ExchangeAt>, D::Error> {
    scalar(deserializer, |text| ExchangeAt::parse(text).map(Some))
}

impl RemoteSection {
    pub(super) fn check(&self) -> Result<(), String> {
        let missing =
            |key: &str, such: &str| Err(format!("there is no {key}: add `{key}: {such}`"));
        match (self.kind, &self.url, &self.exchange) {
            (None, ..) => missing("kind", "ray"),
            (_, None, _) => missing("url", "http://127.0.0.1:8265"),
            (.., None) => missing("exchange", "ssh://git@HOST/PATH.git"),
            _ => Ok(()),
        }
    }

    /// The engine; `resolve` makes a path absolute. `None` where the section was not checked.
    pub(super) fn resolve(
        self,
        environment: &Environment,
        resolve: impl Fn(PathBuf) -> PathBuf,
    ) -> Result<Option<RemoteEngine>> {
        let (Some(url), Some(exchange)) = (self.url, self.exchange) else { return Ok(None) };
        let token_file = self.token_file.map(resolve);
        let token = token_file.as_deref().map(|path| key::from_file(path, "the token file"));
        Ok(Some(RemoteEngine {
            proxy: url.proxy(|name| environment.var(name)?.to_str().map(str::to_owned)),
            url,
            token: token.transpose()?,
            exchange,
            agent: self.agent,
            resources: self.resources.into_iter().map(|(name, share)| (name, share.0)).collect(),
            dirty: self.dirty,
            lfs: self.lfs,
            submodules: self.submodules,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Home;
    use super::*;
    use crate::config::Overrides;
    use std::os::unix::fs::PermissionsExt;

    const SHORTEST: &str = "remote: {kind: ray, url: 'http://127.0.0.1:8265', exchange: origin}\n";

    fn load(text: &str) -> Result<Option<RemoteEngine>> {
        Home::with(text).load_with(&Overrides::default()).map(|config| config.remote)
    }

    #[test]
    fn what_is_not_said_is_as_the_design_has_it() {
        assert!(load("").unwrap().is_none());
        let remote = load(SHORTEST).unwrap().unwrap();
        assert_eq!(remote.url.as_str(), "http://127.0.0.1:8265");
        assert!(remote.token.is_none());
        assert_eq!(remote.exchange, ExchangeAt::RemoteOfProject("origin".to_owned()));
        assert_eq!(
            remote.agent.join(" "),
            "claude -p --output-format json --dangerously-skip-permissions"
        );
        assert_eq!(remote.resources, BTreeMap::from([("ccl".to_owned(), 1.0)]));
        assert_eq!(remote.dirty, Uncommitted::Hold);
        assert!(!remote.lfs && !remote.submodules);
    }

    #[test]
    fn the_whole_section_is_understood() {
        let home = Home::with(
            "remote:\n  kind: ray\n  url: https://ray.example/base/\n  token_file: token\n  \
             exchange: ssh://git@box/srv/ccl.git\n  agent: [codex, exec]\n  \
             resources: {big: 0.5, ccl: 2}\n  dirty: ignore\n  lfs: true\n  submodules: true\n",
        );
        home.write(".config/ccl/token", "t0ken-of-ray\n");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(home.path(".config/ccl/token"), mode).unwrap();
        let remote = home.load_with(&Overrides::default()).unwrap().remote.unwrap();
        assert_eq!(remote.token.as_ref().unwrap().expose(), "t0ken-of-ray");
        assert!(!format!("{remote:?}").contains("t0ken-of-ray"));
        assert_eq!(remote.exchange, ExchangeAt::Url("ssh://git@box/srv/ccl.git".to_owned()));
        assert_eq!(remote.agent, ["codex", "exec"]);
        assert_eq!(remote.resources["big"], 0.5);
        assert_eq!(remote.dirty, Uncommitted::Ignore);
        assert!(remote.lfs && remote.submodules);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (section, word) in [
            ("{}", "there is no kind"),
            ("{kind: slurm}", "there is: ray"),
            ("{kind: ray}", "there is no url"),
            ("{kind: ray, url: 'http://127.0.0.1:1'}", "there is no exchange"),
            ("{kind: ray, url: 'http://ray.example', exchange: o}", "unencrypted"),
            ("{kind: ray, url: 'https://me:x@ray.example', exchange: o}", "remote.token_file"),
            ("{kind: ray, url: 'https://r', exchange: 'https://a:b@c/d'}", "has a password"),
            ("{kind: ray, url: 'https://r', exchange: --upload-pack=x}", "no address"),
            ("{kind: ray, url: 'https://r', exchange: ../x}", "neither a remote's name"),
            ("{kind: ray, url: 'https://r', exchange: o, agent: []}", "the list is empty"),
            ("{kind: ray, url: 'https://r', exchange: o, resources: {ccl: 0}}", "above 0"),
            ("{kind: ray, url: 'https://r', exchange: o, dirty: maybe}", "hold"),
            ("{kind: ray, url: 'https://r', exchange: o, token_file: none}", "does not exist"),
            ("{kind: ray, url: 'https://r', exchange: o, token: x}", "unknown key `token`"),
        ] {
            let error = format!("{:#}", load(&format!("remote: {section}\n")).unwrap_err());
            assert!(error.contains(word), "{section}: {error}");
        }
    }

    #[test]
    fn a_password_is_seen_in_an_address() {
        for (text, has) in [
            ("https://a:b@c/d", true),
            ("https://ghp_token@c/d", true),
            ("https://c/d:e@f", false),
            ("ssh://a:b@c/d", true),
            ("ssh://git@box/x", false),
            ("git@box:x", false),
            ("/srv/x.git", false),
        ] {
            assert_eq!(has_password(text), has, "{text}");
        }
    }
}
