//! From an account to a bot that answers, by `roomlift init` alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{Bot, Community, Synapse, User, Wanted, user};
use serde_json::json;
use tempfile::TempDir;

use crate::scene::{READY, SPEECH, START, start_bot};

/// Longest wait for `init` to end.
const INIT: Duration = Duration::from_mins(1);

/// Answers the questions of a program on a terminal of its own, and shows what the terminal shows.
/// Each line of `$1` is a part of a question, a tab and the answer. A secret is typed once the terminal
/// does not echo any more.
const TYPIST: &str = r#"
import os, pty, sys, termios, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
def shows():
    shown = os.read(terminal, 1024)
    sys.stdout.buffer.write(shown)
    sys.stdout.buffer.flush()
    return shown
for line in sys.argv[1].split("\n"):
    question, answer = line.encode().split(b"\t")
    shown = b""
    while question not in shown or not shown.endswith(b": "):
        shown += shows()
    while b"(not shown)" in shown and termios.tcgetattr(terminal)[3] & termios.ECHO:
        time.sleep(0.01)
    os.write(terminal, answer + b"\n")
try:
    while shows():
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

struct Newcomer {
    synapse: &'static Synapse,
    account: User,
    maria: User,
    dir: TempDir,
}

impl Newcomer {
    async fn new() -> Self {
        let synapse = Synapse::shared().await;
        let dir = tempfile::tempdir().expect("a folder");
        let newcomer = Self {
            synapse,
            account: synapse.register("roomlift").await,
            maria: synapse.register("maria").await,
            dir,
        };
        newcomer.secret(&newcomer.account.password, 0o600);
        newcomer
    }

    /// Writes the file with the password.
    fn secret(&self, text: &str, mode: u32) {
        let path = self.dir.path().join("password.txt");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("its mode");
    }

    fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Arguments with which it works.
    fn arguments(&self) -> Vec<(&'static str, String)> {
        vec![
            ("--homeserver", self.synapse.base_url()),
            ("--user", self.account.user_id.clone()),
            ("--password-file", "password.txt".to_owned()),
            ("--moderator", self.maria.user_id.clone()),
        ]
    }

    /// Runs it; returns its exit code and what it said.
    async fn init(&self, arguments: &[(&str, String)], env: &[(&str, &str)]) -> (i32, String) {
        let words = arguments.iter().flat_map(|(flag, value)| [*flag, value]);
        let words: Vec<&str> = std::iter::once("init").chain(words).collect();
        let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
        ended(&Bot::start_with_env(binary, words, self.dir.path(), env)).await
    }

    /// Starts the bot with what was written; it answers in the room.
    async fn answers(&self, room: &str) {
        let bot = start_bot(self.dir.path());
        bot.until_logged(READY, START).await;
        let mut chat = self.maria.timeline(room).await.within(SPEECH);
        self.maria.send_text(room, "!upgrade help").await;
        chat.until("the help", |event| {
            event["sender"] == self.account.user_id.as_str()
                && user::text(event).contains("!upgrade confirm")
        })
        .await;
    }
}

async fn ended(bot: &Bot) -> (i32, String) {
    let status = bot.wait_exit(INIT).await;
    (status.code().unwrap_or(-1), bot.log())
}

