//! The mark in the account's data that says which database the account works with. Two bots with one account
//! and two databases would each make a new room for each upgrade.
//!
//! Read from what sync told, so that it costs no request; written when a database first claims an account, or
//! takes it over. Left out: what a bot that is replaced still does (`handlers`, `worker`).

use super::MatrixError;
use super::source::SyncSource;
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::homeserver::HomeserverError;
use crate::model::{Claim, DatabaseMark};
use crate::room::state::{Content, content};
use crate::store::Store;

/// Type of the event in the account's data.
const MARK: &str = "org.roomlift.database";

/// What a bot does about the mark that it finds at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The account is this database's already.
    Keep,
    /// Nobody has it, or it is taken over.
    Write,
    /// Another database has it.
    Refuse(DatabaseMark),
}

/// Decides about the mark at the start. Pure.
pub(super) fn decide(found: Option<&DatabaseMark>, own: &str, claim: Claim) -> Decision {
    match found {
        Some(mark) if mark.database == own => Decision::Keep,
        Some(mark) if claim == Claim::IfFree => Decision::Refuse(mark.clone()),
        Some(_) | None => Decision::Write,
    }
}

/// The mark in a content; `None` for anything else.
fn read(content: Option<Content>) -> Option<DatabaseMark> {
    serde_json::from_value(content?.into()).ok()
}

/// Whether the account is this database's, looked at after each sync.
#[derive(Default)]
pub(super) enum Claiming {
    /// Nothing was told yet.
    #[default]
    Open,
    /// It is; `before` is the mark that was there then, which sync tells until it tells the own.
    Done { before: Option<DatabaseMark> },
}

impl Claiming {
    /// Claims the account after the first sync; notices after a later one when another database has done so.
    pub(super) async fn look(
        &mut self,
        source: &dyn SyncSource,
        store: &Store,
        clock: &dyn Clock,
        claim: Claim,
    ) -> Result<(), MatrixError> {
        let own = store.instance().map_err(MatrixError::Inbox)?;
        let found = read(source.account_data(MARK).await);
        let Self::Done { before } = self else {
            match decide(found.as_ref(), &own, claim) {
                Decision::Keep => {}
                Decision::Refuse(found) => {
                    return Err(MatrixError::OtherDatabase {
                        user: source.account().to_owned(),
                        found,
                        own,
                    });
                }
                Decision::Write => {
                    let since = clock.now();
                    let mark = DatabaseMark {
                        database: own.clone(),
                        since,
                    };
                    write(source, &mark).await?;
                    tracing::info!(database = own, "the account works with this database now");
                }
            }
            *self = Self::Done { before: found };
            return Ok(());
        };
        let Some(mark) = found.filter(|mark| mark.database != own) else {
            return Ok(());
        };
        if before.as_ref() != Some(&mark) && store.replaced().is_none() {
            tracing::error!(
                database = mark.database,
                since = %mark.since,
                "another database has taken over the account: what is begun is finished, and nothing else begins"
            );
            store.replace(mark);
        }
        Ok(())
    }
}

/// Writes the mark, however long it takes: nothing begins before. A server without account data goes without.
async fn write(source: &dyn SyncSource, mark: &DatabaseMark) -> Result<(), MatrixError> {
    let mark = content(serde_json::json!(mark));
    let mut trouble = Trouble::new("marking the account");
    loop {
        match source.set_account_data(MARK, &mark).await {
            Ok(()) => break,
            Err(error) if error.is_unknown_token() => {
                return Err(MatrixError::SignedOut {
                    user: source.account().to_owned(),
                });
            }
            Err(error @ HomeserverError::Refused { .. }) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot mark the account as this database's");
                break;
            }
            Err(error) => tokio::time::sleep(trouble.with(&error)).await,
        }
    }
    trouble.over();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_takes_no_account_of_another_one_unasked() {
        let mark = |database: &str| DatabaseMark {
            database: database.to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        for (found, claim, expected) in [
            (None, Claim::IfFree, Decision::Write),
            (None, Claim::TakeOver, Decision::Write),
            (Some(mark("own")), Claim::IfFree, Decision::Keep),
            (Some(mark("own")), Claim::TakeOver, Decision::Keep),
            (
                Some(mark("other")),
                Claim::IfFree,
                Decision::Refuse(mark("other")),
            ),
            (Some(mark("other")), Claim::TakeOver, Decision::Write),
        ] {
            assert_eq!(decide(found.as_ref(), "own", claim), expected, "{found:?}");
        }
    }

    #[test]
    fn a_mark_is_read_as_it_is_written_and_all_else_is_none() {
        let mark = DatabaseMark {
            database: "a1".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        assert_eq!(read(Some(content(serde_json::json!(mark)))), Some(mark));
        for other in [
            serde_json::json!({}),
            serde_json::json!({ "database": 7, "since": "x" }),
        ] {
            assert_eq!(read(Some(content(other))), None);
        }
        assert_eq!(read(None), None);
    }
}
