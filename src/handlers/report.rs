//! `!upgrade report <id>`: the whole record of a job or campaign, as a text and as JSON.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::message::emoji;
use crate::message::record::{record, record_of_campaign};
use crate::model::WorkId;
use crate::store::post_key::RecordFormat;
use crate::store::{Outgoing, Post, PostKey, StoreError, Write};

pub(super) fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    id: WorkId,
) -> Result<Vec<Write>, HandleError> {
    let record = match context.work(call, id)? {
        Work::Job(job, state) => {
            let snapshot = context.store.snapshot(job.id)?;
            record(&job, &state, snapshot.as_ref(), context.clock.now())
        }
        Work::Campaign(campaign, _) => {
            let children = context.store.children(campaign.id)?;
            record_of_campaign(&campaign, &children, context.clock.now())
        }
    };
    let record = record.map_err(StoreError::Encode)?;
    let event = &call.received.event_id;
    let file = |format, extension: &str, content_type: &str, body: String| {
        Write::Enqueue(Outgoing {
            key: PostKey::Record(event.clone(), format),
            room_id: call.received.room_id.clone(),
            post: Post::File {
                name: format!("upgrade-{id}.{extension}"),
                content_type: content_type.to_owned(),
                body,
                reply_to: Some(event.clone()),
            },
        })
    };
    Ok(vec![
        file(
            RecordFormat::Txt,
            "txt",
            "text/plain; charset=utf-8",
            record.text,
        ),
        file(RecordFormat::Json, "json", "application/json", record.json),
        call.react(emoji::YES),
    ])
}
