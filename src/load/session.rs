//! One client's signaling: signs in over a WebSocket of its own, joins, says what it shows, leaves (docs/protocol.md).

use super::{
    attendance::{Attendance, Meaning},
    client::{Common, MediaClient, Publisher},
    departures::{Departures, Directory},
    offer::{Agreed, Identity, offer},
    plan::Person,
    turns::Turns,
    worker::Worker,
};
use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt, StreamExt};
use halloo_protocol::{
    ClientInfo, ClientMessage, Credential, DeviceId, ErrorBody, Event, Hello, JoinRoom, MAX_MESSAGE_BYTES, ReplyBody,
    ReplyResult, Request, RoomId, RoomJoined, RoomMedia, SUBPROTOCOL, ServerMessage, SourceState, UserId,
};
use halloo_sfu::{ice::Credentials, net::Clock};
use halloo_transport::{Ssrc, Timestamp, random::Random};
use ring::rand::SystemRandom;
use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc::UnboundedSender, oneshot},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};

/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pauses between attempts to join again: none before the first, then as long as this, each twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// What all sessions share.
#[derive(Debug)]
pub struct Stage {
    /// The server's WebSocket.
    pub url: String,
    /// Whom to trust as the server.
    pub tls: Arc<rustls::ClientConfig>,
    /// What clients share.
    pub common: Common,
    /// The threads that play media.
    pub workers: Vec<Worker>,
    /// The rooms, and who publishes in each.
    pub rooms: Vec<(RoomId, Directory)>,
    /// Begins the names of all clients.
    pub names: String,
    /// Publishers of each room.
    pub publishers: u32,
    /// Tiles of the grid.
    pub tiles: usize,
    /// For everything at random.
    pub seed: u64,
    /// The time of everything.
    pub clock: Clock,
    /// Where it is told how sessions go.
    pub notices: UnboundedSender<Notice>,
}

/// How a session goes.
#[derive(Debug)]
pub enum Notice {
    /// Let into the room.
    Entered(u32),
    /// Shows something else now.
    Shows(u32, Shows),
    /// Told to join again, and did.
    Rejoined(u32),
    /// It has ended as it should, then.
    Left(u32, Timestamp),
    /// It could not join, or is out before its time.
    Failed(u32, String),
}

/// Whose pictures a client asked for.
#[derive(Clone, Debug)]
pub struct Shows {
    /// When.
    pub at: Timestamp,
    /// By participant number.
    pub cameras: Vec<u32>,
    /// Until when it was alone, where somebody with a camera came after it.
    pub alone_until: Option<Timestamp>,
}

/// Why a client is in the room no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    /// It is time to leave.
    Leave,
    /// The server wants it to join again.
    Rejoin,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Takes part from now on until told to leave.
pub async fn attend(stage: Arc<Stage>, person: Person, leave: oneshot::Receiver<()>) {
    let notice = match take_part(&stage, person, leave).await {
        Ok(()) => Notice::Left(person.number, stage.clock.now()),
        Err(error) => Notice::Failed(person.number, format!("{error:#}")),
    };
    let _ = stage.notices.send(notice);
}

async fn take_part(stage: &Stage, person: Person, mut leave: oneshot::Receiver<()>) -> Result<()> {
    let (room, _) = stage.rooms.get(person.room as usize).context("no such room")?;
    let mut random = Random::new(stage.seed ^ (u64::from(person.number) << 32) ^ 0x6c6f_6164);
    let mut link = tokio::select! {
        link = timeout(PATIENCE, Link::sign_in(stage, person)) => link.context("signing in took too long")??,
        _ = &mut leave => return Ok(()),
    };
    let mut entered = link.enter(stage, person, &mut random).await?;
    let _ = stage.notices.send(Notice::Entered(person.number));
    while link.stay(stage, person, entered, &mut leave).await? == Over::Rejoin {
        entered = tokio::select! {
            entered = timeout(PATIENCE, link.enter_again(stage, person, &mut random)) => {
                entered.context("joining again took too long")??
            }
            _ = &mut leave => return Ok(()),
        };
        let _ = stage.notices.send(Notice::Rejoined(person.number));
    }
    // Whether the goodbye arrives in time changes nothing of what was measured.
    let _ = timeout(GOODBYE, link.leave(room)).await;
    Ok(())
}

