//! The help, made from the definition that the parser uses, so that the two cannot differ.
//!
//! Plain text: `code` stands between backticks, and a line that begins with `- ` is an item of a
//! list. Making HTML of it is up to `message`.

use clap::{Arg, ArgAction, CommandFactory};

use super::grammar::{DEFAULT_VERB, Line};
use super::{PREFIX, Topic};

/// Explains all commands in a line each, or one in full.
#[must_use]
pub fn help(topic: Option<&Topic>) -> String {
    let line = Line::command();
    topic
        .and_then(|topic| line.find_subcommand(topic.as_str()))
        .map_or_else(|| overview(&line), explanation)
}

fn overview(line: &clap::Command) -> String {
    let mut lines = vec!["I upgrade rooms. These are my commands:".to_owned()];
    for command in line.get_subcommands() {
        lines.push(format!("- {}: {}", usage(command), about(command)));
    }
    lines.push(
        "Each upgrade has an id, shown in its plan: `7` for a room, `C7` for a whole space."
            .to_owned(),
    );
    lines.push("`!upgrade help <command>` explains one of them.".to_owned());
    lines.join("\n")
}

fn explanation(command: &clap::Command) -> String {
    let mut lines = vec![usage(command), about(command)];
    for argument in command.get_arguments() {
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let (written, help) = (written(argument), sentence(&help));
        lines.push(format!("- `{written}`: {help}{}", choices(argument)));
    }
    if let Some(example) = command.get_after_help() {
        lines.push(format!("Example: `{example}`"));
    }
    lines.join("\n")
}

/// The values that an option can have, if they are known.
fn choices(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if values.is_empty() || is_flag(argument) {
        return String::new();
    }
    let names: Vec<_> = values
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    format!(" Can be: {}.", names.join(", "))
}

/// `!upgrade status [id|room]`, between backticks.
fn usage(command: &clap::Command) -> String {
    let mut words = vec![PREFIX.to_owned()];
    if command.get_name() != DEFAULT_VERB {
        words.push(command.get_name().to_owned());
    }
    words.extend(command.get_positionals().map(written));
    // Many options are told in the explanation; a single flag has room in the line.
    if command.get_opts().any(|option| !is_flag(option)) {
        words.push("[options]".to_owned());
    } else {
        let flags = command.get_arguments().filter(|argument| is_flag(argument));
        words.extend(flags.map(|flag| format!("[{}]", written(flag))));
    }
    format!("`{}`", words.join(" "))
}

/// An argument as it is typed.
fn written(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_default();
    match argument.get_long() {
        Some(long) if is_flag(argument) => format!("--{long}"),
        Some(long) => format!("--{long} <{name}>"),
        None if argument.is_required_set() => format!("<{name}>"),
        None => format!("[{name}]"),
    }
}

