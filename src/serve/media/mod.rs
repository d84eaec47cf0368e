//! Rooms' media, in this process: signaling's [`MediaPlane`] on the handle of the forwarding unit (SFU).
//!
//! ```text
//!  hub -> join, offer ----> negotiate -> SfuHandle ----\
//!      -> command -> inbox \                            shards
//!                           desk (one task) -> SfuHandle/
//!  hub <- events <--------/ \<- joined, events --------/
//! ```
//!
//! Offers are read and answered by whoever awaits the answer, so that many who join at once use all processors. Everything
//! else goes through the [`Desk`], one task that knows every participant.
//!
//! Invariants: nothing here waits for a shard; an order to leave is never lost.

mod convert;
mod desk;
mod metrics;
mod negotiation;
mod settings;

use anyhow::Context;
use desk::{Desk, Inbox, Joined};
use halloo_protocol::{ParticipantId, RoomId};
use halloo_sfu::{
    JoinRequest, Overloaded, Sfu, SfuHandle, StartError,
    room::RoomSnapshot,
    shard::{Event, EventSink, JoinError, RoomEntry},
};
use halloo_signaling::{MediaCommand, MediaError, MediaEvents, MediaFuture, MediaJoin, MediaJoined, MediaPlane};
use metrics::Figures;
use negotiation::{Negotiation, Renegotiated};
pub(super) use settings::{MediaPlan, MediaSettings};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Events of the shards that may wait to be passed on; above it rooms keep theirs.
const MAX_EVENTS: usize = 8_192;
/// A shard that does not answer an operator within this time is busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// From the NTP era's start to the Unix epoch (RFC 5905, section 6).
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// The SFU as signaling's media plane.
#[derive(Debug)]
pub(super) struct SfuPlane {
    unit: Arc<SfuHandle>,
    inbox: mpsc::UnboundedSender<Inbox>,
    figures: Arc<Figures>,
    /// What the desk needs, until it starts.
    waiting: Mutex<Option<Desk>>,
}

impl SfuPlane {
    /// Opens the ports and starts the threads.
    pub(super) fn start(plan: &MediaPlan) -> anyhow::Result<Self> {
        let mut config = plan.config()?;
        config.ntp_now =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(NTP_TO_UNIX_SECONDS);
        let (event_sender, events) = mpsc::channel(MAX_EVENTS);
        let unit = match Sfu::start(&config, Events(event_sender)) {
            Ok(unit) => Arc::new(unit),
            Err(error @ StartError::Listen { .. }) => {
                let advice = match error {
                    StartError::Listen { protocol: "TCP", .. } => "take another --media-port, or --no-media-tcp",
                    _ => "take another --media-port, or --no-rooms",
                };
                return Err(error).with_context(|| format!("rooms need a port for media: {advice}"));
            }
            Err(error) => return Err(error).context("rooms cannot be served; --no-rooms goes without"),
        };
        // Not bounded by its type: the hub takes no new orders while too many wait, and orders to leave must not be lost.
        let (inbox, orders) = mpsc::unbounded_channel();
        let figures = Arc::new(Figures::new(config.shards));
        let desk = Desk::new(Arc::clone(&unit), orders, events, Arc::clone(&figures));
        Ok(Self { unit, inbox, figures, waiting: Mutex::new(Some(desk)) })
    }
}

impl SfuPlane {
    /// Where clients are told to send.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.unit.addresses().collect()
    }

    /// Which shard a room is on.
    pub(super) fn shard_of(&self, room: &str) -> usize {
        self.unit.shard_of(room)
    }

    /// The rooms that are open; `None` where a shard is too busy to say.
    pub(super) async fn rooms(&self) -> Option<Vec<RoomEntry>> {
        let (told, mut rooms) = mpsc::unbounded_channel();
        let reply = move |of_shard| {
            let _ = told.send(of_shard);
        };
        self.unit.rooms(reply).ok()?;
        let mut all = Vec::new();
        // The channel ends with the last shard's reply.
        while let Some(of_shard) = timeout(PATIENCE, rooms.recv()).await.ok()? {
            all.extend(of_shard);
        }
        Some(all)
    }

    /// A room as it is now, or `None` within where there is none; `None` where its shard is too busy to say.
    pub(super) async fn snapshot(&self, room: &str) -> Option<Option<RoomSnapshot>> {
        let (told, snapshot) = oneshot::channel();
        let reply = move |snapshot| {
            let _ = told.send(snapshot);
        };
        self.unit.snapshot(Arc::from(room), reply).ok()?;
        timeout(PATIENCE, snapshot).await.ok()?.ok()
    }
}

impl MediaPlane for SfuPlane {
    fn start(&self, events: MediaEvents) {
        let desk = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(desk) = desk {
            tokio::spawn(desk.run(events));
        }
    }

