//! What is asked of the forwarding unit: the pictures that sinks take, at their size. Pure.

use halloo_protocol::{
    ParticipantId, RoomId, RoomMedia, Shown, SourceKind, SourceOf, SourceState, Subscribe, TileSize,
};

#[cfg(feature = "video")]
use crate::tracks::Wish;
#[cfg(not(feature = "video"))]
use std::convert::Infallible as Wish;

/// Pictures that one can ask for at once (docs/protocol.md).
#[cfg(feature = "video")]
const MAX_SHOWN: usize = 32;

/// A source of pictures and what sinks want of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) participant: ParticipantId,
    pub(super) kind: SourceKind,
    pub(super) wish: Wish,
}

/// Asks for what is wanted and published: pinned pictures first, then the largest. `follow` is the size of pictures that follow
/// the dominant speaker in what slots are left.
#[cfg(feature = "video")]
pub(super) fn subscribe(room: &RoomId, mut wanted: Vec<Wanted>, follow: Option<TileSize>) -> Subscribe {
    wanted
        .sort_by_key(|each| (!each.wish.pinned, std::cmp::Reverse(each.wish.size.area()), each.participant, each.kind));
    wanted.truncate(MAX_SHOWN);
    let show = wanted.into_iter().map(|Wanted { participant, kind, wish }| Shown {
        source: SourceOf { participant, kind },
        size: TileSize { width: wish.size.width, height: wish.size.height },
        pinned: wish.pinned,
    });
    Subscribe { room: room.clone(), show: show.collect(), others: follow }
}

/// Asks for nothing.
#[cfg(not(feature = "video"))]
pub(super) fn subscribe(room: &RoomId, _: Vec<Wanted>, _: Option<TileSize>) -> Subscribe {
    let show: Vec<Shown> = Vec::new();
    Subscribe { room: room.clone(), show, others: None }
}

/// Whether a source of a participant is there to be asked for.
pub(super) fn is_published(media: &RoomMedia, kind: SourceKind) -> bool {
    media.get(kind) != SourceState::Off
}

#[cfg(all(test, feature = "video"))]
mod tests {
    use super::*;
    use crate::tracks::Size;

    fn wanted(participant: u32, kind: SourceKind, width: u32, height: u32, pinned: bool) -> Wanted {
        Wanted { participant: ParticipantId(participant), kind, wish: Wish { size: Size::of(width, height), pinned } }
    }

    #[test]
    fn what_matters_most_comes_first() {
        let room = RoomId::new("r").unwrap();
        let all = vec![
            wanted(1, SourceKind::Camera, 320, 180, false),
            wanted(2, SourceKind::Camera, 640, 360, false),
            wanted(3, SourceKind::Camera, 160, 90, true),
            wanted(2, SourceKind::Screen, 1_280, 720, false),
        ];
        let asked = subscribe(&room, all, None);
        let order: Vec<u32> = asked.show.iter().map(|shown| shown.source.csrc()).collect();
        assert_eq!(order, [3 << 2 | 1, 2 << 2 | 2, 2 << 2 | 1, 1 << 2 | 1]);
        assert!(asked.show[0].pinned && asked.others.is_none());
    }

    #[test]
    fn no_more_is_asked_for_than_a_message_takes() {
        let room = RoomId::new("r").unwrap();
        let all = (1..50).map(|n| wanted(n, SourceKind::Camera, 100 + n, 100, n == 1)).collect();
        let asked = subscribe(&room, all, Some(TileSize { width: 160, height: 90 }));
        assert_eq!(asked.show.len(), 32);
        assert_eq!(asked.show[0].source.participant, ParticipantId(1));
        assert_eq!(asked.show[1].source.participant, ParticipantId(49));
    }
}
