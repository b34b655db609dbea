//! W, the watcher: being written by the main engineer since 13:53.