fn identity(stage: &Stage, person: Person, random: &mut Random) -> Result<Identity> {
    // Distinct within a client is all that is needed: the unit gives every receiver SSRCs of its own.
    let first = (random.next_u64() as u32 & 0x3fff_fffc) | 0x4000_0000;
    Ok(Identity {
        credentials: Credentials::generate(&SystemRandom::new())?,
        fingerprint: stage.common.endpoint.sha256(),
        microphone: Ssrc(first),
        camera: Ssrc(first + 1),
        camera_rtx: Ssrc(first + 2),
        cname: format!("{}-{}", stage.names, person.number),
    })
}

fn join_request(room: &RoomId, person: Person, sdp: String) -> Request {
    let state = if person.publishes { SourceState::On } else { SourceState::Off };
    let media = RoomMedia { microphone: state, camera: state, screen: SourceState::Off };
    Request::JoinRoom(JoinRoom { room: room.clone(), media, sdp, token: None })
}

/// In the room, its media played.
struct Entered<'a> {
    worker: &'a Worker,
    directory: &'a Directory,
    person: u32,
    me: u32,
    attendance: Attendance,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.worker.stop(self.person);
        self.directory.remove(self.me);
    }
}

/// A signed-in connection.
struct Link {
    socket: Socket,
    last_id: u64,
    /// Events that came before the client was ready for them.
    early: VecDeque<Event>,
}

