//! How much there is, for those who watch over the bot.

use super::{Result, Store};

/// What posts that are to be sent are counted as; no job has such a state.
const UNSENT: &str = "unsent";

/// Jobs and posts, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Jobs by the name of their state; states without jobs are left out.
    pub jobs: Vec<(String, i64)>,
    /// Posts whose wanted form is not in the room yet.
    pub unsent: i64,
}

impl Store {
    /// Counts jobs and posts.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        self.read("count jobs and posts", |db| {
            let mut query = db.prepare_cached("SELECT what, count FROM tally WHERE count > 0")?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut jobs: Vec<(String, i64)> = rows.collect::<rusqlite::Result<_>>()?;
            let unsent = jobs.extract_if(.., |(what, _)| what == UNSENT);
            let unsent = unsent.map(|(_, count)| count).sum();
            Ok(Counts { jobs, unsent })
        })
    }
}
