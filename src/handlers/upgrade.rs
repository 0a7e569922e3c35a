//! `!upgrade <room>`, `!upgrade plan <room>` and `!upgrade adopt <old room>`: makes a job, whose
//! first step is the plan.

use super::{Call, HandleError, HandlerContext, asked, space};
use crate::command::{SpaceCommand, UpgradeCommand};
use crate::job::Request;
use crate::model::Confirmation;
use crate::room::state::RoomState;
use crate::store::Write;
use crate::survey::surroundings::told;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    wanted: UpgradeCommand,
) -> Result<Vec<Write>, HandleError> {
    let options = asked::options(context, wanted.options, wanted.when.as_ref())?;
    let old_room = context.find(&wanted.room).await?;
    let need = asked::need(wanted.confirmation);
    context.authorise_room(call, need, &old_room).await?;
    // Whoever wants to see the plan of a space means that of its rooms.
    if wanted.confirmation == Confirmation::PlanOnly
        && told(&*context.port)
            .await?
            .get(&old_room)
            .is_some_and(RoomState::is_space)
    {
        let whole = SpaceCommand {
            space: wanted.room,
            options,
            when: None,
            only: Vec::new(),
            skip: Vec::new(),
            from: None,
            confirmation: wanted.confirmation,
        };
        return space::run(context, call, whole).await;
    }
    Ok(vec![Write::CreateJob(Box::new(Request {
        named: wanted.room,
        old_room,
        options,
        confirmation: wanted.confirmation,
        sender: call.sender().to_owned(),
        admin_room: call.admin_room.room_id.clone(),
        command_event: call.received.event_id.clone(),
        campaign: None,
    }))])
}
