//! `!upgrade doctor`: how the bot itself is, and what a server admin's account can do about it.

use ruma::{OwnedUserId, RoomId};

use super::{Call, HandleError, HandlerContext};
use crate::command::{DoctorAction, Need};
use crate::homeserver::HomeserverError;
use crate::homeserver::admin::RoomPower;
use crate::message::doctor;
use crate::model::{RoomName, RoomRef};
use crate::room::authority;
use crate::room::level::Allowance;
use crate::store::Write;
use crate::survey;
use crate::telemetry::chain;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    action: DoctorAction,
) -> Result<Vec<Write>, HandleError> {
    match action {
        DoctorAction::Look => {
            let database = context.store.facts()?;
            let now = context.clock.now();
            let port = &*context.port;
            let found = survey::checkup::checkup(
                port,
                &context.admin_rooms,
                &context.version,
                database,
                now,
            )
            .await?;
            Ok(call.answer(doctor::report(&found)))
        }
        DoctorAction::LiftLimits => {
            let Some(admin) = context.port.admin() else {
                return Err(doctor::no_admin().into());
            };
            match admin.lift_limits().await {
                Ok(()) => Ok(call.answer(doctor::lifted())),
                Err(HomeserverError::Refused { message, .. }) => {
                    Err(doctor::refused(&message).into())
                }
                Err(error) => Err(error.into()),
            }
        }
        DoctorAction::TakePower(room) => take_power(context, call, &room).await,
    }
}

/// Has the server make the bot admin of a room, and goes there.
async fn take_power(
    context: &HandlerContext,
    call: &Call<'_>,
    named: &RoomRef,
) -> Result<Vec<Write>, HandleError> {
    let admin = context
        .port
        .admin()
        .filter(|admin| admin.room_power() == RoomPower::WhenTold);
    let Some(admin) = admin else {
        return Err(doctor::no_room_power().into());
    };
    let room = context.find(named).await?;
    context.authorise_room(call, Need::Change, &room).await?;
    let through = helper(context, &room).await?;
    match admin.make_room_admin(&room, context.port.account()).await {
        Ok(()) => {}
        Err(HomeserverError::Refused { message, .. }) => {
            return Err(doctor::no_power_there(&message).into());
        }
        Err(error) => return Err(error.into()),
    }
    // Power was given: whatever fails from here on, that is said.
    match go_there(context, &room).await {
        Ok(allowance) => Ok(call.answer(doctor::powerful(&room, through.as_deref(), allowance))),
        Err(HomeserverError::Refused { message, .. }) => {
            Err(doctor::not_there(&room, &message).into())
        }
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "cannot look at a room in which power was given"
            );
            Err(doctor::not_there(&room, "there was no answer").into())
        }
    }
}

/// Joins the room, and looks what the bot may do there.
async fn go_there(context: &HandlerContext, room: &RoomId) -> Result<Allowance, HomeserverError> {
    let named = RoomRef {
        name: RoomName::Id(room.to_owned()),
        via: vec![],
    };
    context.port.join(&named).await?;
    let account = context.port.account();
    let allowance = survey::target_power(&*context.port, room, account).await?;
    Ok(allowance.unwrap_or(Allowance::UNKNOWN))
}

/// In whose name the server acts; `None` where the bot cannot read the room.
async fn helper(
    context: &HandlerContext,
    room: &RoomId,
) -> Result<Option<OwnedUserId>, HandleError> {
    match context.port.state(room).await {
        Ok(state) => Ok(authority::local_helper(&state, context.port.server_name())),
        Err(HomeserverError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
