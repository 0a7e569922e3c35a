//! Questions to whoever sits at the terminal. Secrets are typed without being shown.

use std::io::{self, IsTerminal as _, Write as _};

use super::InitError;

#[derive(Debug)]
pub(crate) struct Question {
    /// The argument that answers it beforehand.
    pub flag: &'static str,
    pub text: &'static str,
    pub default: Option<String>,
}

pub(crate) trait Ask {
    /// Whether anybody is there.
    fn is_there(&self) -> bool;

    /// An answer in one line, or the default.
    ///
    /// # Errors
    /// When nobody is there, or went away.
    fn line(&mut self, question: &Question) -> Result<String, InitError>;

    /// A secret; perhaps an empty one.
    ///
    /// # Errors
    /// When nobody is there, or went away.
    fn secret(&mut self, flag: &'static str, text: &str) -> Result<String, InitError>;

    fn tell(&mut self, text: &str);
}

/// The terminal of the process, if it has one.
#[derive(Debug)]
pub(crate) struct Terminal {
    presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Somebody,
    Nobody,
}

impl Terminal {
    /// Looks whether there is one.
    pub(crate) fn new() -> Self {
        let presence = if io::stdin().is_terminal() && io::stderr().is_terminal() {
            Presence::Somebody
        } else {
            Presence::Nobody
        };
        Self { presence }
    }

    fn expect(&self, flag: &'static str) -> Result<(), InitError> {
        match self.presence {
            Presence::Somebody => Ok(()),
            Presence::Nobody => Err(InitError::Missing(flag)),
        }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Ask for Terminal {
    fn is_there(&self) -> bool {
        self.presence == Presence::Somebody
    }

    fn line(&mut self, question: &Question) -> Result<String, InitError> {
        self.expect(question.flag)?;
        let default = question.default.as_deref().filter(|text| !text.is_empty());
        let hint = default.map_or_else(String::new, |text| format!(" [{text}]"));
        let mut line = String::new();
        loop {
            show(&format!("{}{hint}: ", question.text)).map_err(InitError::Ask)?;
            line.clear();
            if io::stdin().read_line(&mut line).map_err(InitError::Ask)? == 0 {
                return Err(InitError::Missing(question.flag));
            }
            let answer = line.trim();
            match &question.default {
                Some(default) if answer.is_empty() => return Ok(default.clone()),
                None if answer.is_empty() => {}
                _ => return Ok(answer.to_owned()),
            }
        }
    }

    fn secret(&mut self, flag: &'static str, text: &str) -> Result<String, InitError> {
        self.expect(flag)?;
        rpassword::prompt_password(format!("{text} (not shown): ")).map_err(InitError::Ask)
    }

    fn tell(&mut self, text: &str) {
        // Nobody who could be told that it cannot be told.
        let _ = show(&format!("roomlift: {text}\n"));
    }
}

/// Shows a text at once: piece by piece, half a line looks like a question to whoever waits for one.
fn show(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}
