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
        "An upgrade of a room is a job with a number, such as `7`; one of a whole space is a campaign, \
         such as `C7`. The number stands in its plan. The switch is the moment from which the old room \
         leads to the new one."
            .to_owned(),
    );
    lines.push(format!(
        "Type `{PREFIX} help plan` to read more about `plan`, and likewise for the others."
    ));
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
        - `!upgrade space <space> [version] [options]`: Upgrade every room of a space, nested spaces too. You see one plan for all of them first.
        - `!upgrade plan <room> [version] [options]`: Show what an upgrade would do, without doing it. For a space: that of all its rooms.
        - `!upgrade adopt <old room> [options]`: Finish an upgrade that somebody began with another program. You see the plan first.
        - `!upgrade confirm <id>`: Say yes to a plan, or to a new room that you looked at.
        - `!upgrade cancel <id>`: Drop a plan, or stop a job while that is still possible.
        - `!upgrade pause [id]`: Stop after what is at hand, until you say `resume`. Without a number: everything.
        - `!upgrade resume [id]`: Go on after a pause. Without a number: everything.
        - `!upgrade status [id|room]`: Show how a job is doing, or all that are running.
        - `!upgrade list [--all]`: List the latest jobs.
        - `!upgrade retry <id>`: Try again after a job got stuck.
        - `!upgrade verify <id|room>`: Compare the rooms once more, mend what can be mended, and tick off what is done.
        - `!upgrade rooms [space]`: List the rooms that can be upgraded from here: their versions, and what hinders.
        - `!upgrade report <id>`: Send the full record of a job, as files.
        - `!upgrade stragglers <id|room>`: List who has not come to the new room yet.
        - `!upgrade ping <id|room> [now|off|durations]`: Show when those who have not come are pinged, ping them now, or change the times.
        - `!upgrade doctor [options]`: Say how I am: server, rate limits, encryption, database, clock, and power in the rooms.
        - `!upgrade help [command]`: Explain the commands, or one of them.
        An upgrade of a room is a job with a number, such as `7`; one of a whole space is a campaign, such as `C7`. The number stands in its plan. The switch is the moment from which the old room leads to the new one.
        Type `!upgrade help plan` to read more about `plan`, and likewise for the others.
        "#);
    }

    #[test]
    fn a_topic_shows_usage_options_and_an_example() {
        insta::assert_snapshot!(help(Some(&grammar::topic("upgrade").unwrap())), @r#"
        `!upgrade <room> [version] [options]`
        Upgrade a room. You see the plan first, and nothing changes before you say yes.
        - `<room>`: The room: its address, its id, or a link to it.
        - `[version]`: The room version to upgrade to. Without it, the configured one.
        - `--version <version>`: The room version, written as an option.
        - `--method <method>`: How the new room is made: by the server, or by me (`staged`); `auto` takes what suits the room. Can be: `auto`, `server`, `staged`.
        - `--review`: Make the new room and let moderators look at it, before anybody is sent there.
        - `--invite <who>`: Who is invited to the new room. Can be: `auto`, `all`, `none`.
        - `--join-rule <rule>`: What becomes of a room that is by invitation: its members can join the new one, or it stays. Can be: `restricted`, `keep`.
        - `--policies <what>`: What becomes of the rules of a policy room (ban list): I copy them, or they stay and both rooms are watched. Can be: `move`, `transition`.
        - `--room-type <type>`: The type that the new room of a policy room gets; without it, that of the old room. Can be: `m.policy`.
        - `--creator <@user:server>`: One more creator of the new room. Can be given several times.
        - `--reason <text>`: Why, in quotation marks. Members will read it.
        - `--ping <durations|off>`: When those who have not come are pinged after the switch, such as `1d,3d,7d`; or `off`.
        - `--at <time>`: When to begin, with the time zone: `20:00 Europe/Berlin` or `2026-12-01T20:00+01:00`.
        - `--in <duration>`: How long to wait before it begins, such as `2h` or `3d`.
        - `--announce`: Tell the members beforehand.
        - `--yes`: Begin at once, without asking.
        - `--yes-this-room`: Yes, upgrade the very room in which the bot takes commands.
        Example: `!upgrade #community:example.org 12 --reason "New rules about creators"`
        "#);
        insta::assert_snapshot!(help(Some(&grammar::topic("Status").unwrap())), @r#"
        `!upgrade status [id|room]`
        Show how a job is doing, or all that are running.
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
