//! The steps.

use std::fmt;

/// One step. All are such that taking one again, after it is not known whether it took effect, does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Leave a note on both servers.
    Begin,
    /// OLD: replicate from NEW, which is still read only.
    Prepare,
    /// OLD: set the target, while the mode is still `OFF`.
    Aim,
    /// OLD: mode `HOLD`, and drain.
    Hold,
    /// OLD: wait until the sessions are drained.
    Drain,
    /// OLD: the event scheduler off, the lock, read only, and then the position.
    Fence,
    /// NEW: wait until it has that position.
    CatchUp,
    /// NEW: stop replication.
    StopReplica,
    /// The gate, and then NEW: writable. It cannot be undone.
    Promote,
    /// Change the notes on both servers, if they do not say that NEW was promoted.
    Note,
    /// NEW: writable again, after it was promoted and came back read only.
    Reopen,
    /// OLD: read only and no events, after it restarted.
    CloseOld,
    /// NEW: a mark in the binary log.
    Mark,
    /// NEW: mode `OFF`, if it redirected to OLD.
    Admit,
    /// OLD: redirect to NEW.
    Redirect,
    /// OLD: kill the sessions that are left.
    Disconnect,
    /// OLD: release the lock, without accepting writes.
    Unlock,
    /// OLD: replicate from NEW, if it was not prepared.
    Attach,
    /// OLD: wait for the mark.
    AwaitMark,
    /// The other replicas of OLD: replicate from NEW.
    Repoint,
    /// NEW: forget OLD as the primary.
    Detach,
    /// Enable on NEW the events that were enabled on OLD.
    MoveEvents,
    /// Remove the notes and the file.
    Finish,

    /// In a failover. The stand-in: mode `HOLD`.
    HoldAtStandIn,
    /// NEW and the other replicas: receive nothing more from OLD.
    Sever,
    /// NEW: apply everything that it has received; then the position.
    Apply,
    /// OLD must still be silent; then NEW: writable. It cannot be undone.
    TakeOver,
    /// The stand-in: redirect to NEW.
    RedirectAtStandIn,

    /// OLD: writable, and unlocked; events as before.
    Unfence,
    /// OLD: mode `OFF`; those that are held are let in.
    Release,
    /// NEW: replicate again.
    StartReplica,
    /// OLD: the target as before.
    Unaim,
    /// OLD: no longer replicate from NEW.
    Unprepare,
    /// The stand-in: as before.
    ReleaseAtStandIn,
    /// NEW and the other replicas: receive from OLD again, when it answers.
    Receive,
    /// Remove the notes and the file, after everything else was undone.
    Forget,
}

impl Step {
    /// The step that undoes it, for those that change something.
    #[must_use]
    pub const fn undo(self) -> Option<Self> {
        match self {
            Self::Begin => Some(Self::Forget),
            Self::Prepare => Some(Self::Unprepare),
            Self::Aim => Some(Self::Unaim),
            Self::Hold => Some(Self::Release),
            Self::Fence => Some(Self::Unfence),
            Self::StopReplica => Some(Self::StartReplica),
            Self::HoldAtStandIn => Some(Self::ReleaseAtStandIn),
            Self::Sever => Some(Self::Receive),
            _ => None,
        }
    }

    /// Whether it makes the new primary writable for the first time: from then on there is no undo.
    #[must_use]
    pub const fn promotes(self) -> bool {
        matches!(self, Self::Promote | Self::TakeOver)
    }

    /// Whether the new primary can be promoted without it.
    #[must_use]
    pub const fn may_be_left_out(self) -> bool {
        matches!(self, Self::HoldAtStandIn)
    }

    /// Whether going back can do without it: the primary serves its clients, and the step can be taken later.
    #[must_use]
    pub const fn may_fail_going_back(self) -> bool {
        matches!(
            self,
            Self::StartReplica | Self::Unaim | Self::Unprepare | Self::ReleaseAtStandIn | Self::Receive | Self::Forget
        )
    }

