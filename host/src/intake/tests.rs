//! The intake against the flow.