#[tokio::test]
async fn a_bot_with_a_room_of_its_own() {
    let newcomer = Newcomer::new().await;
    let (code, said) = newcomer.init(&newcomer.arguments(), &[]).await;
    assert_eq!(code, 0, "{said}");
    let password = &newcomer.account.password;
    assert!(!said.contains(password.as_str()), "{said}");
    let written = std::fs::read_to_string(newcomer.config()).expect("a configuration");
    assert!(!written.contains(password.as_str()), "the file has it");
    assert!(written.contains("# How much is logged"), "{written}");
    let mode = newcomer
        .config()
        .metadata()
        .expect("metadata")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let data = newcomer.dir.path().join("data").metadata();
    let mode = data.expect("a data folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the keys are in there");

    let rooms = newcomer.account.joined_rooms().await;
    let [room] = rooms.as_slice() else {
        panic!("one room: {rooms:?}");
    };
    newcomer.maria.join(room).await;
    let content = async |kind: &str| {
        let event = newcomer.maria.state_event(room, kind, "").await;
        event.unwrap_or_else(|| panic!("no {kind}"))
    };
    let levels = content("m.room.power_levels").await;
    assert_eq!(levels["users"][&newcomer.maria.user_id], 100, "{levels}");
    assert_eq!(content("m.room.join_rules").await["join_rule"], "invite");
    assert_eq!(content("m.room.name").await["name"], "Room upgrades");
    newcomer.answers(room).await;

    // Once is enough.
    let (code, said) = newcomer.init(&newcomer.arguments(), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("config.toml already exists"), "{said}");
    let after = std::fs::read_to_string(newcomer.config()).expect("a configuration");
    assert_eq!(after, written);
    assert_eq!(newcomer.account.joined_rooms().await.len(), 1);
}

#[tokio::test]
async fn a_bot_in_a_room_that_is_there() {
    let newcomer = Newcomer::new().await;
    let (maria, account) = (&newcomer.maria, &newcomer.account);
    let room = maria.create_room(json!({ "preset": "private_chat" })).await;
    maria.invite(&room, &account.user_id).await;
    let mut arguments = newcomer.arguments();
    arguments.retain(|(flag, _)| *flag != "--password-file");
    arguments.push(("--admin-room", room.clone()));
    // Somebody who cannot command it there is told so.
    let vera = newcomer.synapse.register("vera").await;
    arguments[2].1 = vera.user_id.clone();
    let env = [("ROOMLIFT_ACCESS_TOKEN", account.access_token.as_str())];
    let (code, said) = newcomer.init(&arguments, &env).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("has power 0 in the room"), "{said}");
    assert!(!said.contains(account.access_token.as_str()), "{said}");
    let written = std::fs::read_to_string(newcomer.config()).expect("a configuration");
    assert!(!written.contains(account.access_token.as_str()));
    assert_eq!(account.joined_rooms().await, std::slice::from_ref(&room));
    // Its session is in the data folder; the environment's token is needed all the same.
    let token = newcomer.dir.path().join("token.txt");
    std::fs::write(&token, &account.access_token).expect("a file");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("its mode");
    let with_file = written.replace("user_id =", "access_token_file = \"token.txt\"\nuser_id =");
    std::fs::write(newcomer.config(), with_file).expect("a configuration");
    newcomer.answers(&room).await;
}

