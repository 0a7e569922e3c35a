//! Secrets, and the places they come from: the file, a file of their own, or the environment.
//!
//! Secrets are not wiped from memory; who can read the memory of the process has the session anyway.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use super::section::Section;
use super::{Credentials, ENV_ACCESS_TOKEN, ENV_PASSWORD, Env};

/// Longest secret in a file of its own, in bytes; anything longer is the wrong file.
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// Permission bits of Unix for those who neither own a file nor belong to its group.
#[cfg(unix)]
const MODE_OTHERS: u32 = 0o007;

/// A password or token. `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself. Only for sending it to the homeserver.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who can read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Every user of the machine.
    Anybody,
    /// Some only; or the system does not tell.
    Some,
}

#[cfg(unix)]
pub(super) fn access(metadata: &Metadata) -> Access {
    use std::os::unix::fs::PermissionsExt;
    if metadata.permissions().mode() & MODE_OTHERS == 0 {
        Access::Some
    } else {
        Access::Anybody
    }
}

#[cfg(not(unix))]
pub(super) fn access(_metadata: &Metadata) -> Access {
    Access::Some
}

/// Where a secret can come from.
#[derive(Clone, Copy)]
enum Source {
    /// A key that holds it.
    Key(&'static str),
    /// A key that names a file.
    FileKey(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
}

impl Source {
    fn name(self) -> String {
        match self {
            Self::Key(name) | Self::FileKey(name) => format!("`{name}`"),
            Self::Variable(name) => format!("the environment's `{name}`"),
        }
    }
}

/// Makes credentials of a secret.
type Kind = fn(Secret) -> Credentials;

/// Every source, with what its secret is.
const SOURCES: [(Source, Kind); 6] = [
    (Source::Key("password"), Credentials::Password),
    (Source::FileKey("password_file"), Credentials::Password),
    (Source::Key("access_token"), Credentials::AccessToken),
    (
        Source::FileKey("access_token_file"),
        Credentials::AccessToken,
    ),
    (Source::Variable(ENV_PASSWORD), Credentials::Password),
    (Source::Variable(ENV_ACCESS_TOKEN), Credentials::AccessToken),
];

/// Where a secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the configuration itself, under this key of `account`.
    Configuration(&'static str),
    /// In a file of its own, or in the environment.
    Elsewhere,
}

/// Reads the one secret of the account. `None` if there is a mistake, which has been reported then.
pub(super) fn credentials(
    section: &mut Section,
    base_dir: &Path,
    env: Env<'_>,
) -> Option<(Credentials, Origin)> {
    let mut present = Vec::new();
    let mut found = None;
    for (source, kind) in SOURCES {
        let (secret, origin) = match source {
            Source::Key(key) => {
                if section.has(key) {
                    present.push(source);
                }
                (section.parsed(key, sound), Origin::Configuration(key))
            }
            Source::FileKey(key) => {
                if section.has(key) {
                    present.push(source);
                }
                {
                    let secret = section.parsed(key, |path| in_file(&base_dir.join(path)));
                    (secret, Origin::Elsewhere)
                }
            }
            Source::Variable(name) => {
                // A variable that is set to nothing is as good as none.
                let value = env(name).filter(|value| !value.is_empty());
                if value.is_some() {
                    present.push(source);
                }
                (value.map(Secret::new), Origin::Elsewhere)
            }
        };
        if let Some(secret) = secret {
            found = Some((kind(secret), origin));
        }
    }
    match present.as_slice() {
        [] => section.report(
            "password",
            format!(
                "is missing; write exactly one of `password`, `password_file`, `access_token`, \
                 `access_token_file`, or set `{ENV_PASSWORD}` or `{ENV_ACCESS_TOKEN}` in the \
                 environment"
            ),
        ),
        [_] => return found,
        [first, rest @ ..] => {
            let rest: Vec<_> = rest.iter().map(|source| source.name()).collect();
            section.report(
                match first {
                    Source::Key(key) | Source::FileKey(key) => key,
                    Source::Variable(_) => "password",
                },
                format!(
                    "{} and {} contradict each other; keep one of them",
                    first.name(),
                    rest.join(" and ")
                ),
            );
        }
    }
    None
}

/// Errors never repeat the text.
fn sound(secret: &str) -> Result<Secret, String> {
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    if secret.contains(['\n', '\r']) {
        return Err("has several lines; a secret is one line".to_owned());
    }
    Ok(Secret::new(secret.to_owned()))
}

/// A secret in a file of its own: one line.
pub(super) fn in_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("cannot open {shown}: {error}"))?;
    let unreadable = |error: io::Error| format!("cannot read {shown}: {error}");
    let metadata = file.metadata().map_err(unreadable)?;
    if access(&metadata) == Access::Anybody {
        return Err(format!(
            "every user can read {shown}; run `chmod 600 {shown}`"
        ));
    }
    let mut text = String::new();
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!("{shown} is too long for a secret"));
    }
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    sound(secret).map_err(|problem| format!("the file {shown} {problem}"))
}
