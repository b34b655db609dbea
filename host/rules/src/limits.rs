//! What a rules file may cost. Rules come from users; each bound has a diagnostic that names it.

pub(crate) const MAX_SOURCE: usize = 1024 * 1024;
pub(crate) const MAX_YAML_DEPTH: usize = 32;
pub(crate) const MAX_YAML_NODES: usize = 200_000;
pub(crate) const MAX_RULES: usize = 2_000;
/// Parentheses and `not` within one condition, lists within lists, macros within macros.
pub(crate) const MAX_NESTING: usize = 64;
/// The same, with macros put in: bounds the stack that compiling and evaluating need.
pub(crate) const MAX_DEPTH: usize = 256;
/// Checks of one rule after its macros are put in.
pub(crate) const MAX_CHECKS: u32 = 50_000;
/// Values of one list after its lists are put in.
pub(crate) const MAX_LIST: usize = 50_000;
/// Values of all lists and comparisons together, each use of a list counted.
pub(crate) const MAX_VALUES: usize = 500_000;
/// Event types that rules may name.
pub(crate) const MAX_TYPES: usize = 1_024;
/// Distinct parts of all conditions together, simplified by event type.
pub(crate) const MAX_PARTS: usize = 2_000_000;
pub(crate) const MAX_DIAGNOSTICS: usize = 200;
