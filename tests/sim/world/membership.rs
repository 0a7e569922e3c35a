//! Joining, leaving, inviting, banning.
//!
//! Source: Synapse 1.163.2, `RoomMemberHandler.update_membership_locked`; Matrix specification,
//! "Authorization rules", `m.room.member`.

use roomlift::room::state::Content;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json};

use super::{Answer, Levels, Room, SERVER, World, content, forbidden, refuse};

/// Whether a version of rooms knows a join rule.
fn knows_rule(version: &str, rule: &str) -> bool {
    let version: u32 = version.parse().unwrap_or(0);
    match rule {
        "public" | "invite" => true,
        "knock" => version >= 7,
        "restricted" => version >= 8,
        "knock_restricted" => version >= 10,
        _ => false,
    }
}

/// How people get in.
fn join_rule(room: &Room) -> &str {
    let rules = room.content("m.room.join_rules", "");
    let rule = rules.and_then(|rules| rules.get("join_rule")?.as_str());
    rule.unwrap_or("invite")
}

/// Whether the rules of the room allow that somebody gives somebody a membership. What restricted
/// rooms ask for is asked before.
pub(super) fn may_be(room: &Room, by: &UserId, user: &UserId, membership: &str) -> Answer<()> {
    let levels = Levels::of(room);
    let (mine, theirs) = (levels.of_user(by), levels.of_user(user));
    let (own, before) = (room.membership(by), room.membership(user));
    if !["join", "knock"].contains(&membership) {
        if membership == "leave" && user == by && ["invite", "knock"].contains(&own) {
            return Ok(());
        }
        if own != "join" {
            return forbidden(format!("{by} not in room {}.", room.id));
        }
    }
    let rule = join_rule(room);
    let is_known = knows_rule(&room.version, rule);
    match membership {
        "invite" if before == "ban" => forbidden(format!("{user} is banned from the room")),
        "invite" if before == "join" => forbidden(format!("{user} is already in the room.")),
        "invite" if mine < levels.invite => forbidden("You don't have permission to invite users"),
        "join" if user != by => forbidden("Cannot force another user to join."),
        "join" if before == "ban" => forbidden("You are banned from this room"),
        "join" if !is_known => forbidden("You are not allowed to join this room"),
        "join" if ["invite", "knock"].contains(&rule) && !["invite", "join"].contains(&own) => {
            forbidden("You are not invited to this room.")
        }
        "leave" if before == "ban" && mine < levels.ban => {
            forbidden(format!("You cannot unban user {user}."))
        }
        "leave" if user != by && (mine < levels.kick || mine <= theirs) => {
            forbidden(format!("You cannot kick user {user}."))
        }
        "ban" if mine < levels.ban || mine <= theirs => {
            forbidden("You don't have permission to ban")
        }
        // Source: Synapse; the status is no slip here.
        "knock" if !knows_rule(&room.version, "knock") => {
            refuse(500, "M_FORBIDDEN", "Unknown membership knock")
        }
        "knock" if !is_known || !["knock", "knock_restricted"].contains(&rule) => {
            forbidden("You don't have permission to knock")
        }
        "knock" if user != by => forbidden("You cannot knock for other users"),
        "knock" if ["join", "invite", "ban"].contains(&own) => {
            forbidden("You cannot knock on this room")
        }
        _ => Ok(()),
    }
}

/// The same for a ban of somebody whose id is none by the specification.
pub(super) fn may_ban_odd(room: &Room, by: &UserId, user: &str) -> Answer<()> {
    if !user.contains(':') {
        return refuse(400, "M_UNKNOWN", format!("Invalid ID: {user}"));
    }
    let levels = Levels::of(room);
    let mine = levels.of_user(by);
    if room.membership(by) != "join" || mine < levels.ban || mine <= levels.users_default {
        return forbidden("You don't have permission to ban");
    }
    Ok(())
}

impl World {
    /// Who vouches for somebody that a restricted room lets in; nobody where that is not asked for.
    fn voucher(&self, by: &UserId, room: &Room) -> Answer<Option<String>> {
        let rule = join_rule(room);
        if !rule.ends_with("restricted")
            || !knows_rule(&room.version, rule)
            || ["join", "invite"].contains(&room.membership(by))
        {
            return Ok(None);
        }
        let levels = Levels::of(room);
        let mut vouching = room.members("join");
        vouching.retain(|member| {
            member.server_name() == SERVER && levels.of_user(member) >= levels.invite
        });
        let Some(voucher) = vouching.iter().max_by_key(|member| levels.of_user(member)) else {
            return refuse(400, "M_UNABLE_TO_GRANT_JOIN", "No one can vouch");
        };
        let rules = room.content("m.room.join_rules", "");
        let allow = rules.and_then(|rules| rules.get("allow")?.as_array());
        let is_in = |entry: &Value| {
            let id = entry.get("room_id").and_then(Value::as_str);
            id.and_then(|id| <&RoomId>::try_from(id).ok())
                .and_then(|id| self.rooms.get(id))
                .is_some_and(|other| other.membership(by) == "join")
        };
        if allow.into_iter().flatten().any(is_in) {
            return Ok(Some(voucher.to_string()));
        }
        forbidden("You do not belong to any of the required rooms/spaces to join this room.")
    }

