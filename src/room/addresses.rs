//! Which addresses a room shows, or is to show: the content of `m.room.canonical_alias`.

use ruma::OwnedRoomAliasId;
use serde_json::{Value, json};

use super::change::Observed;
use super::state::Content;
use super::target::Target;

/// Content of the new room's canonical alias, with the addresses that lead there by now.
pub(crate) fn showable(target: &Target, now: &Observed) -> Content {
    let leads_to_new = |alias: &OwnedRoomAliasId| {
        let leads_to = now.aliases.get(alias).and_then(Option::as_ref);
        leads_to == Some(&now.new.room_id)
    };
    shown_by_new(target, leads_to_new)
}

/// Content of the old room's canonical alias without the addresses that lead to the new room by now, and with
/// those that went back; `None` where it shows just that.
pub(crate) fn left_in_old(target: &Target, now: &Observed) -> Option<Content> {
    let new_room = Some(&now.new.room_id);
    shown_by_old(target, now, |alias| {
        now.aliases.get(alias).and_then(Option::as_ref) == new_room
    })
}

/// Content of the new room's canonical alias, with those addresses that may be shown.
pub(super) fn shown_by_new(target: &Target, may: impl Fn(&OwnedRoomAliasId) -> bool) -> Content {
    let mut content = Content::new();
    if let Some(alias) = target.canonical.alias.as_ref().filter(|alias| may(alias)) {
        content.insert("alias".to_owned(), json!(alias));
    }
    let others: Vec<_> = target
        .canonical
        .alternatives
        .iter()
        .filter(|alias| may(alias))
        .collect();
    if !others.is_empty() {
        content.insert("alt_aliases".to_owned(), json!(others));
    }
    content
}

/// Content of the old room's canonical alias without the addresses that are moved, and with those that the server
/// stopped showing as the bot removed them, and that lead there again; `None` where it shows just that.
pub(super) fn shown_by_old(
    target: &Target,
    now: &Observed,
    moved: impl Fn(&OwnedRoomAliasId) -> bool,
) -> Option<Content> {
    let shown = now.old.event("m.room.canonical_alias", "")?;
    let mut rest = without(&shown.content, moved);
    if shown.sender == target.bot {
        let old_room = Some(&now.old.room_id);
        let went_back = |alias: &&OwnedRoomAliasId| {
            let leads_to = now.aliases.get(*alias).and_then(Option::as_ref);
            leads_to == old_room && target.aliases.contains(*alias)
        };
        if let Some(alias) = target.canonical.alias.as_ref().filter(went_back) {
            rest.entry("alias").or_insert_with(|| json!(alias));
        }
        let there = addresses_in(&rest);
        let others = target.canonical.alternatives.iter().filter(went_back);
        for alias in others.filter(|alias| !there.contains(alias)) {
            let others = rest.entry("alt_aliases").or_insert_with(|| json!([]));
            if let Value::Array(others) = others {
                others.push(json!(alias));
            }
        }
    }
    (rest != shown.content).then_some(rest)
}

/// The addresses that are shown, the main one first.
pub(crate) fn addresses_in(content: &Content) -> Vec<OwnedRoomAliasId> {
    let others = content.get("alt_aliases").and_then(Value::as_array);
    let all = content
        .get("alias")
        .into_iter()
        .chain(others.into_iter().flatten());
    all.filter_map(|alias| OwnedRoomAliasId::try_from(alias.as_str()?).ok())
        .collect()
}

/// What is shown, without some addresses.
pub(crate) fn without(content: &Content, left_out: impl Fn(&OwnedRoomAliasId) -> bool) -> Content {
    let is_left_out = |value: &Value| {
        value
            .as_str()
            .and_then(|alias| OwnedRoomAliasId::try_from(alias).ok())
            .is_some_and(|alias| left_out(&alias))
    };
    let mut rest = content.clone();
    if rest.get("alias").is_some_and(is_left_out) {
        rest.remove("alias");
    }
    if let Some(Value::Array(others)) = rest.get_mut("alt_aliases") {
        others.retain(|alias| !is_left_out(alias));
        if others.is_empty() {
            rest.remove("alt_aliases");
        }
    }
    rest
}
