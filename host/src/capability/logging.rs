//! `logging`: one bounded, escaped line to the host's log.

use lanner_core::text::{bounded, escaped};

use super::State;
use super::generated::lanner::platform::logging::{Host, Level};

const MAX_LINE: usize = 2048;

impl Host for State {
    fn log(&mut self, level: Level, message: String) {
        let message = escaped(&bounded(&message, MAX_LINE));
        let component = &*self.component;
        match level {
            Level::Debug => tracing::debug!(component, message, "function"),
            Level::Info => tracing::info!(component, message, "function"),
            Level::Warn => tracing::warn!(component, message, "function"),
            Level::Error => tracing::error!(component, message, "function"),
        }
    }
}
