//! Rooms of an engine: joining them, and handing them what the server says.

use super::{Engine, Inner};
#[cfg(feature = "video")]
use crate::tracks::Changed;
use crate::{
    clock,
    error::JoinError,
    event_queue::EventQueue,
    room::{Command, Connect, JoinOptions, Progress, Room, RoomActor, RoomInput, RoomMachine, RoomTracks, tile_size},
    wire::Layout,
};
use halloo_protocol::{ErrorBody, Event, LayersWanted, ReplyResult, Request, RoomId, SlotsChanged};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};

/// Rooms that a device may be in at once (docs/protocol.md).
const MAX_ROOMS: usize = 4;
/// Messages of the server that wait for one room's task.
const ROOM_QUEUE: usize = 4_096;
/// Slots that a forwarding unit gives at most.
const MAX_AUDIO_SLOTS: u8 = 7;
const MAX_VIDEO_SLOTS: u8 = 25;

impl Engine {
    /// Joins a room, which exists from the first who joins it. Returns when the server has let this side in; media is connected
    /// then.
    ///
    /// # Errors
    /// [`JoinError`]: the server refuses (a token that does not grant the room, a locked or full room, a server without
    /// rooms), or the connection could not be set up.
    pub async fn join(&self, room: &str, options: JoinOptions) -> Result<Room, JoinError> {
        let name = RoomId::new(room)?;
        let inner = Arc::clone(&self.inner);
        let started = self.inner.handle.spawn(async move { inner.start_room(name, options) });
        let room = started.await.map_err(|e| JoinError::Setup(e.to_string()))??;
        room.entered().await?;
        Ok(room)
    }
}

impl Inner {
    /// Starts a room's task. Must run on the engine's runtime.
    fn start_room(self: Arc<Self>, name: RoomId, options: JoinOptions) -> Result<Room, JoinError> {
        let events = EventQueue::default();
        // Room for every request an application makes in a hurry; a full queue refuses further ones.
        let (commands, command_receiver) = mpsc::channel::<Command>(64);
        let (inputs, input_receiver) = mpsc::channel(ROOM_QUEUE);
        let (progress, progress_receiver) = watch::channel(Progress::Entering);
        let wanted = Arc::new(Notify::new());
        #[cfg(feature = "video")]
        let tell_wanted = {
            let wanted = Arc::clone(&wanted);
            Changed::new(move || wanted.notify_one())
        };
        let tracks = RoomTracks::new(
            options.max_bitrate,
            events.clone(),
            #[cfg(feature = "video")]
            tell_wanted,
        )
        .map_err(|e| JoinError::Setup(e.to_string()))?;
        if let Err(error) = self.register_room(&name, inputs) {
            tracks.stop();
            return Err(error);
        }
        #[cfg(feature = "devices")]
        if options.playout != crate::audio::Playout::None {
            tracks.local().set_playout(options.playout.clone());
        }
        let actor = RoomActor {
            room: name.clone(),
            machine: RoomMachine::new(name.clone(), options.token, rand::random()),
            connect: self.connect(&tracks, layout(options.audio_slots, options.video_slots), options.max_bitrate),
            inputs: input_receiver,
            commands: command_receiver,
            signal: self.signal.clone(),
            tracks: Arc::clone(&tracks),
            events: events.clone(),
            progress,
            wanted,
            follow: options.follow.map(tile_size),
        };
        let (engine, room) = (Arc::downgrade(&self), name.clone());
        tokio::spawn(async move {
            actor.run().await;
            if let Some(engine) = engine.upgrade() {
                engine.lock().rooms.remove(&room);
            }
        });
        Ok(Room { name, commands, tracks, events, progress: progress_receiver, engine: self, started_at: clock::now() })
    }

    fn register_room(&self, name: &RoomId, inputs: mpsc::Sender<RoomInput>) -> Result<(), JoinError> {
        let mut shared = self.lock();
        if shared.rooms.contains_key(name) {
            return Err(JoinError::Already(name.to_string()));
        }
        if shared.rooms.len() >= MAX_ROOMS {
            return Err(JoinError::TooMany(MAX_ROOMS));
        }
        shared.rooms.insert(name.clone(), inputs);
        Ok(())
    }

    /// Makes each of a room's connections, one after the other.
    fn connect(self: &Arc<Self>, tracks: &Arc<RoomTracks>, layout: Layout, max: halloo_transport::Bitrate) -> Connect {
        let (engine, tracks) = (Arc::downgrade(self), Arc::clone(tracks));
        Box::new(move |events| Some(engine.upgrade()?.wire_config(layout, max, tracks.clone(), events)))
    }

    /// Asks the server, on behalf of a room.
    pub(crate) async fn request(&self, request: Request) -> Result<ReplyResult, ErrorBody> {
        self.signal.request(request).await
    }

    pub(super) fn to_all_rooms(&self, input: impl Fn() -> RoomInput) {
        self.lock()
            .rooms
            .retain(|_, room| !matches!(room.try_send(input()), Err(mpsc::error::TrySendError::Closed(_))));
    }

    /// Hands an event to its room; gives it back where it is not a room's.
    pub(super) fn deliver_to_room(&self, event: Event) -> Result<(), Event> {
        let Some(name) = room_of(&event).cloned() else { return Err(event) };
        let mut shared = self.lock();
        let Some(room) = shared.rooms.get(&name) else { return Ok(()) };
        if let Err(error) = room.try_send(RoomInput::Event(Box::new(event))) {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                tracing::error!("a room's task is {ROOM_QUEUE} messages behind: it is given up");
            }
            shared.rooms.remove(&name);
        }
        Ok(())
    }
}

/// The sections of a connection with so many slots.
fn layout(audio_slots: u8, video_slots: u8) -> Layout {
    let video_slots = if cfg!(feature = "video") { video_slots.min(MAX_VIDEO_SLOTS) } else { 0 };
    Layout::Room { audio_slots: audio_slots.clamp(1, MAX_AUDIO_SLOTS), video_slots }
}

fn room_of(event: &Event) -> Option<&RoomId> {
    match event {
        Event::ParticipantJoined { room, .. }
        | Event::ParticipantLeft { room, .. }
        | Event::ParticipantChanged { room, .. }
        | Event::RoomChanged { room, .. }
        | Event::RoomLeft { room, .. }
        | Event::RejoinRoom { room }
        | Event::SlotsChanged(SlotsChanged { room, .. })
        | Event::DominantSpeaker { room, .. }
        | Event::LayersWanted(LayersWanted { room, .. })
        | Event::PublishingPoliced { room, .. } => Some(room),
        _ => None,
    }
}
