//! The record of a campaign: where each of its rooms stands, and its own log. What happened to one room
//! stands in the record of its job.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{LeftOut, Line, Record, Room, utc};
use crate::campaign::{Campaign, Child};
use crate::job::Summary;

#[derive(Serialize)]
struct File<'a> {
    written_at: Timestamp,
    roomlift: &'static str,
    campaign: String,
    created_at: Timestamp,
    request: &'a crate::campaign::Request,
    left_out: LeftOut,
    rooms: Vec<Value>,
    log: Vec<Line>,
}

/// A room in it.
#[derive(Serialize)]
struct OfRoom<'a> {
    job: i64,
    old_room: &'a str,
    rank: u32,
    phase: &'static str,
    summary: &'a Summary,
}

/// The record of a campaign, as it is now.
///
/// # Errors
/// When it cannot be written as JSON, which is a bug.
pub(crate) fn record_of_campaign(
    campaign: &Campaign,
    children: &[Child],
    now: Timestamp,
) -> serde_json::Result<Record> {
    let mut room = Room::default();
    let mut rooms = Vec::new();
    for child in children {
        rooms.extend(room.take(&OfRoom {
            job: child.id.0,
            old_room: child.old_room.as_str(),
            rank: child.rank,
            phase: child.phase.name(),
            summary: &child.summary,
        })?);
    }
    let log = room.take_log(&campaign.log)?;
    let file = File {
        written_at: now,
        roomlift: env!("CARGO_PKG_VERSION"),
        campaign: campaign.id.to_string(),
        created_at: campaign.created_at,
        request: &campaign.request,
        left_out: room.left_out(),
        rooms,
        log,
    };
    Ok(Record {
        json: serde_json::to_string_pretty(&file)?,
        text: text(campaign, children, now),
    })
}

fn text(campaign: &Campaign, children: &[Child], now: Timestamp) -> String {
    let request = &campaign.request;
    let mut text = format!(
        "Campaign {} for the space {}\nAsked for by {} at {}\nWritten at {}. All times are in UTC.\n\n",
        campaign.id,
        request.space,
        request.sender,
        utc(campaign.created_at),
        utc(now)
    );
    for child in children {
        let new = child.summary.new_room.as_ref();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "#{} {}: {} {}{}{}",
            child.id,
            child.phase.name(),
            child.old_room,
            child.summary.label,
            new.map(|new| format!(" -> {new}")).unwrap_or_default(),
            child
                .summary
                .problem
                .as_ref()
                .map(|problem| format!(" ({problem})"))
                .unwrap_or_default()
        );
    }
    text.push_str("\n`!upgrade report` with the number of a room sends what happened to it.\n");
    text
}