    /// Changes a membership.
    fn change(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        action: &str,
        mut content: Content,
    ) -> Answer<OwnedEventId> {
        let Some(room) = self.rooms.get(id) else {
            return refuse(404, "M_UNKNOWN", "Not a known room");
        };
        let membership = match action {
            "kick" | "unban" => "leave",
            action => action,
        };
        content.insert("membership".to_owned(), json!(membership));
        let before = room.event("m.room.member", user.as_str());
        let was = before.and_then(|event| event.text("membership"));
        if action == "unban" && was.is_some_and(|was| was != "ban") {
            return refuse(403, "M_BAD_STATE", "Cannot unban user who was not banned");
        }
        if was == Some("ban") && !["ban", "unban", "leave"].contains(&action) {
            return refuse(
                403,
                "M_BAD_STATE",
                "Cannot do that to a user who was banned",
            );
        }
        if action == "kick" && matches!(was, None | Some("ban" | "leave")) {
            return forbidden("The target user is not in the room");
        }
        if let Some(same) = before
            && same.sender == by
            && same.content == content
        {
            return Ok(same.id.clone());
        }
        if membership == "join" && user == by {
            let voucher = self.voucher(by, room)?;
            if let Some(voucher) = voucher {
                content.insert(
                    "join_authorised_via_users_server".to_owned(),
                    json!(voucher),
                );
            }
        }
        may_be(room, by, user, membership)?;
        Ok(self.append(id, by, "m.room.member", Some(user.as_str()), content))
    }

    /// Joins a room.
    pub(crate) fn join(&mut self, by: &UserId, id: &RoomId) -> Answer<OwnedRoomId> {
        self.change(by, id, by, "join", Content::new())?;
        Ok(id.to_owned())
    }

    /// Leaves a room, or declines an invitation.
    pub(crate) fn leave(&mut self, by: &UserId, id: &RoomId) -> Answer<()> {
        self.change(by, id, by, "leave", Content::new()).map(drop)
    }

    /// Asks to be let in.
    pub(crate) fn knock(&mut self, by: &UserId, id: &RoomId) -> Answer<()> {
        self.change(by, id, by, "knock", Content::new()).map(drop)
    }

    /// Invites somebody.
    pub(crate) fn invite(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        self.change(by, id, user, "invite", because(reason))
            .map(drop)
    }

    /// Removes somebody, who may come back.
    pub(crate) fn kick(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        self.change(by, id, user, "kick", because(reason)).map(drop)
    }

    /// Lifts a ban.
    pub(crate) fn unban(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        self.change(by, id, user, "unban", because(reason))
            .map(drop)
    }

    /// Bans somebody, whatever they are called.
    pub(crate) fn ban(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: impl AsRef<str>,
        reason: Option<&str>,
    ) -> Answer<()> {
        let user = user.as_ref();
        if let Ok(user) = <&UserId>::try_from(user) {
            return self.change(by, id, user, "ban", because(reason)).map(drop);
        }
        let mut content = because(reason);
        content.insert("membership".to_owned(), json!("ban"));
        if !user.starts_with('@') || !user.contains(':') {
            return refuse(400, "M_INVALID_PARAM", "Expected UserID string");
        }
        may_ban_odd(self.room(id)?, by, user)?;
        self.append(id, by, "m.room.member", Some(user), content);
        Ok(())
    }

    /// A membership as a state event.
    pub(super) fn put_member(
        &mut self,
        by: &UserId,
        id: &RoomId,
        key: &str,
        content: &Content,
    ) -> Answer<OwnedEventId> {
        let Ok(user) = <&UserId>::try_from(key) else {
            return refuse(400, "M_INVALID_PARAM", "Invalid user id");
        };
        let action = content.get("membership").and_then(Value::as_str);
        match action {
            Some(action @ ("join" | "leave" | "ban" | "invite" | "knock")) => {
                self.change(by, id, user, action, content.clone())
            }
            _ => refuse(400, "M_UNKNOWN", "Invalid membership key"),
        }
    }

    /// Sets a membership without a question. Synapse moves what members keep for themselves when
    /// a member of another server joins; those of this server it moves with its own upgrade.
    pub(super) fn set_member(&mut self, id: &RoomId, by: &UserId, user: &UserId, content: Content) {
        self.append(id, by, "m.room.member", Some(user.as_str()), content);
    }
}

fn because(reason: Option<&str>) -> Content {
    reason.map_or_else(Content::new, |reason| content(json!({ "reason": reason })))
}