fn is_flag(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

fn about(command: &clap::Command) -> String {
    sentence(
        &command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default(),
    )
}

/// clap takes the full stop off a doc comment.
fn sentence(text: &str) -> String {
    if text.ends_with('.') {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Incoming, grammar, parse};
    use super::*;

    #[test]
    fn overview_is_as_agreed() {
        insta::assert_snapshot!(help(None), @r#"
        I upgrade rooms. These are my commands:
        - `!upgrade <room> [version] [options]`: Upgrade a room. You see the plan first, and nothing changes before you say yes.
        - `!upgrade space <space> [version] [options]`: Upgrade every room in a space and its subspaces. You get one plan first.
        - `!upgrade plan <room> [version] [options]`: Show what an upgrade would do, without doing it. Works for spaces too.
        - `!upgrade adopt <old room> [options]`: Finish an upgrade that was done outside Roomlift. You get a plan first.
        - `!upgrade confirm <id>`: Approve a plan, or a new room under review.
        - `!upgrade cancel <id>`: Drop a plan, or stop a job while that is still possible.
        - `!upgrade pause [id]`: Pause after the current step. Without an id: everything.
        - `!upgrade resume [id]`: Resume after a pause. Without an id: everything.
        - `!upgrade status [id|room]`: Show one upgrade, or all that are running.
        - `!upgrade list [--all]`: List the latest jobs.
        - `!upgrade retry <id>`: Try again after a job got stuck.
        - `!upgrade verify <id|room>`: Compare the rooms once more, mend what can be mended, and tick off what is done.
        - `!upgrade rooms [space]`: List the rooms I can upgrade, and what blocks the rest.
        - `!upgrade report <id>`: Send the full log of an upgrade, as files.
        - `!upgrade stragglers <id|room>`: List members who have not joined the new room.
        - `!upgrade ping <id|room> [now|off|durations]`: Ping members who have not joined: show or change the schedule, or ping now.
        - `!upgrade doctor [options]`: Health check: server, rate limits, encryption, database, clock, power levels.
        - `!upgrade help [command]`: Explain the commands, or one of them.
        Each upgrade has an id, shown in its plan: `7` for a room, `C7` for a whole space.
        `!upgrade help <command>` explains one of them.
        "#);
    }

    #[test]
    fn a_topic_shows_usage_options_and_an_example() {
        insta::assert_snapshot!(help(Some(&grammar::topic("upgrade").unwrap())), @r#"
        `!upgrade <room> [version] [options]`
        Upgrade a room. You see the plan first, and nothing changes before you say yes.
        - `<room>`: The room: its address, its id, or a link to it.
        - `[version]`: The room version to upgrade to. Without it, the configured one.
        - `--version <version>`: Same as [version].
        - `--method <method>`: Who creates the new room: the `server`, or me (`staged`). `auto` picks what suits the room. Can be: `auto`, `server`, `staged`.
        - `--review`: Make the new room and let moderators look at it, before anybody is sent there.
        - `--invite <who>`: Who is invited to the new room. Can be: `auto`, `all`, `none`.
        - `--join-rule <rule>`: For invite-only rooms: `restricted` lets members of the old room join by themselves; `keep` leaves the join rule alone. Can be: `restricted`, `keep`.
        - `--policies <what>`: What becomes of the rules of a policy room (ban list): I copy them, or they stay and both rooms are watched. Can be: `move`, `transition`.
        - `--room-type <type>`: The type that the new room of a policy room gets; without it, that of the old room. Can be: `m.policy`.
        - `--creator <@user:server>`: One more creator of the new room. Can be given several times.
        - `--reason <text>`: Why, in quotation marks. Members will read it.
        - `--ping <durations|off>`: When those who have not come are pinged after the switch, such as `1d,3d,7d`; or `off`.
        - `--at <time>`: When to begin, with the time zone: `20:00 Europe/Berlin` or `2026-12-01T20:00+01:00`.
        - `--in <duration>`: How long to wait before it begins, such as `2h` or `3d`.
        - `--announce`: Tell the members beforehand.
        - `--yes`: Begin at once, without asking.
        - `--yes-this-room`: Confirm that you mean the admin room itself.
        Example: `!upgrade #community:example.org 12 --reason "New rules about creators"`
        "#);
        insta::assert_snapshot!(help(Some(&grammar::topic("Status").unwrap())), @r#"
        `!upgrade status [id|room]`
        Show one upgrade, or all that are running.
        - `[id|room]`: The number of a job, or its room.
        Example: `!upgrade status 7`
        "#);
    }

    #[test]
    fn every_example_is_a_command_of_its_topic() {
        let line = Line::command();
        for command in line.get_subcommands() {
            let example = command.get_after_help().expect("an example").to_string();
            let parsed = parse(&Incoming {
                body: &example,
                formatted_body: None,
            });
            assert!(matches!(parsed, Some(Ok(_))), "{example}: {parsed:?}");
            if command.get_name() != DEFAULT_VERB {
                let prefix = format!("{PREFIX} {}", command.get_name());
                assert!(example.starts_with(&prefix), "{example}");
            }
            let asked = format!("{PREFIX} {} --help", command.get_name());
            let parsed = parse(&Incoming {
                body: &asked,
                formatted_body: None,
            });
            let topic = grammar::topic(command.get_name()).unwrap();
            assert_eq!(parsed, Some(Ok(Command::Help(Some(topic)))));
        }
    }
}
