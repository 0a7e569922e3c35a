//! Which rooms can be touched from an admin room, from what sync told: one pass over it, however
//! many rooms there are. The only requests are those that resolve addresses in a scope.
//!
//! Left out: how a room stands (`room::inventory`), and showing it (`message`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::{OwnedRoomId, RoomId, RoomVersionId};

use super::{SPACE_WALK_ROOMS_MAX, follow};
use crate::config::Scope;
use crate::homeserver::{Homeserver, Result, ToldRoom};
use crate::room::inventory::{Entry, joined, not_joined};
use crate::room::state::RoomState;
use crate::room::target::is_link;

/// The rooms of a scope, or of one space in it, each once.
///
/// # Errors
/// When the homeserver does not answer.
pub(crate) async fn inventory(
    port: &dyn Homeserver,
    scope: &Scope,
    space: Option<&RoomId>,
    wanted: &RoomVersionId,
    admin_rooms: &BTreeSet<OwnedRoomId>,
) -> Result<Vec<Entry>> {
    let told = port.told_rooms().await?;
    let roots = match (space, scope) {
        (Some(space), _) => vec![space.to_owned()],
        (None, Scope::Everything) => told.iter().map(|told| told.state.room_id.clone()).collect(),
        (None, Scope::Only(named)) => {
            let mut roots = Vec::new();
            for name in named {
                roots.extend(match <&RoomId>::try_from(&**name) {
                    Ok(id) => Some(id.to_owned()),
                    Err(alias) => follow(port, alias).await?,
                });
            }
            roots
        }
    };
    let told: BTreeMap<_, _> = told
        .iter()
        .map(|told| (&*told.state.room_id, told))
        .collect();
    let label_of = |id: &OwnedRoomId| {
        told.get(&**id)
            .map_or_else(|| id.to_string(), |told| told.state.label())
    };
    Ok(reached(roots, &told)
        .into_iter()
        .map(|(id, listed_by)| match told.get(&*id) {
            Some(found) => joined(
                &found.state,
                found.members,
                port.account(),
                wanted,
                admin_rooms,
                label_of,
            ),
            None => not_joined(id, listed_by.as_ref().map(label_of)),
        })
        .collect())
}

/// The roots and all that is below them, each with the space that it was found in first.
fn reached(
    roots: Vec<OwnedRoomId>,
    told: &BTreeMap<&RoomId, &ToldRoom>,
) -> BTreeMap<OwnedRoomId, Option<OwnedRoomId>> {
    let mut reached = BTreeMap::new();
    let mut queue: VecDeque<_> = roots.into_iter().map(|root| (root, None)).collect();
    while let Some((room, listed_by)) = queue.pop_front() {
        if reached.len() >= SPACE_WALK_ROOMS_MAX || reached.contains_key(&room) {
            continue;
        }
        if let Some(found) = told.get(&*room) {
            let below = children(&found.state).into_iter();
            queue.extend(below.map(|child| (child, Some(room.clone()))));
        }
        reached.insert(room, listed_by);
    }
    reached
}

fn children(space: &RoomState) -> BTreeSet<OwnedRoomId> {
    space
        .of_kind("m.space.child")
        .filter(|link| is_link(&link.content))
        .filter_map(|link| link.state_key.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::room::state::tests::room;

    #[test]
    fn each_room_is_found_once_whatever_points_where() {
        let space = |id: &str, children: &[&str]| {
            let via = json!({"via": ["x"]});
            let mut events: Vec<_> = children
                .iter()
                .map(|child| ("m.space.child", *child, "@a:x", via.clone()))
                .collect();
            // Neither of these is a link.
            events.push(("m.space.child", "!gone:x", "@a:x", json!({})));
            events.push(("m.space.child", "nonsense", "@a:x", via.clone()));
            ToldRoom {
                state: room(id, &events),
                members: 1,
            }
        };
        let rooms = [
            space("!top:x", &["!a:x", "!inner:x", "!top:x"]),
            space("!inner:x", &["!a:x", "!far:x", "!top:x"]),
            space("!a:x", &[]),
            space("!other:x", &["!b:x"]),
        ];
        let told: BTreeMap<_, _> = rooms
            .iter()
            .map(|told| (&*told.state.room_id, told))
            .collect();
        let found = |roots: &[&str]| -> Vec<(String, Option<String>)> {
            let from = roots.iter().map(|root| root.parse().unwrap()).collect();
            reached(from, &told)
                .into_iter()
                .map(|(id, by)| (id.to_string(), by.map(|by| by.to_string())))
                .collect()
        };
        let row = |id: &str, by: Option<&str>| (id.to_owned(), by.map(ToOwned::to_owned));
        let top = [
            row("!a:x", Some("!top:x")),
            row("!far:x", Some("!inner:x")),
            row("!inner:x", Some("!top:x")),
            row("!top:x", None),
        ];
        assert_eq!(found(&["!top:x"]), top);
        assert_eq!(found(&["!top:x", "!top:x"]), top);
        assert_eq!(
            found(&["!a:x", "!unknown:x"]),
            [row("!a:x", None), row("!unknown:x", None)]
        );
        assert_eq!(found(&[]), []);
    }
}
