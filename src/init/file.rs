//! The configuration that is written: the example with its comments, and the answers in it.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ruma::OwnedUserId;

use crate::config::{ENV_ACCESS_TOKEN, ENV_PASSWORD, Secret};

/// What is filled in; its lines that are no comments stand for the answers.
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Only the owner reads it: a password may be in it.
#[cfg(unix)]
const MODE: u32 = 0o600;

#[derive(Debug, Clone)]
pub(super) struct Filled {
    pub(super) homeserver: String,
    pub(super) user: OwnedUserId,
    pub(super) login: Login,
    pub(super) room: String,
}

/// How the account logs in.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Password(Secret),
    AccessToken(Secret),
    PasswordFile(PathBuf),
    AccessTokenFile(PathBuf),
    /// By a variable that is set.
    Environment,
}

/// The text of the configuration.
pub(super) fn text(filled: &Filled) -> String {
    let login = match &filled.login {
        Login::Password(secret) => format!("password = {}", quoted(secret.expose())),
        Login::AccessToken(secret) => format!("access_token = {}", quoted(secret.expose())),
        Login::PasswordFile(file) => format!("password_file = {}", quoted_path(file)),
        Login::AccessTokenFile(file) => format!("access_token_file = {}", quoted_path(file)),
        Login::Environment => {
            format!("# The environment's {ENV_PASSWORD} or {ENV_ACCESS_TOKEN} is used.")
        }
    };
    let mut lines = Vec::new();
    for line in EXAMPLE.lines() {
        lines.push(match line.split_once(" = ") {
            Some(("homeserver", _)) => format!("homeserver = {}", quoted(&filled.homeserver)),
            Some(("user_id", _)) => format!("user_id = {}", quoted(filled.user.as_str())),
            Some(("password", _)) => login.clone(),
            Some(("room", _)) => format!("room = {}", quoted(&filled.room)),
            _ if line.starts_with("# Configuration of Roomlift.") => {
                "# Configuration of Roomlift, written by `roomlift init`.".to_owned()
            }
            _ => line.to_owned(),
        });
    }
    lines.join("\n") + "\n"
}

/// A string of JSON is one of TOML, but for a character that nobody types.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Writes a file that is not there yet.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, MODE);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, Credentials};

    fn filled(login: Login) -> Filled {
        Filled {
            homeserver: "https://matrix.b.org".to_owned(),
            user: "@bot:b.org".try_into().unwrap(),
            login,
            room: "!mods:b.org".to_owned(),
        }
    }

    #[test]
    fn what_is_filled_in_is_what_is_read() {
        // Everything that means something in TOML, and one character that JSON leaves as it is.
        let odd = "a\"b\\c'd#e = [f]\u{7f}ü";
        for (login, expected) in [
            (
                Login::Password(Secret::new(odd.to_owned())),
                Credentials::Password(Secret::new(odd.to_owned())),
            ),
            (
                Login::AccessToken(Secret::new("syt".to_owned())),
                Credentials::AccessToken(Secret::new("syt".to_owned())),
            ),
        ] {
            let text = text(&filled(login));
            let config = Config::parse(&text, Path::new(""), &|_| None).unwrap();
            assert!(config.account.credentials == expected);
            assert_eq!(config.account.homeserver, "https://matrix.b.org");
            assert_eq!(config.account.user_id, "@bot:b.org");
            assert_eq!(config.admin_rooms.len(), 1);
            assert_eq!(config.admin_rooms[0].room.as_str(), "!mods:b.org");
            assert_eq!(config.warnings, []);
        }
        let text = text(&filled(Login::Environment));
        let env = |name: &str| (name == ENV_PASSWORD).then(|| "hunter2".to_owned());
        let config = Config::parse(&text, Path::new(""), &env).unwrap();
        assert!(config.account.credentials == Credentials::Password(Secret::new("hunter2".into())));
    }

    #[test]
    fn the_comments_of_the_example_stay() {
        let text = text(&filled(Login::Environment));
        let comments = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
        assert_eq!(comments(&text), comments(EXAMPLE) + 1);
        assert!(!text.contains("Copy this file"), "{text}");
    }

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        write(&path, "first").unwrap();
        assert_eq!(
            write(&path, "second").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
