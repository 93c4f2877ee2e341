//! Opening: what a Redis is reached by. Nothing is connected here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, TlsCertificates};

/// How long anything may take by default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a Redis is, and how to log in.
#[derive(Clone)]
pub struct Options {
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`, or `rediss://…` for TLS.
    pub url: String,
    /// The user, where it does not stand in the address; none: `default`.
    pub user: Option<String>,
    /// The password, where it does not stand in the address.
    pub password: Option<String>,
    /// The certificate of the authority that signed the server's, in PEM; none: one of the public authorities.
    pub ca: Option<PathBuf>,
    /// How long a connection, or an answer, may take.
    pub timeout: Duration,
}

impl Options {
    /// At this address, with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), user: None, password: None, ca: None, timeout: TIMEOUT }
    }
}

/// The address may have a password in it, so that nothing of it is shown.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("ca", &self.ca).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why no Redis can ever be reached by these options. The address itself is never repeated: a password may stand in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No scheme.
    #[error("the address of Redis has no scheme: write redis://HOST:PORT, or rediss://HOST:PORT for TLS")]
    NoScheme,
    /// Another scheme.
    #[error("`{scheme}` is no scheme of Redis: write redis://HOST:PORT, or rediss://HOST:PORT for TLS")]
    Scheme {
        /// The scheme as it was given.
        scheme: String,
    },
    /// Anything else about the address.
    #[error(
        "the address of Redis cannot be read ({why}): it is redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], and a password \
         with `@`, `/`, `#`, `?` or `%` in it is better given apart"
    )]
    Malformed {
        /// What is wrong with the address, without repeating it.
        why: &'static str,
    },
    /// TLS that checks nothing.
    #[error("TLS without a check of the certificate is not offered: give the file of the CA that signed it")]
    Insecure,
    /// A CA and no TLS.
    #[error("a CA's file is of use with rediss:// alone: write that, or leave the file out")]
    CaWithoutTls,
    /// The CA's file.
    #[error("the CA's file {} cannot be used: {why}", path.display())]
    Ca {
        /// The file's path.
        path: PathBuf,
        /// What is wrong with the file.
        why: String,
    },
}

/// A client by these options, and its address without any secret.
pub(crate) fn client(options: &Options) -> Result<(Client, String), OpenError> {
    let info = info(options)?;
    let address = info.addr().to_string();
    let malformed = |_| OpenError::Malformed { why: "it names nothing that can be connected to" };
    let client = match &options.ca {
        None => Client::open(info).map_err(malformed)?,
        Some(path) => {
            let unusable = |why: String| OpenError::Ca { path: path.clone(), why };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
                return Err(unusable("it has no certificate in PEM".into()));
            }
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates).map_err(|error| unusable(error.to_string()))?
        }
    };
    Ok((client, address))
}

fn info(options: &Options) -> Result<ConnectionInfo, OpenError> {
    let url = options.url.trim();
    let (scheme, rest) = url.split_once("://").ok_or(OpenError::NoScheme)?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ if is_scheme(scheme) => return Err(OpenError::Scheme { scheme: scheme.to_owned() }),
        _ => return Err(OpenError::NoScheme),
    };
    if rest.ends_with("#insecure") {
        return Err(OpenError::Insecure);
    }
    if options.ca.is_some() && !tls {
        return Err(OpenError::CaWithoutTls);
    }
    let malformed = |why| OpenError::Malformed { why };
    let info = url.into_connection_info().map_err(|_| malformed(problem(rest)))?;
    let settings = info.redis_settings();
    let user = options.user.as_deref().or(settings.username());
    let password = options.password.as_deref().or(settings.password());
    let mut settings =
        settings.clone().set_protocol(ProtocolVersion::RESP2).set_lib_name("ltmc", env!("CARGO_PKG_VERSION"));
    match (user, password) {
        (Some(_), None) => return Err(malformed("there is a user and no password")),
        (user, Some(password)) => {
            settings = user.map(|user| settings.clone().set_username(user)).unwrap_or(settings).set_password(password);
        }
        (None, None) => {}
    }
    if tls {
        install_cryptography();
    }
    #[cfg(target_os = "linux")]
    let info = {
        // A network that swallows packets is noticed; a server that is slow is not given up for that.
        let tcp = info.tcp_settings().clone().set_user_timeout(options.timeout * 3);
        info.set_tcp_settings(tcp)
    };
    Ok(info.set_redis_settings(settings))
}

fn is_scheme(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'+' | b'-' | b'.'))
}

/// What is most likely wrong behind the scheme.
fn problem(rest: &str) -> &'static str {
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let port = if host.ends_with(']') { None } else { host.rsplit_once(':').map(|(_, port)| port) };
    if host.is_empty() || host.starts_with(':') {
        "it names no host"
    } else if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        "its port is no number up to 65535"
    } else if !path.is_empty() && path.parse::<u32>().is_err() {
        "what follows the last `/` is no database's number"
    } else {
        "it is no address"
    }
}

/// TLS needs one implementation of its cryptography in the process; whoever comes first chooses.
fn install_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have come first by now: then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_refused_in_words_that_hold_no_secret() {
        let cases = [
            ("localhost:6379", "has no scheme"),
            ("", "has no scheme"),
            ("http://localhost", "`http` is no scheme"),
            ("redis+unix:///tmp/x", "`redis+unix` is no scheme"),
            ("hunter2 redis://localhost", "has no scheme"),
            ("redis://", "names no host"),
            ("redis://:hunter2@:6379", "names no host"),
            ("redis://:hunter2@localhost:port", "port is no number"),
            ("redis://:hunter2@localhost:700000", "port is no number"),
            ("redis://:hunter2@localhost:6379/zero", "no database's number"),
            ("redis://me@localhost", "a user and no password"),
            ("rediss://:hunter2@localhost#insecure", "not offered"),
        ];
        for (url, words) in cases {
            let error = client(&Options::new(url)).unwrap_err();
            assert!(error.to_string().contains(words), "`{url}`: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "`{url}`: {error:?}");
        }
        for url in ["redis://localhost", "redis://a:b@h:1/2", "rediss://h", "redis://[::1]:6379", "redis://:p%40s@h"] {
            client(&Options::new(url)).unwrap();
        }
    }

    #[test]
    fn a_cas_file_has_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let refused =
            |url: &str, ca: PathBuf| client(&Options { ca: Some(ca), ..Options::new(url) }).unwrap_err().to_string();
        assert!(refused("rediss://h", path.clone()).contains("no certificate in PEM"));
        assert!(refused("rediss://h", dir.path().join("absent")).contains("cannot be used"));
        assert!(refused("redis://h", path).contains("rediss:// alone"));
    }

    #[test]
    fn options_hide_what_may_be_secret() {
        let options = Options { password: Some("hunter2".into()), ..Options::new("redis://:hunter2@localhost") };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
