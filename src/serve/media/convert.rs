//! The forwarding unit's types for signaling's, and back.

use halloo_protocol::{
    ParticipantId, RoomGrants, RoomId, RoomLimits, Shown, SlotShows, SourceKind, SourceOf, SourceState, TileSize,
};
use halloo_sfu::room::{self, Command, Grants, Limits, RoomConfig, SourceId, VideoWish};
use halloo_signaling::MediaError;
use halloo_transport::Bitrate;

/// Places in the unit's room above those that signaling gives away: who joins anew is there twice for a moment.
const SPARE_PLACES: usize = 32;

pub(super) fn room_config(limits: &RoomLimits) -> RoomConfig {
    let max_participants = usize::try_from(limits.max_participants).unwrap_or(usize::MAX);
    RoomConfig { max_participants: max_participants.saturating_add(SPARE_PLACES), ..RoomConfig::default() }
}

/// A room's name, back from the unit.
pub(super) fn room_id(name: &str) -> Result<RoomId, MediaError> {
    RoomId::new(name).map_err(|error| MediaError::Unavailable(error.to_string()))
}

pub(super) fn grants(grants: &RoomGrants) -> Grants {
    let publish = |kind| grants.publish.contains(&kind);
    Grants {
        microphone: publish(SourceKind::Microphone),
        camera: publish(SourceKind::Camera),
        screen: publish(SourceKind::Screen),
        subscribe: grants.subscribe,
    }
}

pub(super) fn limits(limits: &RoomLimits) -> Limits {
    Limits {
        publish: Bitrate::from_kbps(limits.max_publish_kbps.into()),
        max_height: limits.max_height,
        ..Limits::default()
    }
}

pub(super) const fn to_unit(participant: ParticipantId) -> room::ParticipantId {
    room::ParticipantId::from_get(participant.0)
}

pub(super) const fn from_unit(participant: room::ParticipantId) -> ParticipantId {
    ParticipantId(participant.get())
}

const fn kind_to_unit(kind: SourceKind) -> room::SourceKind {
    match kind {
        SourceKind::Microphone => room::SourceKind::Microphone,
        SourceKind::Camera => room::SourceKind::Camera,
        SourceKind::Screen => room::SourceKind::Screen,
    }
}

pub(super) const fn kind_from_unit(kind: room::SourceKind) -> SourceKind {
    match kind {
        room::SourceKind::Microphone => SourceKind::Microphone,
        room::SourceKind::Camera => SourceKind::Camera,
        room::SourceKind::Screen => SourceKind::Screen,
    }
}

pub(super) const fn source_from_unit(source: SourceId) -> SourceOf {
    SourceOf { participant: from_unit(source.participant()), kind: kind_from_unit(source.kind()) }
}

/// What makes a source be in this state.
pub(super) fn source_commands(participant: ParticipantId, kind: SourceKind, state: SourceState) -> [Command; 2] {
    let source = SourceId::new(to_unit(participant), kind_to_unit(kind));
    // Muted first, so that nothing gets through in between.
    [
        Command::Mute { source, muted: state != SourceState::On },
        Command::Publish { source, published: state != SourceState::Off },
    ]
}

pub(super) fn show(by: ParticipantId, show: &[Shown], others: Option<TileSize>) -> Command {
    let wish = |shown: &Shown| VideoWish {
        source: SourceId::new(to_unit(shown.source.participant), kind_to_unit(shown.source.kind)),
        width: shown.size.width.into(),
        height: shown.size.height.into(),
        pinned: shown.pinned,
    };
    // The unit takes pinned ones first; the rest keeps its order.
    let mut wishes: Vec<VideoWish> = show.iter().map(wish).collect();
    wishes.sort_by_key(|wish| !wish.pinned);
    let others = others.map_or((0, 0), |size| (size.width.into(), size.height.into()));
    Command::Show { by: to_unit(by), wishes, others }
}

/// A slot's news, by the mid of its section.
pub(super) fn slot(mid: &str, source: Option<SourceId>) -> SlotShows {
    SlotShows { mid: mid.to_owned(), source: source.map(source_from_unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csrcs_of_both_sides_are_the_same() {
        for kind in SourceKind::ALL {
            let source = SourceOf { participant: ParticipantId((1 << 29) + 5), kind };
            let unit = SourceId::new(to_unit(source.participant), kind_to_unit(kind));
            assert_eq!(unit.csrc(), source.csrc());
            assert_eq!(source_from_unit(unit), source);
        }
    }

    #[test]
    fn pinned_pictures_come_first_and_nobody_else_moves() {
        let shown = |n, pinned| Shown {
            source: SourceOf { participant: ParticipantId(n), kind: SourceKind::Camera },
            size: TileSize { width: 320, height: 180 },
            pinned,
        };
        let command = show(ParticipantId(9), &[shown(1, false), shown(2, true), shown(3, false)], None);
        let Command::Show { wishes, others, .. } = command else { panic!("{command:?}") };
        let order: Vec<u32> = wishes.iter().map(|wish| wish.source.participant().get()).collect();
        assert_eq!((order, others), (vec![2, 1, 3], (0, 0)));
    }
}
