//! Who is in a room, as the server tells it: a snapshot, then changes. Pure.
//!
//! A participant's number is new with each time that its device joins. Here a member keeps its key for as long as the same
//! device of the same user is there, or comes back soon after it was lost: tracks and recordings hang on the key. Invariant:
//! oneself is not a member, and a number names one member at most: somebody who was lost has none, since a server that
//! restarted gives numbers anew.

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
        let there = |member: &Member| snapshot.participants.iter().any(|p| member.is(&p.user, &p.device));
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
        match reason {
            LeaveReason::Lost | LeaveReason::Rejoined => self.by_number(number).map(|member| lose(now, member)),
            _ => {
                // Who is here comes first: a restarted server may give one the former number of another.
                let of_number = self.list.iter().filter(|member| member.participant.participant == number);
                let key = of_number.min_by_key(|member| member.away_until.is_some())?.key;
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

    /// Who has this number now.
    pub(crate) fn find(&self, number: ParticipantId) -> Option<&Participant> {
        self.present().map(|(_, participant)| participant).find(|participant| participant.participant == number)
    }

    /// Those who are there, in the order in which they came.
    pub(crate) fn present(&self) -> impl Iterator<Item = (MemberKey, &Participant)> {
        self.list.iter().filter(|member| member.away_until.is_none()).map(|member| (member.key, &member.participant))
    }

    fn by_number(&mut self, number: ParticipantId) -> Option<&mut Member> {
        self.list.iter_mut().find(|member| member.away_until.is_none() && member.participant.participant == number)
    }
}

fn lose(now: Timestamp, member: &mut Member) -> Change {
    member.away_until = Some(now + GRACE);
    member.participant.reach = PeerReach::Lost;
    Change::Changed(member.key, member.participant.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_protocol::{Role, RoomGrants, RoomId, RoomLimits, RoomMedia, RoomState, SourceState};

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn somebody(number: u32, name: &str) -> Participant {
        let off = SourceState::Off;
        Participant {
            participant: ParticipantId(number),
            user: UserId::new(name).unwrap(),
            device: DeviceId::new("d").unwrap(),
            display_name: name.to_owned(),
            role: Role::Participant,
            media: RoomMedia { microphone: off, camera: off, screen: off },
            reach: PeerReach::Back,
        }
    }

    fn snapshot(you: u32, others: &[(u32, &str)]) -> RoomSnapshot {
        RoomSnapshot {
            room: RoomId::new("r").unwrap(),
            you: ParticipantId(you),
            grants: RoomGrants { publish: Vec::new(), subscribe: true, moderate: false },
            state: RoomState {
                locked: false,
                limits: RoomLimits { max_participants: 50, max_publish_kbps: 3_000, max_height: 720 },
            },
            participants: others.iter().map(|(number, name)| somebody(*number, name)).collect(),
            dominant_speaker: None,
        }
    }

    fn present(members: &Members) -> Vec<(u32, &str)> {
        members.present().map(|(_, p)| (p.participant.0, p.user.as_str())).collect()
    }

    #[test]
    fn a_restarted_server_may_give_one_the_former_number_of_another() {
        let mut members = Members::default();
        members.apply_snapshot(NOW, &snapshot(2, &[(1, "alice"), (3, "carol")]));
        // Carol is back first, as number 1; alice is not there yet.
        let changes = members.apply_snapshot(NOW, &snapshot(2, &[(1, "carol")]));
        assert_eq!(present(&members), [(1, "carol")]);
        let lost =
            changes.iter().filter(|change| matches!(change, Change::Changed(_, p) if p.reach == PeerReach::Lost));
        assert_eq!(lost.count(), 1, "{changes:?}");
        // What is said of number 1 is said of carol.
        let louder = Participant { display_name: "Carol".to_owned(), ..somebody(1, "carol") };
        let Some(Change::Changed(carol, changed)) = members.changed(louder) else { panic!("nothing changed") };
        assert_eq!((carol, changed.display_name.as_str()), (MemberKey(2), "Carol"));
        assert_eq!(members.speaks(Some(ParticipantId(1))), Some(Change::Speaker(Some(MemberKey(2)))));
        // Alice comes back to her tracks.
        assert!(matches!(members.joined(somebody(3, "alice")), Some(Change::Changed(MemberKey(1), _))));
        assert_eq!(present(&members), [(3, "alice"), (1, "carol")]);
        assert_eq!(members.handle_timeout(NOW + GRACE * 2), []);
    }

    #[test]
    fn who_leaves_after_having_been_lost_is_not_waited_for() {
        let mut members = Members::default();
        members.apply_snapshot(NOW, &snapshot(2, &[(1, "alice")]));
        assert!(matches!(members.left(NOW, ParticipantId(1), LeaveReason::Lost), Some(Change::Changed(..))));
        let gone = members.left(NOW, ParticipantId(1), LeaveReason::Left);
        assert!(matches!(gone, Some(Change::Left(_, LeaveReason::Left))), "{gone:?}");
        assert_eq!(members.next_timeout(), None);
    }
}
