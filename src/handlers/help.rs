//! `!upgrade help [command]`: what can be typed.

use super::Call;
use crate::command::{self, Topic};
use crate::message::doc::lines;
use crate::store::Write;

pub(super) fn run(call: &Call<'_>, topic: Option<&Topic>) -> Vec<Write> {
    call.answer(lines(&command::help(topic)))
}
