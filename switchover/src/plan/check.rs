//! What must be right before anything changes.
