//! Why a handler does not do what it is asked: because it refuses, with the reason, or because it cannot
//! tell now.

use crate::census::CensusError;
use crate::homeserver::HomeserverError;
use crate::model::Text;
use crate::store::StoreError;

/// Why a handler does not do what it is asked.
#[derive(Debug)]
pub(super) enum HandleError {
    /// The sender cannot have that, and is told why.
    Refused(Text),
    /// It cannot be told now.
    Failed(Failure),
}

impl From<Text> for HandleError {
    fn from(text: Text) -> Self {
        Self::Refused(text)
    }
}

impl<E: Into<Failure>> From<E> for HandleError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Why an event could not be handled now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The homeserver could not be asked.
    #[error("cannot read what a command is about")]
    Homeserver(#[from] HomeserverError),
    #[error("cannot store what a command asks for")]
    Store(#[from] StoreError),
}

impl From<CensusError> for Failure {
    fn from(error: CensusError) -> Self {
        match error {
            CensusError::Homeserver(error) => Self::Homeserver(error),
            CensusError::Store(error) => Self::Store(error),
        }
    }
}