    fn join(&self, join: MediaJoin) -> MediaFuture<MediaJoined> {
        let (unit, inbox) = (Arc::clone(&self.unit), self.inbox.clone());
        Box::pin(async move { take_in(&unit, &inbox, join).await })
    }

    fn offer(&self, room: RoomId, participant: ParticipantId, sdp: String) -> MediaFuture<String> {
        let (unit, inbox) = (Arc::clone(&self.unit), self.inbox.clone());
        Box::pin(async move { answer_again(&unit, &inbox, room, participant, &sdp).await })
    }

    fn command(&self, room: RoomId, command: MediaCommand) {
        // Without a desk the server is ending.
        let _ = self.inbox.send(Inbox::Command { room, command });
    }

    fn metrics(&self) -> String {
        self.figures.render()
    }
}

/// Answers the offer, and has the shard take the participant in.
async fn take_in(
    unit: &SfuHandle,
    inbox: &mpsc::UnboundedSender<Inbox>,
    join: MediaJoin,
) -> Result<MediaJoined, MediaError> {
    let name: Arc<str> = Arc::from(join.room.as_str());
    let local = unit.local_transport(&name).map_err(|error| MediaError::Unavailable(error.to_string()))?;
    let (negotiation, agreed) = Negotiation::begin(&join, local)?;
    let request = JoinRequest {
        room: name,
        room_config: convert::room_config(&join.limits),
        participant: negotiation.participant().clone(),
        remote: negotiation.remote().clone(),
        local: negotiation.local().clone(),
    };
    let (reply, answer) = oneshot::channel();
    let (room, inbox, media) = (join.room, inbox.clone(), join.media);
    let told = move |joined: Result<_, JoinError>| {
        // The desk knows the participant before any event can name it: both come from the shard's thread.
        if let Ok(participant) = joined {
            let _ = inbox.send(Inbox::Joined(Box::new(Joined { room, participant, media, negotiation })));
        }
        let _ = reply.send(joined);
    };
    unit.join(request, told).map_err(overloaded)?;
    let participant = answer.await.map_err(|_| gone())?.map_err(refused)?;
    Ok(MediaJoined { participant: ParticipantId(participant.get()), sdp: agreed })
}

/// Answers a later offer: an ICE restart, or more slots.
async fn answer_again(
    unit: &SfuHandle,
    inbox: &mpsc::UnboundedSender<Inbox>,
    room: RoomId,
    participant: ParticipantId,
    sdp: &str,
) -> Result<String, MediaError> {
    let name: Arc<str> = Arc::from(room.as_str());
    let (reply, negotiation) = oneshot::channel();
    let _ = inbox.send(Inbox::Negotiation { room: room.clone(), participant, reply });
    let Ok(Some(negotiation)) = negotiation.await else {
        return Err(MediaError::Unavailable("it no longer has this connection: join again".to_owned()));
    };
    // One offer after the other.
    let mut negotiation = negotiation.lock().await;
    let id = convert::to_unit(participant);
    let fresh = || unit.local_transport(&name).map_err(|error| MediaError::Unavailable(error.to_string()));
    let Renegotiated { next, answer, restart, new_slots } = negotiation.offer_again(sdp, fresh)?;
    if restart {
        let (reply, done) = oneshot::channel();
        let told = move |outcome| {
            let _ = reply.send(outcome);
        };
        let (name, local) = (Arc::clone(&name), next.local().clone());
        unit.restart_ice(name, id, local, next.remote(), told).map_err(overloaded)?;
        done.await.map_err(|_| gone())?.map_err(refused)?;
    }
    // First, since the unit says at once what new slots show, and what it says of slots without a name is not passed on.
    let _ = inbox.send(Inbox::Slots { room, participant, mids: next.slot_mids() });
    if !new_slots.is_empty() {
        unit.add_slots(Arc::clone(&name), id, new_slots).map_err(overloaded)?;
    }
    *negotiation = next;
    Ok(answer)
}

fn overloaded(_: Overloaded) -> MediaError {
    MediaError::Unavailable("it has too much to do: try again in a moment".to_owned())
}

fn gone() -> MediaError {
    MediaError::Unavailable("it is stopping or has just failed: try again in a moment".to_owned())
}

fn refused(error: JoinError) -> MediaError {
    match error {
        JoinError::RoomFull | JoinError::TooManySessions | JoinError::TooManyRooms => MediaError::Full,
        JoinError::Credentials | JoinError::RoomFailed => MediaError::Unavailable(error.to_string()),
    }
}

/// Where the shards' events go.
#[derive(Clone, Debug)]
struct Events(mpsc::Sender<Event>);

impl EventSink for Events {
    fn offer(&mut self, event: Event) -> Result<(), Event> {
        match self.0.try_send(event) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(event)) => Err(event),
            // The server is ending: nobody listens any more.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}