    /// Whether clients reach a primary without it, so that the switchover goes on if it fails.
    #[must_use]
    pub const fn may_fail_after_promotion(self) -> bool {
        matches!(
            self,
            Self::Note
                | Self::Mark
                | Self::RedirectAtStandIn
                | Self::Disconnect
                | Self::Attach
                | Self::AwaitMark
                | Self::Repoint
                | Self::Detach
                | Self::MoveEvents
                | Self::Finish
        )
    }

    /// Whether waiting and trying again later may help: what kept it from succeeding passes.
    #[must_use]
    pub const fn may_be_tried_again(self) -> bool {
        matches!(self, Self::Hold | Self::Drain | Self::Fence | Self::CatchUp)
    }

    /// What it does.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Begin => "leave a note on the servers",
            Self::Prepare => "OLD: replicate from NEW, which is still read only",
            Self::Aim => "OLD: set the target",
            Self::Hold => "OLD: hold new clients and drain the sessions",
            Self::Drain => "OLD: wait until the sessions are drained",
            Self::Fence => "OLD: fence (events off, FLUSH TABLES WITH READ LOCK, read_only, position)",
            Self::CatchUp => "NEW: wait until it has everything",
            Self::StopReplica => "NEW: stop replication",
            Self::Promote => "check the fence, then NEW: read_only = 0",
            Self::Note => "note the promotion on the servers",
            Self::Reopen => "NEW: read_only = 0 again",
            Self::CloseOld => "OLD: read_only = 1, events off",
            Self::Mark => "NEW: mark the promotion in the binary log (FLUSH HOSTS)",
            Self::Admit => "NEW: let clients in (mode OFF)",
            Self::Redirect => "OLD: redirect clients to NEW",
            Self::Disconnect => "OLD: kill the sessions that are left",
            Self::Unlock => "OLD: release the lock",
            Self::Attach => "OLD: replicate from NEW",
            Self::AwaitMark => "OLD: wait for the mark",
            Self::Repoint => "other replicas: replicate from NEW",
            Self::Detach => "NEW: forget OLD as its primary",
            Self::MoveEvents => "NEW: enable the events that were enabled on OLD",
            Self::HoldAtStandIn => "stand-in: hold clients",
            Self::Sever => "replicas: receive nothing more from OLD",
            Self::Apply => "NEW: apply everything that was received",
            Self::TakeOver => "check that OLD is still silent, then NEW: read_only = 0",
            Self::RedirectAtStandIn => "stand-in: redirect clients to NEW",
            Self::ReleaseAtStandIn => "stand-in: as before",
            Self::Receive => "replicas: receive from OLD again",
            Self::Unfence => "OLD: read_only and the event scheduler as before, release the lock",
            Self::Release => "OLD: mode OFF, let clients in",
            Self::StartReplica => "NEW: replicate again",
            Self::Unaim => "OLD: the target as before",
            Self::Unprepare => "OLD: no longer replicate from NEW",
            Self::Finish | Self::Forget => "remove the notes and the file",
        }
    }

    /// The same with the names of the servers.
    #[must_use]
    pub fn with_names(self, old: &str, new: &str) -> String {
        with_names(self.text(), old, new)
    }
}

/// A text about OLD and NEW with the names of the servers.
#[must_use]
pub fn with_names(text: &str, old: &str, new: &str) -> String {
    let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let words = text.split_inclusive(is_end).map(|word| {
        let (name, rest) = word.split_at(word.find(is_end).unwrap_or(word.len()));
        match name {
            "OLD" => format!("{old}{rest}"),
            "NEW" => format!("{new}{rest}"),
            _ => word.to_owned(),
        }
    });
    words.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::with_names;

    #[test]
    fn only_whole_words_are_names() {
        assert_eq!(with_names("OLD: mode HOLD, NEW_ (NEW), RENEW OLD", "a", "b"), "a: mode HOLD, NEW_ (b), RENEW a");
    }
}