/// Every answer is checked; nothing is written or made when one of them is wrong.
#[tokio::test]
async fn wrong_answers() {
    let newcomer = Newcomer::new().await;
    let password = newcomer.account.password.clone();
    let other = newcomer.synapse.register("other").await;
    let unknown = format!("@nobody-there:{}", newcomer.synapse.server_name());
    let cases: [(&str, &str, &str); 5] = [
        (
            "--homeserver",
            "http://127.0.0.1:1",
            "no Matrix homeserver answers at http://127.0.0.1:1",
        ),
        ("--user", "maria", "maria is not the id of a user"),
        ("--password-file", "elsewhere.txt", "cannot open"),
        ("--moderator", &unknown, "has no user @nobody-there"),
        ("--admin-room", "Lounge", "Lounge is no room"),
    ];
    for (flag, value, expected) in cases {
        let mut arguments = newcomer.arguments();
        arguments.retain(|(known, _)| *known != flag);
        arguments.push((flag, value.to_owned()));
        let (code, said) = newcomer.init(&arguments, &[]).await;
        assert_eq!(code, 1, "{flag} {value}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(expected), "{flag} {value}: {said}");
        assert!(!said.contains(&password), "{said}");
        assert!(!newcomer.config().exists(), "{flag} {value}");
    }

    // A token of somebody else.
    let mut arguments = newcomer.arguments();
    arguments.retain(|(flag, _)| *flag != "--password-file");
    let env = [("ROOMLIFT_ACCESS_TOKEN", other.access_token.as_str())];
    let (code, said) = newcomer.init(&arguments, &env).await;
    assert_eq!(code, 1, "{said}");
    let expected = format!("the homeserver says this is {}", other.user_id);
    assert!(said.contains(&expected), "{said}");

    newcomer.secret("a wrong password", 0o600);
    let (_, said) = newcomer.init(&newcomer.arguments(), &[]).await;
    assert!(said.contains("does not accept the password of"), "{said}");
    assert!(!said.contains("a wrong password"), "{said}");
    // A session that is there does not make a wrong password right.
    newcomer.secret(&password, 0o600);
    let mut arguments = newcomer.arguments();
    arguments[3].1.clone_from(&unknown);
    newcomer.init(&arguments, &[]).await;
    assert!(newcomer.dir.path().join("data/session.json").exists());
    newcomer.secret("a wrong password", 0o600);
    let before = newcomer.init(&arguments, &[]).await.1;
    let last = before.lines().last().unwrap_or_default();
    assert!(last.contains("does not accept the password of"), "{last}");

    newcomer.secret(&password, 0o644);
    let (_, said) = newcomer.init(&newcomer.arguments(), &[]).await;
    assert!(said.contains("every user can read"), "{said}");
    assert!(said.contains("chmod 600"), "{said}");

    // Nobody to ask.
    let (code, said) = newcomer.init(&newcomer.arguments()[..1], &[]).await;
    assert_eq!(code, 1);
    assert!(said.contains("--user is missing"), "{said}");
    let (_, said) = newcomer.init(&newcomer.arguments()[..2], &[]).await;
    assert!(said.contains("--password-file is missing"), "{said}");

    assert!(!newcomer.config().exists());
    assert!(newcomer.account.joined_rooms().await.is_empty());
}

/// At a terminal: wrong answers are asked for again, and the password is not shown.
#[tokio::test]
async fn a_conversation_at_a_terminal() {
    let newcomer = Newcomer::new().await;
    let password = newcomer.account.password.clone();
    let base = newcomer.synapse.base_url();
    let (who, where_from, secret) = ("Id of the bot", "Address of its", "(not shown)");
    let answers = [
        (who, "roomlift"),
        (who, &newcomer.account.user_id),
        (where_from, "http://127.0.0.1:1"),
        (where_from, &base),
        (secret, "not the password"),
        (secret, &password),
        ("Room where it takes", ""),
        ("Your user id", &newcomer.maria.user_id),
    ];
    let typed = answers.map(|(question, answer)| format!("{question}\t{answer}"));
    let typed = typed.join("\n");
    let binary = env!("CARGO_BIN_EXE_roomlift");
    let words = ["python3", "-c", TYPIST, &typed, binary, "init"];
    let typist = Bot::start(Path::new("/usr/bin/env"), words, newcomer.dir.path());
    let (code, said) = ended(&typist).await;
    assert_eq!(code, 0, "{said}");
    for part in [
        "roomlift is not the id of a user",
        "no Matrix homeserver answers at",
        "does not accept the password of",
        "Made the room",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(&password), "{said}");
    assert!(!said.contains("not the password"), "{said}");
    let rooms = newcomer.account.joined_rooms().await;
    newcomer.maria.join(&rooms[0]).await;
    newcomer.answers(&rooms[0]).await;
}

/// The community's own management room, with a configuration that has a key of another version.
#[tokio::test]
async fn a_configuration_of_another_version() {
    let community = Community::make(Synapse::shared().await, &Wanted::default()).await;
    let dir = tempfile::tempdir().expect("a folder");
    let config = community.config(&Synapse::shared().await.base_url());
    std::fs::write(
        dir.path().join("config.toml"),
        format!("sync_timeout = \"30s\"\n{config}"),
    )
    .expect("a configuration");
    let (code, said) = ended(&start_bot(dir.path())).await;
    assert_eq!(code, 1);
    assert!(said.contains("sync_timeout: is not a key"), "{said}");
    assert!(said.contains("`data_dir`"), "what there is: {said}");
    assert!(!said.contains(&community.bot.password), "{said}");
    assert!(!dir.path().join("data").exists(), "nothing was begun");
}
