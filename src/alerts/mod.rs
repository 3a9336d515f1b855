//! What somebody has to be told, and that it arrives: alarms, notices, and accesses that a privacy officer reviews.
//!
//! The ledger is the outbox. Whatever is to be told is an entry with the member `al` (what it is) and `of` (what it
//! concerns) before anybody is told; what was delivered is an entry too. So nothing waits in a place of its own that
//! could be lost, and a restart begins where the ledger says. What leaves names no patient and no practitioner: it
//! says which entry, of which kind, of which organisation. Who may see more asks the gateway, and that is recorded.

mod board;
mod post;
mod syslog;
mod tally;
mod target;
mod webhook;

pub use board::{Board, Heading, Item, Turn};
pub use post::Post;
pub use syslog::rfc3339;
pub use tally::Declared;
pub(crate) use target::trusting;
pub use target::{Target, TargetError};

use crate::ledger::Event;

/// Signs what is delivered, with the keys that the gateway publishes; lent by the vault. Takes `typ` and payload,
/// gives a compact JWS.
pub type Signs = std::sync::Arc<dyn Fn(&str, &[u8]) -> String + Send + Sync>;

/// Whom a practice wants told, by its code: addresses, for whoever passes letters on to them. Lent by the gateway.
pub type Contacts = std::sync::Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// How soon somebody has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For a person on duty, now.
    Alert,
    /// To be known.
    Notification,
}

impl Level {
    /// The word on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Notification => "notification",
        }
    }
}

/// Defines what can be told: its word in the ledger, its level and its sentence.
macro_rules! kinds {
    ($( $(#[$note:meta])* $variant:ident = $code:literal, $level:ident, $says:literal; )+) => {
        /// What can be told. A new kind gets its line here and nowhere else; the word stands in entries for good.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $( $(#[$note])* $variant ),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),+];

            /// The word in the ledger and on the wire.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $( Self::$variant => $code ),+ }
            }

            /// How soon somebody has to look.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $( Self::$variant => Level::$level ),+ }
            }

            /// What it means, for a person.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $( Self::$variant => $says ),+ }
            }
        }
    };
}

