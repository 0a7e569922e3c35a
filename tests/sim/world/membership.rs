//! Joining, leaving, inviting, banning.

use roomlift::room::state::Content;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::{Value, json};

use super::{Answer, Levels, Room, World, content, forbidden, refuse};

impl World {
    /// Whether a join rule lets somebody in.
    fn may_enter(&self, by: &UserId, room: &Room) -> Answer<()> {
        match room.membership(by) {
            "ban" => return forbidden("You are banned from this room"),
            "invite" => return Ok(()),
            _ => {}
        }
        let rules = room.content("m.room.join_rules", "");
        let rule = rules
            .and_then(|rules| rules.get("join_rule"))
            .and_then(Value::as_str)
            .unwrap_or("invite");
        match rule {
            "public" => Ok(()),
            "restricted" | "knock_restricted" => {
                let allow = rules.and_then(|rules| rules.get("allow"));
                let allow = allow.and_then(Value::as_array).into_iter().flatten();
                let is_in = |entry: &Value| {
                    let id = entry.get("room_id").and_then(Value::as_str);
                    id.and_then(|id| <&RoomId>::try_from(id).ok())
                        .and_then(|id| self.rooms.get(id))
                        .is_some_and(|other| other.membership(by) == "join")
                };
                if !allow.into_iter().any(is_in) {
                    return forbidden(
                        "You do not belong to any of the required rooms/spaces to join this room.",
                    );
                }
                // Somebody of this server has to vouch.
                let levels = Levels::of(room);
                let vouches = room
                    .members("join")
                    .iter()
                    .any(|member| levels.of_user(member) >= levels.invite);
                if vouches {
                    Ok(())
                } else {
                    refuse(400, "M_UNABLE_TO_GRANT_JOIN", "No one can vouch")
                }
            }
            _ => forbidden("You are not invited to this room."),
        }
    }

    /// Joins a room.
    pub(crate) fn join(&mut self, by: &UserId, id: &RoomId) -> Answer<OwnedRoomId> {
        let Some(room) = self.rooms.get(id) else {
            return refuse(
                404,
                "M_NOT_FOUND",
                "Can't join remote room because no servers that are in the room have been provided.",
            );
        };
        if room.membership(by) == "join" {
            return Ok(id.to_owned());
        }
        self.may_enter(by, room)?;
        self.set_member(id, by, by, content(json!({ "membership": "join" })));
        Ok(id.to_owned())
    }

    /// Leaves a room, or declines an invitation.
    pub(crate) fn leave(&mut self, by: &UserId, id: &RoomId) -> Answer<()> {
        match self.rooms.get(id).map(|room| room.membership(by)) {
            Some("join" | "invite" | "knock") => {
                self.set_member(id, by, by, content(json!({ "membership": "leave" })));
                Ok(())
            }
            Some(_) => forbidden("User is not in the room"),
            None => refuse(404, "M_UNKNOWN", "Not a known room"),
        }
    }

    /// Asks to be let in.
    pub(crate) fn knock(&mut self, by: &UserId, id: &RoomId) -> Answer<()> {
        let room = self.room(id)?;
        let rules = room.content("m.room.join_rules", "");
        let rule = rules.and_then(|rules| rules.get("join_rule")?.as_str());
        if !matches!(rule, Some("knock" | "knock_restricted")) || room.membership(by) == "ban" {
            return forbidden("You cannot knock on this room");
        }
        self.set_member(id, by, by, content(json!({ "membership": "knock" })));
        Ok(())
    }

    /// Invites somebody.
    pub(crate) fn invite(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        let room = self.room_of(by, id)?;
        let levels = Levels::of(room);
        match room.membership(user) {
            "ban" => return forbidden(format!("{user} is banned from the room")),
            "join" => return forbidden(format!("{user} is already in the room.")),
            _ => {}
        }
        if levels.of_user(by) < levels.invite {
            return forbidden("You don't have permission to invite users");
        }
        self.set_member(id, by, user, member("invite", reason));
        Ok(())
    }

    /// Removes somebody, who may come back.
    pub(crate) fn kick(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        let room = self.room_of(by, id)?;
        if !matches!(room.membership(user), "join" | "invite" | "knock" | "ban") {
            return forbidden("The target user is not in the room");
        }
        let levels = Levels::of(room);
        let need = if room.membership(user) == "ban" {
            levels.ban
        } else {
            levels.kick
        };
        let (mine, theirs) = (levels.of_user(by), levels.of_user(user));
        if mine < need || mine <= theirs {
            return forbidden(format!("You cannot kick user {user}."));
        }
        self.set_member(id, by, user, member("leave", reason));
        Ok(())
    }

    /// Lifts a ban.
    pub(crate) fn unban(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        if self.room_of(by, id)?.membership(user) != "ban" {
            return forbidden("Cannot unban user who was not banned");
        }
        self.kick(by, id, user, reason)
    }

    /// Bans somebody.
    pub(crate) fn ban(
        &mut self,
        by: &UserId,
        id: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Answer<()> {
        let room = self.room_of(by, id)?;
        let levels = Levels::of(room);
        let (mine, theirs) = (levels.of_user(by), levels.of_user(user));
        if mine < levels.ban || mine <= theirs {
            return forbidden("You don't have permission to ban");
        }
        self.set_member(id, by, user, member("ban", reason));
        Ok(())
    }

    /// A membership as a state event.
    pub(super) fn put_member(
        &mut self,
        by: &UserId,
        id: &RoomId,
        key: &str,
        content: &Content,
    ) -> Answer<ruma::OwnedEventId> {
        let Ok(user) = <&UserId>::try_from(key) else {
            return refuse(400, "M_INVALID_PARAM", "Invalid user id");
        };
        let reason = content.get("reason").and_then(Value::as_str);
        match content.get("membership").and_then(Value::as_str) {
            Some("join") if user == by => self.join(by, id).map(drop)?,
            Some("leave") if user == by => self.leave(by, id)?,
            Some("leave") => self.kick(by, id, user, reason)?,
            Some("ban") => self.ban(by, id, user, reason)?,
            Some("invite") => self.invite(by, id, user, reason)?,
            _ => return forbidden("Cannot set that membership"),
        }
        let event = self.room(id)?.event("m.room.member", key);
        Ok(event.expect("it was set").id.clone())
    }

    /// Sets a membership without a question. Synapse moves what members keep for themselves when
    /// a member of another server joins; those of this server it moves with its own upgrade.
    pub(super) fn set_member(&mut self, id: &RoomId, by: &UserId, user: &UserId, content: Content) {
        self.append(id, by, "m.room.member", Some(user.as_str()), content);
    }
}

fn member(membership: &str, reason: Option<&str>) -> Content {
    let mut member = content(json!({ "membership": membership }));
    if let Some(reason) = reason {
        member.insert("reason".to_owned(), json!(reason));
    }
    member
}
