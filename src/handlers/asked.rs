//! What the commands that make a job or a campaign have in common. Left out: making it.

use super::{HandleError, HandlerContext};
use crate::command::Need;
use crate::command::when::When;
use crate::message::doc::lines;
use crate::model::{Confirmation, UpgradeOptions};

/// What it takes to ask for this: a plan to be looked at changes nothing.
pub(super) fn need(confirmation: Confirmation) -> Need {
    match confirmation {
        Confirmation::PlanOnly => Need::Ask,
        Confirmation::Ask | Confirmation::Given => Need::Change,
    }
}

/// The options with the moment at which it is to begin.
pub(super) fn options(
    context: &HandlerContext,
    mut options: UpgradeOptions,
    when: Option<&When>,
) -> Result<UpgradeOptions, HandleError> {
    if let Some(when) = when {
        let start = when.resolve(context.clock.now(), context.time_zone.as_deref());
        let start = start.map_err(|problem| lines(&problem.to_string()))?;
        options.start = Some(start);
    }
    Ok(options)
}
