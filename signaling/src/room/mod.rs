//! One room as a pure state machine: who is in it, what they publish, who keeps order.
//!
//! Invariants: a participant is here if and only if the media plane has its connection, from the answer to its offer to the
//! order to take it out; each device is here at most once; everybody is told of each change once, except whoever asked for
//! it; the room ends with its last participant.

mod moderation;
#[cfg(test)]
mod table;

use crate::{
    call::{Endpoint, Refusal},
    media::{MediaCommand, MediaEvent},
};
use halloo_protocol::{
    ErrorCode, Event, LayersWanted, LeaveReason, Moderation, Participant, ParticipantId, PeerReach, Role, RoomGrants,
    RoomId, RoomLimits, RoomMedia, RoomSnapshot, RoomState, Shown, SlotsChanged, SourceKind, SourceState, TileSize,
};
use std::collections::VecDeque;

/// What follows from something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Tell a device.
    Event { to: Endpoint, event: Event },
    /// Tell the media plane.
    Media(MediaCommand),
    /// This device is no longer in the room.
    Gone(Endpoint),
}

/// What a participant asks of its room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Leave,
    Media(RoomMedia),
    Subscribe { show: Vec<Shown>, others: Option<TileSize> },
    Moderate(Moderation),
}

/// Somebody whom the media plane has taken in.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) who: Endpoint,
    pub(crate) participant: ParticipantId,
    pub(crate) display_name: String,
    pub(crate) grants: RoomGrants,
    pub(crate) media: RoomMedia,
    /// Whether the server does not reach the device at the moment.
    pub(crate) lost: bool,
}

impl Member {
    fn role(&self) -> Role {
        if self.grants.moderate { Role::Moderator } else { Role::Participant }
    }

    fn shown(&self) -> Participant {
        Participant {
            participant: self.participant,
            user: self.who.user.clone(),
            device: self.who.device.clone(),
            display_name: self.display_name.clone(),
            role: self.role(),
            media: self.media,
            reach: if self.lost { PeerReach::Lost } else { PeerReach::Back },
        }
    }
}

/// What is taken of a room's places besides its participants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoomCapacity {
    /// Others whose offer is being answered.
    pub(crate) entering: usize,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    id: RoomId,
    limits: RoomLimits,
    locked: bool,
    dominant_speaker: Option<ParticipantId>,
    members: Vec<Member>,
    /// Who lost the media plane and was told to rejoin.
    awaited: VecDeque<Awaited>,
}

/// Somebody who may come back.
#[derive(Clone, Debug)]
struct Awaited {
    who: Endpoint,
    participant: ParticipantId,
    /// Who was told of the loss, and waits.
    by: Vec<ParticipantId>,
}

/// Of those who lost the media plane, so many are remembered.
const MAX_AWAITED: usize = 256;

