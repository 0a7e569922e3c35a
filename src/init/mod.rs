//! `roomlift init`: from an account to a bot that can be started.
//!
//! Asks for what was not given, checks each answer with the homeserver, makes the room where commands
//! are taken or enters the one that was given, and writes the configuration last. The login stays
//! where it came from: what was typed goes into the configuration, a file is named there, and the
//! environment is left alone. Nothing shows it. Left out: running.

mod ask;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::json;

pub(crate) use ask::{Ask, Question, Terminal};
use file::{Filled, Login};

use crate::app::{self, AppError};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, ENV_ACCESS_TOKEN, ENV_PASSWORD, Secret};
use crate::homeserver::{Existence, Homeserver, HomeserverError};
use crate::matrix::{self, MatrixError, Port};
use crate::model::{RoomName, RoomRef};
use crate::room::level::Allowance;
use crate::room::power::PowerLevels;
use crate::room::state::content;
use crate::room::versions::has_creators;
use crate::telemetry::chain;

/// The environment, for one thread or several.
type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// Name of the room that is made.
const ROOM_NAME: &str = "Room upgrades";

/// Topic of the room that is made.
const ROOM_TOPIC: &str = "Roomlift upgrades rooms on command. Type !upgrade help";

/// Power of the first moderator there: enough for everything but to take the bot's away.
const MODERATOR_LEVEL: i64 = 100;

/// Power that commands take where the configuration says nothing else.
const COMMAND_LEVEL: i64 = 50;

