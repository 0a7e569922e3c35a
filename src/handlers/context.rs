//! What handlers work with, and what they have in common to write. Left out: who may do what
//! (`authorise`), and reading jobs and rooms (`lookup`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ruma::{RoomId, RoomVersionId};

use super::flood::Asked;
use crate::announce;
use crate::campaign::{self, Campaign};
use crate::clock::Clock;
use crate::clock::quiet_hours::QuietHours;
use crate::homeserver::Homeserver;
use crate::job::{Entry, Job};
use crate::message::answer;
use crate::model::DatabaseMark;
use crate::permissions::AdminRoom;
use crate::store::post_key::Unasked;
use crate::store::{Outgoing, Post, PostKey, Store, StoreError, Write};

/// What is said unasked is counted by the hour.
const HOUR_SECONDS: i64 = 60 * 60;

/// What handlers work with.
pub(crate) struct HandlerContext {
    pub store: Arc<Store>,
    /// The homeserver, for reading.
    pub port: Arc<dyn Homeserver>,
    pub clock: Arc<dyn Clock>,
    pub admin_rooms: Vec<AdminRoom>,
    /// How old a command may be when the bot gets to read it.
    pub max_command_age: Duration,
    /// When nobody is pinged.
    pub quiet_hours: Option<QuietHours>,
    /// The version that rooms are to have.
    pub version: RoomVersionId,
    /// The time zone of times without one.
    pub time_zone: Option<String>,
    /// Patterns of user ids whose invitations are accepted, beside those who may command.
    pub inviters: Vec<String>,
    /// Commands of the last minute.
    pub asked: Mutex<Asked>,
}

impl HandlerContext {
    /// Says in each admin room, once, that another database has taken over.
    pub(super) fn say_replaced(&self, by: &DatabaseMark) -> Result<(), StoreError> {
        let posts = self.admin_rooms.iter().map(|admin_room| {
            Write::Enqueue(Outgoing {
                key: PostKey::Replaced {
                    told: admin_room.room_id.clone(),
                    since: by.since,
                },
                room_id: admin_room.room_id.clone(),
                post: Post::Message {
                    text: answer::replaced(by),
                    reply_to: None,
                },
            })
        });
        self.store
            .commit(self.clock.now(), &posts.collect::<Vec<_>>())
    }

    /// Ends a campaign before it began, and the jobs that waited for it.
    pub(super) fn end_campaign(
        &self,
        campaign: &Campaign,
        entry: campaign::Entry,
        jobs: &Entry,
    ) -> Result<Vec<Write>, StoreError> {
        let open = self.store.open_jobs_of(campaign.id)?;
        announce::campaign::end(campaign, &open, entry, jobs, self.clock.now())
    }

    /// The key of something that is said unasked: so often in an hour and room, and then no more.
    /// `None`: it was said often enough.
    pub(super) fn rate_limited_key(
        &self,
        about: Unasked,
        room: &RoomId,
        most: usize,
    ) -> Result<Option<PostKey>, StoreError> {
        let hour = self.clock.now().as_second().div_euclid(HOUR_SECONDS);
        for nth in 0..most {
            let key = PostKey::RateLimited {
                about,
                told: room.to_owned(),
                hour,
                nth,
            };
            if !self.store.is_enqueued(&key)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The writes that move a job on.
    pub(super) fn advance(&self, job: &Job, entry: Entry) -> Result<Vec<Write>, StoreError> {
        announce::advance(job, vec![entry], self.clock.now())
    }
}