impl Room {
    pub(crate) fn new(id: RoomId, limits: RoomLimits) -> Self {
        Self { id, limits, locked: false, dominant_speaker: None, members: Vec::new(), awaited: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, who: &Endpoint) -> Option<&Member> {
        self.members.iter().find(|member| member.who == *who)
    }

    /// Whether this device may enter.
    ///
    /// # Errors
    /// `room_full` or `room_locked`. Who is in the room already may always enter anew.
    pub(crate) fn may_enter(&self, who: &Endpoint, grants: &RoomGrants, capacity: RoomCapacity) -> Result<(), Refusal> {
        if self.member(who).is_some() {
            return Ok(());
        }
        if self.locked && !grants.moderate {
            let message = format!("the room {} is locked: ask somebody inside to let you in", self.id);
            return Err(Refusal { code: ErrorCode::RoomLocked, message });
        }
        let max = usize::try_from(self.limits.max_participants).unwrap_or(usize::MAX);
        if self.members.len() + capacity.entering >= max {
            let message = format!("the room {} is full: it holds {max} participants", self.id);
            return Err(Refusal { code: ErrorCode::RoomFull, message });
        }
        Ok(())
    }

    /// The media plane has taken somebody in. Where the device was here before, that participant leaves. A role that the
    /// device was given here stays.
    pub(crate) fn handle_joined(&mut self, mut member: Member, out: &mut Vec<Effect>) {
        if let Some(before) = self.member(&member.who).cloned() {
            member.grants.moderate |= before.grants.moderate;
            self.take_out(&before.who, LeaveReason::Rejoined, None, out);
            out.push(Effect::Media(MediaCommand::Leave { participant: before.participant }));
        }
        self.awaited.retain(|awaited| awaited.who != member.who);
        let participant = member.shown();
        self.tell_all(&Event::ParticipantJoined { room: self.id.clone(), participant }, None, out);
        self.members.push(member);
    }

    /// The device will not come back, or its session ended.
    pub(crate) fn handle_gone(&mut self, who: &Endpoint, reason: LeaveReason, out: &mut Vec<Effect>) {
        let Some(participant) = self.member(who).map(|member| member.participant) else { return };
        self.take_out(who, reason, Some(who), out);
        out.push(Effect::Media(MediaCommand::Leave { participant }));
        out.push(Effect::Gone(who.clone()));
    }

    /// The device's connection to the server broke, or is there again.
    pub(crate) fn handle_reach(&mut self, who: &Endpoint, reach: PeerReach, out: &mut Vec<Effect>) {
        let lost = reach == PeerReach::Lost;
        let Some(member) = self.members.iter_mut().find(|member| member.who == *who) else { return };
        if std::mem::replace(&mut member.lost, lost) != lost {
            let participant = member.participant;
            self.tell_changed(participant, Some(who), out);
        }
    }

    /// A participant asks for something.
    ///
    /// # Errors
    /// `room_unknown` for a device that is not here, `grant_missing`, `participant_unknown`.
    pub(crate) fn handle(&mut self, who: &Endpoint, ask: Ask, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Some(member) = self.member(who) else {
            if ask != Ask::Leave {
                return Err(unknown(&self.id));
            }
            self.give_up(who, out);
            return Ok(());
        };
        match ask {
            Ask::Leave => self.handle_gone(who, LeaveReason::Left, out),
            Ask::Media(media) => self.set_media(who, media, out)?,
            Ask::Subscribe { show, others } => {
                if !member.grants.subscribe {
                    return Err(missing("receive anything"));
                }
                out.push(Effect::Media(MediaCommand::Show { participant: member.participant, show, others }));
            }
            Ask::Moderate(action) => self.moderate(who, action, out)?,
        }
        Ok(())
    }

    fn set_media(&mut self, who: &Endpoint, media: RoomMedia, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Some(member) = self.members.iter_mut().find(|member| member.who == *who) else { return Ok(()) };
        may_publish(&member.grants, &media)?;
        let (participant, before) = (member.participant, std::mem::replace(&mut member.media, media));
        for kind in SourceKind::ALL.into_iter().filter(|kind| before.get(*kind) != media.get(*kind)) {
            out.push(Effect::Media(MediaCommand::Source { participant, kind, state: media.get(kind) }));
        }
        if before != media {
            self.tell_changed(participant, Some(who), out);
        }
        Ok(())
    }

    /// Something happened in the media.
    pub(crate) fn handle_media(&mut self, event: MediaEvent, out: &mut Vec<Effect>) {
        let room = self.id.clone();
        match event {
            MediaEvent::Slots { participant, slots } => {
                self.tell(participant, Event::SlotsChanged(SlotsChanged { room, slots }), out);
            }
            MediaEvent::DominantSpeaker(speaker) => {
                let speaker = speaker.filter(|speaker| self.by_number(*speaker).is_some());
                if std::mem::replace(&mut self.dominant_speaker, speaker) != speaker {
                    self.tell_all(&Event::DominantSpeaker { room, participant: speaker }, None, out);
                }
            }
            MediaEvent::LayersWanted { participant, kind, encodings, spatial } => {
                self.tell(participant, Event::LayersWanted(LayersWanted { room, kind, encodings, spatial }), out);
            }
            MediaEvent::Policed { participant, kind } => {
                self.tell(participant, Event::PublishingPoliced { room, kind }, out);
            }
            MediaEvent::Lost { participant } => {
                let Some(who) = self.by_number(participant).map(|member| member.who.clone()) else { return };
                out.push(Effect::Event { to: who.clone(), event: Event::RejoinRoom { room } });
                self.take_out(&who, LeaveReason::Lost, Some(&who), out);
                if self.awaited.len() == MAX_AWAITED {
                    self.awaited.pop_front();
                }
                let by = self.members.iter().map(|member| member.participant).collect();
                self.awaited.push_back(Awaited { who: who.clone(), participant, by });
                out.push(Effect::Gone(who));
            }
            MediaEvent::RoomFailed => {
                for member in std::mem::take(&mut self.members) {
                    let event = Event::RejoinRoom { room: room.clone() };
                    out.push(Effect::Event { to: member.who.clone(), event });
                    out.push(Effect::Gone(member.who));
                }
            }
        }
    }

    /// The room as this device is to see it.
    pub(crate) fn snapshot(&self, who: &Endpoint) -> Option<RoomSnapshot> {
        let member = self.member(who)?;
        Some(RoomSnapshot {
            room: self.id.clone(),
            you: member.participant,
            grants: member.grants.clone(),
            state: self.state(),
            participants: self.members.iter().map(Member::shown).collect(),
            dominant_speaker: self.dominant_speaker,
        })
    }

    fn state(&self) -> RoomState {
        RoomState { locked: self.locked, limits: self.limits.clone() }
    }

    fn by_number(&self, participant: ParticipantId) -> Option<&Member> {
        self.members.iter().find(|member| member.participant == participant)
    }

    /// Somebody who is awaited leaves instead of coming back. So does everybody whose media connection closed before the server
    /// read that they leave: the two come by different ways.
    fn give_up(&mut self, who: &Endpoint, out: &mut Vec<Effect>) {
        let Some(index) = self.awaited.iter().position(|awaited| awaited.who == *who) else { return };
        let Some(Awaited { participant, by, .. }) = self.awaited.remove(index) else { return };
        let event = Event::ParticipantLeft { room: self.id.clone(), participant, reason: LeaveReason::Left };
        by.into_iter().for_each(|member| self.tell(member, event.clone(), out));
    }

    /// Takes somebody out and tells the others; `except` is not told.
    fn take_out(&mut self, who: &Endpoint, reason: LeaveReason, except: Option<&Endpoint>, out: &mut Vec<Effect>) {
        let Some(index) = self.members.iter().position(|member| member.who == *who) else { return };
        let participant = self.members.remove(index).participant;
        if self.dominant_speaker == Some(participant) {
            self.dominant_speaker = None;
        }
        self.tell_all(&Event::ParticipantLeft { room: self.id.clone(), participant, reason }, except, out);
    }

    fn tell(&self, participant: ParticipantId, event: Event, out: &mut Vec<Effect>) {
        if let Some(member) = self.by_number(participant) {
            out.push(Effect::Event { to: member.who.clone(), event });
        }
    }

    fn tell_all(&self, event: &Event, except: Option<&Endpoint>, out: &mut Vec<Effect>) {
        let others = self.members.iter().filter(|member| Some(&member.who) != except);
        out.extend(others.map(|member| Effect::Event { to: member.who.clone(), event: event.clone() }));
    }

    fn tell_changed(&self, participant: ParticipantId, except: Option<&Endpoint>, out: &mut Vec<Effect>) {
        let Some(participant) = self.by_number(participant).map(Member::shown) else { return };
        self.tell_all(&Event::ParticipantChanged { room: self.id.clone(), participant }, except, out);
    }
}

/// Whether these sources may be published.
///
/// # Errors
/// `grant_missing`, with the first that may not.
pub(crate) fn may_publish(grants: &RoomGrants, media: &RoomMedia) -> Result<(), Refusal> {
    let wanted = |kind: &SourceKind| media.get(*kind) != SourceState::Off;
    match SourceKind::ALL.into_iter().filter(wanted).find(|kind| !grants.publish.contains(kind)) {
        None => Ok(()),
        Some(SourceKind::Microphone) => Err(missing("publish a microphone")),
        Some(SourceKind::Camera) => Err(missing("publish a camera")),
        Some(SourceKind::Screen) => Err(missing("share a screen")),
    }
}

pub(crate) fn unknown(room: &RoomId) -> Refusal {
    let message = format!("there is no room {room}, or this device is not in it: join it first");
    Refusal { code: ErrorCode::RoomUnknown, message }
}

fn missing(what: &str) -> Refusal {
    let message = format!("your token does not let you {what} in this room: ask for one that does");
    Refusal { code: ErrorCode::GrantMissing, message }
}