/// What can be given on the command line; the rest is asked for.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Given {
    /// Id of the bot's account, such as @roomlift:example.org.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Address of the homeserver, or its name.
    #[arg(long, value_name = "ADDRESS")]
    pub homeserver: Option<String>,
    /// A file with the account's password. The environment's `ROOMLIFT_PASSWORD` is another way.
    #[arg(long, value_name = "FILE", conflicts_with = "access_token_file")]
    pub password_file: Option<PathBuf>,
    /// A file with an access token. The environment's `ROOMLIFT_ACCESS_TOKEN` is another way.
    #[arg(long, value_name = "FILE")]
    pub access_token_file: Option<PathBuf>,
    /// A room where commands are to be taken, by id or address; without, one is made.
    #[arg(long, value_name = "ROOM")]
    pub admin_room: Option<String>,
    /// Who is invited to the room that is made, with the power to command, such as
    /// @maria:example.org.
    #[arg(long, value_name = "ID")]
    pub moderator: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("{} already exists; choose another file with --config", .0.display())]
    Exists(PathBuf),
    /// Nobody can be asked.
    #[error("{0} is missing, and there is no terminal to ask")]
    Missing(&'static str),
    /// The terminal does not work.
    #[error("cannot ask")]
    Ask(#[source] std::io::Error),
    /// Not the id of a user.
    #[error("{0} is not the id of a user; write it like @name:example.org")]
    NotAUser(String),
    /// Neither id nor address of a room.
    #[error("{0} is no room; write its id or an address, like #moderators:example.org")]
    NotARoom(String),
    /// Their server does not know them.
    #[error("{} has no user {user}; is there a typo?", user.server_name())]
    NoSuchUser { user: OwnedUserId },
    /// The answers make no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] AppError),
    /// The homeserver does not let the bot in.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The homeserver does not do what it was asked for.
    #[error(transparent)]
    Homeserver(#[from] HomeserverError),
    /// The configuration cannot be written.
    #[error("cannot write {}; the next try can go on with --admin-room '{room}'", path.display())]
    Write {
        path: PathBuf,
        /// The room, which may have been made.
        room: String,
        #[source]
        source: std::io::Error,
    },
}

/// Makes the configuration of a new bot at `path`.
///
/// # Errors
/// When something that was given is wrong, or cannot be asked for. A room may have been made only if
/// the configuration could not be written.
pub(crate) async fn run(path: &Path, given: Given, env: Env<'_>) -> Result<(), InitError> {
    if path.exists() {
        return Err(InitError::Exists(path.to_owned()));
    }
    let mut terminal = Terminal::new();
    let ask: &mut (dyn Ask + Send) = &mut terminal;

    let question = Question {
        flag: "--user",
        text: "Id of the bot's account, such as @roomlift:example.org",
        default: None,
    };
    let user = settle(given.user, question, ask, async |text| user_id(text)).await?;
    let question = Question {
        flag: "--homeserver",
        text: "Address of its homeserver, or the name of it",
        default: Some(user.server_name().as_str().to_owned()),
    };
    let homeserver = settle(given.homeserver, question, ask, async |text| {
        Ok(matrix::discover(text).await?)
    })
    .await?;
    let mut filled = Filled {
        homeserver,
        user,
        login: Login::Environment,
        // Stands for the room until there is one.
        room: "!unknown:example.org".to_owned(),
    };
    let login = login(given.password_file, given.access_token_file, env)?;
    let (port, _lock) = signed_in(path, &mut filled, login, ask, env).await?;

    filled.room = room(given.admin_room, given.moderator, &port, ask).await?;

    let (text, _) = read(path, &filled, env)?;
    file::write(path, &text).map_err(|source| InitError::Write {
        path: path.to_owned(),
        room: filled.room.clone(),
        source,
    })?;
    ask.tell(&format!(
        "Wrote {path}. Start the bot with: roomlift run --config {path}",
        path = path.display()
    ));
    Ok(())
}

/// The room where commands are taken: one that is there, or a new one with somebody invited.
async fn room(
    given: Option<String>,
    moderator: Option<String>,
    port: &Port,
    ask: &mut (dyn Ask + Send),
) -> Result<String, InitError> {
    let question = Question {
        flag: "--admin-room",
        text: "Room where it takes commands, by id or address; leave empty to have one made",
        default: Some(String::new()),
    };
    // Who names a moderator only, or cannot be asked, wants a room made.
    let is_asked = given.is_none() && moderator.is_none() && ask.is_there();
    let found = if is_asked || given.is_some() {
        settle(given, question, ask, async |text| match text {
            "" => Ok(None),
            text => Ok(Some((text.to_owned(), entered(port, text).await?))),
        })
        .await?
    } else {
        None
    };
    if let (Some((text, _)), None) = (&found, &moderator) {
        return Ok(text.clone());
    }
    let question = Question {
        flag: "--moderator",
        text: "Your user id, such as @maria:example.org",
        default: None,
    };
    let moderator = settle(moderator, question, ask, async |text| {
        known(port, text).await
    })
    .await?;
    if let Some((text, id)) = found {
        warn_of_power(port, &id, &moderator, ask).await?;
        return Ok(text);
    }
    let room = made(port, &moderator).await?;
    ask.tell(&format!("Made the room {room} and invited {moderator}."));
    Ok(room.to_string())
}

/// What was given if it passes the check, or the first answer that does.
async fn settle<T>(
    given: Option<String>,
    question: Question,
    ask: &mut (dyn Ask + Send),
    check: impl AsyncFn(&str) -> Result<T, InitError>,
) -> Result<T, InitError> {
    if let Some(given) = given {
        return check(&given).await;
    }
    loop {
        let answer = ask.line(&question)?;
        match check(&answer).await {
            Ok(value) => return Ok(value),
            Err(error) => ask.tell(&chain(&error)),
        }
    }
}

/// The login, where it need not be asked for.
fn login(
    password_file: Option<PathBuf>,
    access_token_file: Option<PathBuf>,
    env: Env<'_>,
) -> Result<Option<Login>, InitError> {
    let absolute = |path: PathBuf| std::path::absolute(path).map_err(InitError::Ask);
    let is_set = |name| env(name).is_some_and(|value| !value.is_empty());
    Ok(match (password_file, access_token_file) {
        (Some(file), _) => Some(Login::PasswordFile(absolute(file)?)),
        (None, Some(file)) => Some(Login::AccessTokenFile(absolute(file)?)),
        (None, None) if is_set(ENV_PASSWORD) || is_set(ENV_ACCESS_TOKEN) => {
            Some(Login::Environment)
        }
        (None, None) => None,
    })
}

/// The homeserver as the bot sees it, after it logged in; and its data folder, taken.
async fn signed_in(
    path: &Path,
    filled: &mut Filled,
    login: Option<Login>,
    ask: &mut (dyn Ask + Send),
    env: Env<'_>,
) -> Result<(Port, std::fs::File), InitError> {
    let is_asked = login.is_none();
    let mut login = login;
    loop {
        filled.login = match login.take() {
            Some(login) => login,
            None => asked(&filled.user, ask)?,
        };
        // As `run` will read it.
        let tried = match read(path, filled, env) {
            Ok((_, config)) => try_login(&config).await,
            Err(error) => Err(error),
        };
        match tried {
            Err(error) if is_asked => ask.tell(&chain(&error)),
            tried => return tried,
        }
    }
}

async fn try_login(config: &Config) -> Result<(Port, std::fs::File), InitError> {
    let lock = app::lock(&config.data_dir)?;
    let session = matrix::sign_in(&config.account, &config.data_dir).await?;
    let port = Port::new(&session, Arc::new(SystemClock));
    Ok((port, lock))
}

fn asked(user: &UserId, ask: &mut (dyn Ask + Send)) -> Result<Login, InitError> {
    let password = ask.secret(
        "--password-file",
        &format!("Password of {user}; leave empty to give an access token"),
    )?;
    if !password.is_empty() {
        return Ok(Login::Password(Secret::new(password)));
    }
    let token = ask.secret("--access-token-file", "Access token")?;
    Ok(Login::AccessToken(Secret::new(token)))
}

/// The text of the configuration, and what it means.
fn read(path: &Path, filled: &Filled, env: Env<'_>) -> Result<(String, Config), InitError> {
    let text = file::text(filled);
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let config = Config::parse(&text, base_dir, &|name| env(name))?;
    Ok((text, config))
}

fn user_id(text: &str) -> Result<OwnedUserId, InitError> {
    UserId::parse(text).map_err(|_| InitError::NotAUser(text.to_owned()))
}

/// A user whose server knows them, or does not answer.
async fn known(port: &Port, text: &str) -> Result<OwnedUserId, InitError> {
    let user = user_id(text)?;
    match port.user_exists(&user).await? {
        Some(Existence::Unknown) => Err(InitError::NoSuchUser { user }),
        Some(Existence::Known) | None => Ok(user),
    }
}

/// The room that was given, once the bot is in it. To join it once more changes nothing.
async fn entered(port: &Port, text: &str) -> Result<OwnedRoomId, InitError> {
    let name = match <&RoomId>::try_from(text) {
        Ok(id) => RoomName::Id(id.to_owned()),
        Err(_) => RoomName::Alias(
            text.try_into()
                .map_err(|_| InitError::NotARoom(text.to_owned()))?,
        ),
    };
    let via = Vec::new();
    Ok(port.join(&RoomRef { name, via }).await?)
}

/// Says so if somebody could not command the bot in a room that was there before.
async fn warn_of_power(
    port: &Port,
    room: &RoomId,
    moderator: &UserId,
    ask: &mut (dyn Ask + Send),
) -> Result<(), InitError> {
    let levels = PowerLevels::of(&port.state(room).await?);
    if let Allowance::Short { have, .. } = levels.reaches(moderator, COMMAND_LEVEL) {
        ask.tell(&format!(
            "{moderator} has power {have} in the room; commands take {COMMAND_LEVEL} there. Give \
             it to them, or lower `command_level`."
        ));
    }
    Ok(())
}

/// A room for commands: the bot's own, by invitation only.
async fn made(port: &Port, moderator: &UserId) -> Result<OwnedRoomId, InitError> {
    let version = port.room_versions().await?.default;
    let mut levels = json!({ moderator.as_str(): MODERATOR_LEVEL });
    if !has_creators(&version) {
        // What the body says of `users` replaces what the server would say of the creator.
        levels[port.account().as_str()] = json!(MODERATOR_LEVEL);
    }
    let body = content(json!({
        "room_version": version,
        "name": ROOM_NAME,
        "topic": ROOM_TOPIC,
        "preset": "private_chat",
        "visibility": "private",
        "invite": [moderator],
        "power_level_content_override": { "users": levels },
    }));
    Ok(port.create_room(&body).await?)
}