kinds! {
    /// A token was issued for a declared emergency.
    BreakGlass = "break-glass", Alert,
        "somebody declared an emergency and may read without a relationship: review it";
    /// Somebody, or an organisation, declared more emergencies within the hour than may be.
    BreakGlassCap = "break-glass.cap", Alert,
        "more emergencies were declared within the hour than may be; further ones are refused";
    /// A token was issued on weak evidence, or the access is out of the ordinary.
    Review = "review", Notification,
        "an access rests on weak evidence or is out of the ordinary: look for its explanation";
    /// A practice's feed of objections fell silent.
    FeedSilent = "feed.silent", Alert,
        "a practice has not said for too long that its objections are complete";
    /// A number of a practice's feed never came.
    FeedGap = "feed.gap", Alert,
        "a message of a practice's feed of objections is missing";
    /// Count or digest of a practice's feed is not ours.
    FeedMismatch = "feed.mismatch", Alert,
        "a practice counts other objections than stand here";
    /// A feed has been unsound past its owner's limit for care.
    FeedStopsCare = "feed.stops-care", Alert,
        "a practice's objections have been doubtful for so long that direct care is refused too";
    /// An owner's facts do not match the ledger.
    FactsUnknown = "facts.unknown", Alert,
        "facts do not match the ledger; whatever rests on them is refused";
    /// A key was registered that tickets will be addressed to.
    RecipientRegistered = "recipient.registered", Notification,
        "a key was registered that tickets for this organisation are addressed to";
    /// The directory was changed.
    DirectoryChanged = "directory.changed", Notification,
        "the directory was changed by two administrators";
    /// An act waits for a second administrator.
    ProposalOpened = "proposal.opened", Notification,
        "an act waits for a second administrator";
    /// An agreement waits for the other side.
    AgreementProposed = "agreement.proposed", Notification,
        "a sharing agreement was proposed and waits for an answer";
    /// An agreement was accepted.
    AgreementAccepted = "agreement.accepted", Notification,
        "a sharing agreement was accepted and acts once its cooling-off time is over";
    /// An agreement ended.
    AgreementEnded = "agreement.ended", Notification,
        "a sharing agreement has ended";
    /// A practice changed how its agreements are made, or whom they are told to.
    SettingsChanged = "settings.changed", Notification,
        "a practice changed its cooling-off time or its contacts";
    /// A practice changed which systems act for it.
    ClientsChanged = "clients.changed", Notification,
        "a practice accepted or dismissed a system that acts for it";
    /// Two administrators registered a system that acts, or would act, in a practice's name.
    PracticeSystem = "practice.system", Notification,
        "a system was registered in this practice's name by two administrators: its contacts say at once if they do not know it";
    /// The register of emergency providers has a new version.
    ProvidersChanged = "providers.changed", Notification,
        "the register of emergency providers has a new version; an addition acts for a practice once that practice accepts it";
    /// A secondary use of a practice's records was approved.
    ApprovalGiven = "approval.given", Notification,
        "a secondary use of this practice's records was approved by two administrators";
    /// Such an approval ended.
    ApprovalEnded = "approval.ended", Notification,
        "an approval of a secondary use of this practice's records was withdrawn";
    /// A key was destroyed.
    KeyDestroyed = "key.destroyed", Notification,
        "a version of a key was destroyed";
    /// No privacy officer is registered.
    OfficerMissing = "officer.missing", Alert,
        "no privacy officer is registered who could review emergencies";
    /// A witness has not cosigned for too long.
    WitnessSilent = "witness.silent", Alert,
        "a witness has not cosigned the log for too long";
    /// No quorum of witnesses has cosigned within the limit.
    WitnessStops = "witness.stops", Alert,
        "too few witnesses have cosigned the log for too long: only emergencies are served";
    /// A witness holds another history than this log.
    WitnessRefused = "witness.refused", Alert,
        "a witness holds another history than this log";
    /// The disk is nearly full.
    DiskFull = "disk.full", Alert,
        "the disk is full: only emergencies are served";
    /// The store stopped.
    StoreStopped = "store.stopped", Alert,
        "the store stopped after a disk error; nothing is served until it is opened again";
    /// The ledger stopped; the one thing that is told without an entry.
    LedgerStopped = "ledger.stopped", Alert,
        "the ledger stopped after a disk error; nothing is served until it is opened again";
}

impl Kind {
    /// The kind of that word, if this version knows it.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// A state that began: it stands until [`Kind::clear`]. `of` is a code of organisation, client or key: never of a person.
    #[must_use]
    pub fn raise(self, of: &str) -> Event {
        // Why from the reserve: that the disk is full has to be said on a full disk.
        self.event(RAISE, of).from_reserve()
    }

    /// The state ended.
    #[must_use]
    pub fn clear(self, of: &str) -> Event {
        self.event(CLEAR, of)
    }

    /// Something happened that its owner has to know.
    #[must_use]
    pub fn notice(self, of: &str) -> Event {
        self.event(NOTICE, of)
    }

    /// Something a privacy officer has to look at that is no access: an item of the worklist.
    #[must_use]
    pub fn review(self, of: &str) -> Event {
        self.event(REVIEW, of)
    }

    fn event(self, name: &'static str, of: &str) -> Event {
        Event::new(name).with(AL, self.code()).with(OF, of)
    }
}

/// The member that says what is to be told.
pub const AL: &str = "al";
/// The member that says what it concerns.
pub const OF: &str = "of";
/// The member that leads to the patient, for the gateway alone.
pub const PTR: &str = "ptr";
/// The member that marks an emergency, by which the hour's emergencies of one person are counted.
pub const EM: &str = "em";
const RAISE: &str = "alarm.raise";
const CLEAR: &str = "alarm.clear";
const NOTICE: &str = "notice";
const REVIEW: &str = "review.raise";
const DELIVERED: &str = "alert.delivered";

#[cfg(test)]
mod tests {
    use super::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let words: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.code()), Some(*kind));
        }
    }
}
