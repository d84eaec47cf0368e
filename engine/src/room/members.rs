//! Who is in a room, as the server tells it: a snapshot, then changes. Pure.
//!
//! A participant's number is new with each time that its device joins. Here a member keeps its key for as long as the same
//! device of the same user is there, or comes back soon after it was lost: tracks and recordings hang on the key. Invariant:
//! oneself is not a member, and a number names one member at most.

use halloo_protocol::{DeviceId, LeaveReason, Participant, ParticipantId, PeerReach, RoomSnapshot, UserId};
use halloo_transport::Timestamp;
use std::time::Duration;

/// How long somebody who was lost may take to come back.
const GRACE: Duration = Duration::from_secs(12);

/// Names a member for the life of the room here; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MemberKey(pub(crate) u32);

/// What changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Somebody came.
    Joined(MemberKey, Participant),
    /// Something about somebody is different: media, role, reach, number.
    Changed(MemberKey, Participant),
    /// Somebody is gone for good.
    Left(MemberKey, LeaveReason),
    /// Somebody else speaks, or nobody.
    Speaker(Option<MemberKey>),
}

#[derive(Clone, Debug)]
struct Member {
    key: MemberKey,
    participant: Participant,
    /// Until when it may come back; `None` while it is there.
    away_until: Option<Timestamp>,
}

impl Member {
    fn is(&self, user: &UserId, device: &DeviceId) -> bool {
        self.participant.user == *user && self.participant.device == *device
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Members {
    you: Option<ParticipantId>,
    list: Vec<Member>,
    last_key: u32,
    speaker: Option<MemberKey>,
}

impl Members {
    /// Takes the room as it is. Who is not in it any more may come back for a while.
    pub(crate) fn apply_snapshot(&mut self, now: Timestamp, snapshot: &RoomSnapshot) -> Vec<Change> {
        self.you = Some(snapshot.you);
        let mut changes = Vec::new();
        for participant in &snapshot.participants {
            changes.extend(self.joined(participant.clone()));
        }
        let there = |member: &Member| {
            snapshot.participants.iter().any(|participant| participant.participant == member.participant.participant)
        };
        let missing = self.list.iter_mut().filter(|member| member.away_until.is_none() && !there(member));
        changes.extend(missing.map(|member| lose(now, member)));
        changes.extend(self.speaks(snapshot.dominant_speaker));
        changes
    }

    /// Somebody entered, anew or for the first time.
    pub(crate) fn joined(&mut self, participant: Participant) -> Option<Change> {
        if Some(participant.participant) == self.you {
            return None;
        }
        let Some(member) = self.list.iter_mut().find(|member| member.is(&participant.user, &participant.device)) else {
            self.last_key += 1;
            let key = MemberKey(self.last_key);
            self.list.push(Member { key, participant: participant.clone(), away_until: None });
            return Some(Change::Joined(key, participant));
        };
        member.away_until = None;
        if member.participant == participant {
            return None;
        }
        member.participant = participant.clone();
        Some(Change::Changed(member.key, participant))
    }

    /// Something about somebody changed.
    pub(crate) fn changed(&mut self, participant: Participant) -> Option<Change> {
        let member = self.by_number(participant.participant)?;
        member.participant = participant.clone();
        Some(Change::Changed(member.key, participant))
    }

    /// Somebody is not in the room any more.
    pub(crate) fn left(&mut self, now: Timestamp, number: ParticipantId, reason: LeaveReason) -> Option<Change> {
        let member = self.by_number(number)?;
        match reason {
            LeaveReason::Lost | LeaveReason::Rejoined => Some(lose(now, member)),
            _ => {
                let key = member.key;
                self.list.retain(|member| member.key != key);
                Some(Change::Left(key, reason))
            }
        }
    }

    /// Somebody else speaks.
    pub(crate) fn speaks(&mut self, number: Option<ParticipantId>) -> Option<Change> {
        let speaker = number.and_then(|number| self.by_number(number)).map(|member| member.key);
        (std::mem::replace(&mut self.speaker, speaker) != speaker).then_some(Change::Speaker(speaker))
    }

    /// Gives up on those who did not come back.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Vec<Change> {
        let gone = self.list.extract_if(.., |member| member.away_until.is_some_and(|until| until <= now));
        gone.map(|member| Change::Left(member.key, LeaveReason::Lost)).collect()
    }

    /// When [`Members::handle_timeout`] is next wanted.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.list.iter().filter_map(|member| member.away_until).min()
    }

    /// One's own number.
    pub(crate) fn you(&self) -> Option<ParticipantId> {
        self.you
    }

    /// Those who are there, in the order in which they came.
    pub(crate) fn present(&self) -> impl Iterator<Item = (MemberKey, &Participant)> {
        self.list.iter().filter(|member| member.away_until.is_none()).map(|member| (member.key, &member.participant))
    }

    fn by_number(&mut self, number: ParticipantId) -> Option<&mut Member> {
        self.list.iter_mut().find(|member| member.participant.participant == number)
    }
}

fn lose(now: Timestamp, member: &mut Member) -> Change {
    member.away_until = Some(now + GRACE);
    member.participant.reach = PeerReach::Lost;
    Change::Changed(member.key, member.participant.clone())
}
