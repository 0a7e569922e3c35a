//! How much there is, for those who watch over the bot.

use super::{Result, Store, column};

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
            let mut query = db.prepare_cached("SELECT state, count(*) FROM job GROUP BY state")?;
            let rows = query.query_map([], |row| Ok((column(row, 0), column(row, 1))))?;
            let mut jobs = Vec::new();
            for row in rows {
                let (state, count) = row?;
                jobs.push((state?, count?));
            }
            let unsent = db.query_row(
                "SELECT count(*) FROM outbox WHERE due_at IS NOT NULL",
                [],
                |row| row.get(0),
            )?;
            Ok(Counts { jobs, unsent })
        })
    }
}