impl Link {
    async fn sign_in(stage: &Stage, person: Person) -> Result<Self> {
        let mut request = stage.url.as_str().into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES * 4))
            .max_frame_size(Some(MAX_MESSAGE_BYTES * 4))
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0);
        let tls = Connector::Rustls(Arc::clone(&stage.tls));
        let (socket, _) = connect_async_tls_with_config(request, Some(limits), true, Some(tls))
            .await
            .with_context(|| format!("no connection to {}", stage.url))?;
        let mut link = Self { socket, last_id: 0, early: VecDeque::new() };
        let name = format!("{}-{}", stage.names, person.number);
        let hello = Hello {
            credential: Credential::Guest { name: UserId::new(name)? },
            device: DeviceId::new("load")?,
            client: ClientInfo { name: "halloo-load".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            resume: None,
        };
        match link.request(Request::Hello(hello)).await? {
            ReplyResult::Welcome(_) => Ok(link),
            other => bail!("the server answered the sign-in with {other:?}"),
        }
    }

    /// Joins the room, and lets the client's media begin.
    async fn enter<'a>(&mut self, stage: &'a Stage, person: Person, random: &mut Random) -> Result<Entered<'a>> {
        let (room, directory) = stage.rooms.get(person.room as usize).context("no such room")?;
        let worker = stage.workers.get(person.number as usize % stage.workers.len().max(1)).context("no thread")?;
        let identity = identity(stage, person, random)?;
        let request = join_request(room, person, offer(&identity, stage.tiles));
        let reply = timeout(PATIENCE, self.request(request)).await.context("joining took too long")??;
        let ReplyResult::RoomJoined(RoomJoined { sdp, snapshot }) = reply else {
            bail!("the server answered join_room with {reply:?}");
        };
        let agreed = Agreed::read(&sdp)?;
        let me = snapshot.you.0;
        let publisher = person.publishes.then(|| {
            let departures = Arc::new(Departures::new(stage.common.clip.len()));
            directory.insert(me, Arc::clone(&departures));
            let turns = Turns { publishers: stage.publishers, place: person.place, room: person.room };
            Publisher::new(&identity, Arc::clone(&stage.common.clip), departures, turns, random)
        });
        let now = stage.clock.now();
        let seed = random.next_u64();
        let client = MediaClient::new(now, &stage.common, &identity, &agreed, directory.clone(), publisher, seed)?;
        worker.play(person.number, client, agreed.address);
        let attendance = Attendance::new(now, &snapshot, stage.tiles);
        Ok(Entered { worker, directory, person: person.number, me, attendance })
    }

    /// Joins again: at once, then with pauses.
    async fn enter_again<'a>(&mut self, stage: &'a Stage, person: Person, random: &mut Random) -> Result<Entered<'a>> {
        // What was said of the old stay is not of the new one.
        self.early.clear();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.enter(stage, person, random).await {
                Ok(entered) => return Ok(entered),
                Err(error) if error.is::<ErrorBody>() => {}
                Err(error) => return Err(error),
            }
            sleep(pause.mul_f64(0.75 + 0.5 * random.next_f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows the room until it is time to leave, or the client is out.
    async fn stay(
        &mut self,
        stage: &Stage,
        person: Person,
        mut entered: Entered<'_>,
        leave: &mut oneshot::Receiver<()>,
    ) -> Result<Over> {
        let attendance = &mut entered.attendance;
        loop {
            let now = stage.clock.now();
            while let Some(event) = self.early.pop_front() {
                match attendance.handle_event(now, &event) {
                    Some(Meaning::Watched(watched)) => entered.worker.film(person.number, watched),
                    Some(Meaning::Rejoin) => return Ok(Over::Rejoin),
                    Some(Meaning::Out(why)) => bail!("{why}"),
                    None => {}
                }
            }
            if let Some(subscribe) = attendance.poll(now) {
                let cameras = subscribe.show.iter().map(|shown| shown.source.participant.0).collect();
                let shows = Shows { at: now, cameras, alone_until: attendance.alone_until() };
                let _ = stage.notices.send(Notice::Shows(person.number, shows));
                self.send(Request::Subscribe(subscribe)).await?;
            }
            tokio::select! {
                message = next(&mut self.socket) => match message? {
                    ServerMessage::Event(event) => self.early.push_back(event.event),
                    ServerMessage::Reply(reply) => {
                        if let ReplyBody::Error(error) = reply.body {
                            bail!("the server refused what is shown: {error}");
                        }
                    }
                },
                () = until(stage.clock, attendance.next_timeout()) => {}
                _ = &mut *leave => return Ok(Over::Leave),
            }
        }
    }

    async fn leave(&mut self, room: &RoomId) -> Result<()> {
        self.request(Request::LeaveRoom { room: room.clone() }).await?;
        self.request(Request::SignOut).await?;
        self.socket.close(None).await?;
        Ok(())
    }

    async fn send(&mut self, request: Request) -> Result<u64> {
        self.last_id += 1;
        let text = serde_json::to_string(&ClientMessage { id: self.last_id, request })?;
        self.socket.send(Message::text(text)).await?;
        Ok(self.last_id)
    }

    /// Asks, and waits for the reply; events before it are kept.
    async fn request(&mut self, request: Request) -> Result<ReplyResult> {
        let id = self.send(request).await?;
        loop {
            match next(&mut self.socket).await? {
                ServerMessage::Event(event) => self.early.push_back(event.event),
                ServerMessage::Reply(reply) if reply.reply_to == id => {
                    return match reply.body {
                        ReplyBody::Result(result) => Ok(result),
                        ReplyBody::Error(error) => Err(anyhow::Error::msg(error).context("the server refused")),
                    };
                }
                ServerMessage::Reply(_) => {}
            }
        }
    }
}

async fn next(socket: &mut Socket) -> Result<ServerMessage> {
    loop {
        let message = socket.next().await.context("the server closed the connection")??;
        match message {
            Message::Text(text) => return Ok(serde_json::from_str(text.as_str())?),
            Message::Close(frame) => match frame {
                Some(frame) => bail!("the server closed the connection: {} {}", frame.code, frame.reason),
                None => bail!("the server closed the connection"),
            },
            // Pings are answered by the library.
            _ => {}
        }
    }
}

async fn until(clock: Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => sleep(at.since(clock.now())).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
