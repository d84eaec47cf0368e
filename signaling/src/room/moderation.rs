//! Keeping order: muting, removing, locking, giving roles, ending the room.
//!
//! Invariant: only a moderator changes anything for others, and a room's moderator cannot be removed by a participant.

use super::{Effect, Room, missing};
use crate::{
    call::{Endpoint, Refusal},
    media::MediaCommand,
};
use halloo_protocol::{ErrorCode, Event, LeaveReason, Moderation, ParticipantId, Role, SourceOf, SourceState};

impl Room {
    pub(super) fn moderate(
        &mut self,
        who: &Endpoint,
        action: Moderation,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if !self.member(who).is_some_and(|member| member.grants.moderate) {
            return Err(missing("moderate"));
        }
        match action {
            Moderation::Mute { source } => self.mute(who, source, out),
            Moderation::Remove { participant } => {
                let whom = self.find(participant)?;
                self.remove(&whom, participant, LeaveReason::Removed, who, out);
                Ok(())
            }
            Moderation::Lock { locked } => {
                if std::mem::replace(&mut self.locked, locked) != locked {
                    self.tell_all(&Event::RoomChanged { room: self.id.clone(), state: self.state() }, Some(who), out);
                }
                Ok(())
            }
            Moderation::SetRole { participant, role } => self.set_role(who, participant, role, out),
            Moderation::Close => {
                self.close(who, out);
                Ok(())
            }
            _ => {
                let message = "this server does not know that act of moderation".to_owned();
                Err(Refusal { code: ErrorCode::UnknownType, message })
            }
        }
    }

    fn find(&self, participant: ParticipantId) -> Result<Endpoint, Refusal> {
        let found = self.by_number(participant).map(|member| member.who.clone());
        found.ok_or_else(|| Refusal {
            code: ErrorCode::ParticipantUnknown,
            message: format!("no participant of the room {} has the number {participant}", self.id),
        })
    }

    fn mute(&mut self, by: &Endpoint, source: SourceOf, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        self.find(source.participant)?;
        let member = self.members.iter_mut().find(|member| member.participant == source.participant);
        if let Some(state) = member.map(|member| member.media.get_mut(source.kind))
            && *state == SourceState::On
        {
            *state = SourceState::Muted;
            let SourceOf { participant, kind } = source;
            out.push(Effect::Media(MediaCommand::Source { participant, kind, state: SourceState::Muted }));
            self.tell_changed(participant, Some(by), out);
        }
        Ok(())
    }

    fn set_role(
        &mut self,
        by: &Endpoint,
        participant: ParticipantId,
        role: Role,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.find(participant)?;
        let moderate = role == Role::Moderator;
        let member = self.members.iter_mut().find(|member| member.participant == participant);
        if member.is_some_and(|member| std::mem::replace(&mut member.grants.moderate, moderate) != moderate) {
            self.tell_changed(participant, Some(by), out);
        }
        Ok(())
    }

    /// Takes somebody out, who is told unless it was themselves.
    fn remove(
        &mut self,
        whom: &Endpoint,
        participant: ParticipantId,
        reason: LeaveReason,
        by: &Endpoint,
        out: &mut Vec<Effect>,
    ) {
        self.take_out(whom, reason, Some(by), out);
        if whom != by {
            let event = Event::RoomLeft { room: self.id.clone(), reason };
            out.push(Effect::Event { to: whom.clone(), event });
        }
        out.push(Effect::Media(MediaCommand::Leave { participant }));
        out.push(Effect::Gone(whom.clone()));
    }

    fn close(&mut self, by: &Endpoint, out: &mut Vec<Effect>) {
        // Nobody hears of the others' leaving: the room is over for all.
        for member in std::mem::take(&mut self.members) {
            if member.who != *by {
                let event = Event::RoomLeft { room: self.id.clone(), reason: LeaveReason::Closed };
                out.push(Effect::Event { to: member.who.clone(), event });
            }
            out.push(Effect::Media(MediaCommand::Leave { participant: member.participant }));
            out.push(Effect::Gone(member.who));
        }
    }
}
