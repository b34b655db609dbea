//! Words that several interfaces share: nothing to do, types alone.

use super::State;
use super::generated::lanner::platform::types;

impl types::Host for State {}
