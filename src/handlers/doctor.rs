//! `!upgrade doctor`: how the bot itself is, and what a server admin's account can do about it.

use ruma::{OwnedUserId, RoomId};

use super::{Call, Desk, HandleError};
use crate::command::{Need, Treatment};
use crate::homeserver::HomeserverError;
use crate::homeserver::admin::RoomPower;
use crate::message::doctor;
use crate::model::RoomRef;
use crate::room::authority;
use crate::room::power::Allowance;
use crate::store::Write;
use crate::survey;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    treatment: Treatment,
) -> Result<Vec<Write>, HandleError> {
    match treatment {
        Treatment::Look => {
            let database = desk.store.facts()?;
            let now = desk.clock.now();
            let port = &*desk.port;
            let found =
                survey::checkup::checkup(port, &desk.offices, &desk.version, database, now).await?;
            Ok(call.answer(doctor::report(&found)))
        }
        Treatment::LiftLimits => {
            let Some(admin) = desk.port.admin() else {
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
        Treatment::TakePower(room) => take_power(desk, call, &room).await,
    }
}

/// Has the server make the bot admin of a room, and goes there.
async fn take_power(
    desk: &Desk,
    call: &Call<'_>,
    named: &RoomRef,
) -> Result<Vec<Write>, HandleError> {
    let admin = desk
        .port
        .admin()
        .filter(|admin| admin.room_power() == RoomPower::WhenTold);
    let Some(admin) = admin else {
        return Err(doctor::no_room_power().into());
    };
    let room = desk.find(named).await?;
    desk.authorise_room(call, Need::Change, &room).await?;
    let through = helper(desk, &room).await?;
    match admin.make_room_admin(&room, desk.port.account()).await {
        Ok(()) => {}
        Err(HomeserverError::Refused { message, .. }) => {
            return Err(doctor::no_power_there(&message).into());
        }
        Err(error) => return Err(error.into()),
    }
    let joined = desk
        .port
        .join(&RoomRef {
            name: crate::model::RoomName::Id(room.clone()),
            via: vec![],
        })
        .await;
    match joined {
        Ok(_) => {
            let account = desk.port.account();
            let allowance = survey::target_power(&*desk.port, &room, account).await?;
            let allowance = allowance.unwrap_or(Allowance::UNKNOWN);
            Ok(call.answer(doctor::powerful(&room, through.as_deref(), allowance)))
        }
        Err(HomeserverError::Refused { message, .. }) => Err(doctor::refused(&message).into()),
        Err(error) => Err(error.into()),
    }
}

/// In whose name the server acts; `None` where the bot cannot read the room.
async fn helper(desk: &Desk, room: &RoomId) -> Result<Option<OwnedUserId>, HandleError> {
    match desk.port.state(room).await {
        Ok(state) => Ok(authority::local_helper(&state, desk.port.server_name())),
        Err(HomeserverError::Refused { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
