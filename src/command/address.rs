//! Messages that call the bot by its name, in place of the prefix.
//!
//! Only the name of a command may follow, or nothing: nobody upgrades a room by talking about it.

use ruma::UserId;

use super::{PREFIX, grammar, pills, reference, without_quoted_reply, words};
use crate::model::Addressee;

/// What may stand between a name and what is said to it.
const AFTER_NAME: [char; 2] = [':', ','];

/// Longest name that is taken for the bot's where only the mention says that it is.
const MAX_NAME_CHARS: usize = 60;

/// The message as a command with its prefix; `None` if it does not call the bot, or asks nothing of it.
#[must_use]
pub fn addressed(
    own: &UserId,
    body: &str,
    formatted_body: Option<&str>,
    addressee: Addressee,
) -> Option<String> {
    let with_links = formatted_body.and_then(pills::text_with_links);
    let said = match with_links.as_deref().and_then(|text| after_pill(text, own)) {
        Some(said) => said,
        None => after_name(without_quoted_reply(body), own, addressee)?,
    };
    let said = said.trim_start_matches(AFTER_NAME).trim();
    let is_command = said.split_whitespace().next().is_none_or(grammar::is_verb);
    is_command.then(|| format!("{PREFIX} {said}"))
}

/// What follows a link to the bot.
fn after_pill<'a>(text: &'a str, own: &UserId) -> Option<&'a str> {
    let text = text.trim_start();
    let (link, said) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    let user = reference::user(link.trim_end_matches(AFTER_NAME)).ok()?;
    (reference::is_link(link) && user == own).then_some(said)
}

/// What follows the bot's name: its id, the first part of it, or any name where the message mentions the
/// bot alone.
fn after_name<'a>(body: &'a str, own: &UserId, addressee: Addressee) -> Option<&'a str> {
    let body = body.trim_start_matches(|c: char| c.is_whitespace() || words::is_invisible(c));
    let after = |name: &str| {
        let (start, said) = body.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(said)
    };
    let ends_name = |said: &&str| {
        let next = said.chars().next();
        next.is_none_or(|c| c.is_whitespace() || AFTER_NAME.contains(&c))
    };
    let id = [own.as_str(), &format!("@{}", own.localpart())]
        .into_iter()
        .filter_map(after)
        .find(ends_name);
    let name = || after(own.localpart()).filter(|said| said.starts_with(AFTER_NAME));
    let any_name = || {
        let (name, said) = body.split_at(body.find(AFTER_NAME)?);
        let is_name = addressee == Addressee::BotAlone && name.chars().count() <= MAX_NAME_CHARS;
        is_name.then_some(said)
    };
    id.or_else(name).or_else(any_name)
}
