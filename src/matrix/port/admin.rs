//! Synapse's admin API.
//!
//! Source: Synapse documentation, "User Admin API" (override rate limits) and "Room Admin API" (make
//! room admin, delete room version 2).

use async_trait::async_trait;
use ruma::exports::http::Method;
use ruma::{RoomId, UserId};
use serde_json::{Value, json};

use super::Port;
use crate::checkup::Limits;
use crate::homeserver::admin::{RoomPower, ServerAdmin};
use crate::homeserver::{Bucket, REQUEST_TIMEOUT, Result};
use crate::matrix::wire::requests::{self, Answer};
use crate::matrix::wire::{Purpose, once};
use crate::metrics::RequestKind;

/// The keys of an override. Zero means without limit, for requests of all kinds; any other number
/// is a limit for messages only (measured).
const OVERRIDE: [&str; 2] = ["messages_per_second", "burst_count"];

impl Port {
    async fn administer(
        &self,
        what: Purpose,
        method: Method,
        path: [&str; 4],
        body: Option<Value>,
    ) -> Result<Answer> {
        let request = requests::admin(method, path, body);
        let answer = self
            .client
            .send(request)
            .with_request_config(once(REQUEST_TIMEOUT))
            .into_future();
        self.ask(Bucket::Everything, what, answer).await
    }
}

#[async_trait]
impl ServerAdmin for Port {
    fn room_power(&self) -> RoomPower {
        self.room_power.unwrap_or(RoomPower::Never)
    }

    async fn limits(&self) -> Result<Limits> {
        let path = ["v1", "users", self.account.as_str(), "override_ratelimit"];
        let what = Purpose::new(RequestKind::Read, "the rate limits of the account");
        let answer = self.administer(what, Method::GET, path, None).await?;
        let is_zero = |key: &&str| {
            let value = answer.0.get(*key);
            // A number that is not set counts as zero, once there is an override at all.
            !answer.0.is_empty() && value.is_none_or(|value| value.as_i64().unwrap_or(0) == 0)
        };
        Ok(if OVERRIDE.iter().all(is_zero) {
            Limits::Lifted
        } else {
            Limits::Apply
        })
    }

    async fn lift_limits(&self) -> Result<()> {
        let path = ["v1", "users", self.account.as_str(), "override_ratelimit"];
        let [rate, burst] = OVERRIDE;
        let body = json!({ rate: 0, burst: 0 });
        let what = Purpose::new(RequestKind::Lift, "the rate limits of the account");
        self.administer(what, Method::POST, path, Some(body))
            .await
            .map(drop)
    }

    async fn make_room_admin(&self, room: &RoomId, user: &UserId) -> Result<()> {
        let path = ["v1", "rooms", room.as_str(), "make_room_admin"];
        let what = Purpose::new(RequestKind::Make, format!("{user} admin of {room}"));
        let body = json!({ "user_id": user });
        self.administer(what, Method::POST, path, Some(body))
            .await
            .map(drop)
    }

    async fn delete_room(&self, room: &RoomId) -> Result<()> {
        let path = ["v2", "rooms", room.as_str(), ""];
        let what = Purpose::new(RequestKind::Delete, room.as_str());
        let body = json!({ "purge": true });
        self.administer(what, Method::DELETE, path, Some(body))
            .await
            .map(drop)
    }
}
