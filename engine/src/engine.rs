//! The engine: one signed-in user on one device, who makes and takes calls.

mod builder;
mod rooms;

pub use builder::EngineBuilder;
pub(crate) use builder::server_url;

use crate::{
    call::{
        Call, CallActor, CallInput, CallMachine, CallMedia, CallOptions, Direction, IncomingCall, Progress, RingingSlot,
    },
    clock,
    error::{BuildError, CallError},
    event_queue::EventQueue,
    room::RoomInput,
    route::MediaInput,
    signaling::{Notice, SignalClient, SignalConfig},
    wire::{BindPolicy, IceServer, Layout, Wire, WireConfig, WireEvent},
};
use halloo_protocol::{
    CallId, ErrorBody, Event, IncomingCall as IncomingCallEvent, MediaState, Presence, ReplyResult, Request, RoomId,
    UserId, WatchPresence, Welcome,
};
use halloo_transport::Bitrate;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::{Notify, mpsc, oneshot, watch},
};

/// Calls that may ring or run at once.
const MAX_CALLS: usize = 16;
/// First target of congestion control, and the least it may fall to: enough for sound.
const START_BITRATE: Bitrate = Bitrate::from_kbps(1_000);
const MIN_BITRATE: Bitrate = Bitrate::from_kbps(60);
/// How long the other side's call may take to ring here when both called at once.
const GLARE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of the server that wait for one call's task.
const CALL_QUEUE: usize = 1_024;

async fn start(config: SignalConfig, bind: BindPolicy, handle: Handle, own: OwnRuntime) -> Result<Engine, BuildError> {
    let (notices, mut receiver) = mpsc::channel(64);
    let (signal, _task) = SignalClient::spawn(config, notices).map_err(|e| BuildError::Setup(e.to_string()))?;
    let welcome = match receiver.recv().await {
        Some(Notice::SignedIn(welcome)) => welcome,
        Some(Notice::Refused(error)) => return Err(BuildError::Refused(error)),
        Some(Notice::Lost(reason)) => return Err(BuildError::Unreachable(reason)),
        Some(Notice::Event(_)) | None => return Err(BuildError::Setup("the signaling task ended".to_owned())),
    };
    let inner = Arc::new(Inner {
        handle,
        signal,
        bind,
        shared: Mutex::new(Shared {
            welcome,
            calls: HashMap::new(),
            rooms: HashMap::new(),
            ringing: HashMap::new(),
            calling: Vec::new(),
            incoming: None,
            presence: None,
            refused: None,
        }),
        rang: Notify::new(),
        own,
    });
    tokio::spawn(run_hub(receiver, Arc::downgrade(&inner)));
    Ok(Engine { inner })
}

/// Delivers what the server says, until the engine is gone.
async fn run_hub(mut notices: mpsc::Receiver<Notice>, engine: std::sync::Weak<Inner>) {
    let mut away = false;
    while let Some(notice) = notices.recv().await {
        let Some(engine) = engine.upgrade() else { return };
        match notice {
            Notice::SignedIn(welcome) => {
                away = false;
                engine.signed_in(welcome);
            }
            // Each attempt that fails is a loss too, and no news.
            Notice::Lost(reason) if away => {
                tracing::debug!(%reason, "the signaling server is still away");
                engine.hurry();
            }
            Notice::Lost(reason) => {
                away = true;
                engine.hurry();
                tracing::info!(%reason, "the signaling connection broke");
                engine.to_all_calls(|| CallInput::SignalingLost);
                engine.to_all_rooms(|| RoomInput::SignalingLost);
            }
            Notice::Event(Event::IncomingCall(call)) => Inner::ring(&engine, call),
            Notice::Event(Event::Presence(presence)) => engine.tell_presence(presence),
            Notice::Event(event) => engine.deliver(event),
            Notice::Refused(error) => {
                tracing::warn!(%error, "the signaling server ended the session");
                engine.to_all_calls(|| CallInput::SignInRefused(error.clone()));
                engine.to_all_rooms(|| RoomInput::SignInRefused(error.clone()));
                engine.lock().refused = Some(error);
            }
        }
    }
}

/// One signed-in user on one device. Cloning shares it. It signs out when the last clone and the last call are dropped.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// What [`Engine`] and its calls share.
#[derive(Debug)]
pub(crate) struct Inner {
    handle: Handle,
    signal: SignalClient,
    bind: BindPolicy,
    shared: Mutex<Shared>,
    /// Wakes whoever waits for a particular call to ring here.
    rang: Notify,
    /// Dropped last.
    #[expect(dead_code, reason = "kept alive for its threads")]
    own: OwnRuntime,
}

#[derive(Debug)]
struct Shared {
    welcome: Welcome,
    calls: HashMap<CallId, mpsc::Sender<CallInput>>,
    rooms: HashMap<RoomId, mpsc::Sender<RoomInput>>,
    /// Calls that ring here and that nobody has taken.
    ringing: HashMap<CallId, Arc<RingingSlot>>,
    /// Users who are being called and whose server has not taken the invitation yet.
    calling: Vec<UserId>,
    incoming: Option<mpsc::Sender<IncomingCall>>,
    presence: Option<mpsc::Sender<Presence>>,
    refused: Option<ErrorBody>,
}

/// The engine's own runtime, which must not be dropped on one of its own threads.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Time for the sign-out to leave; `shutdown_timeout` blocks, so it gets a thread.
            std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(1)));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.signal.leave();
    }
}

impl Engine {
    /// Sets an engine up.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The user id signed in.
    pub fn user(&self) -> String {
        self.inner.lock().welcome.user.to_string()
    }

    /// Calls a user: all of their devices ring. Returns when the server has taken the invitation.
    ///
    /// # Errors
    /// [`CallError`]: the user is unknown, offline or busy, or the call could not be set up.
    pub async fn call(&self, user: &str, options: CallOptions) -> Result<Call, CallError> {
        let peer = UserId::new(user)?;
        let id = CallId::new(uuid::Uuid::new_v4().simple().to_string())?;
        let media = MediaState { audio_muted: false, video: options.video };
        let (inner, for_task) = (self.inner.clone(), self.inner.clone());
        let machine = CallMachine::outgoing(id.clone(), peer.clone(), media);
        let (glare, mut glared) = mpsc::channel(1);
        let options = Arc::new(options);
        let shared_options = options.clone();
        let _calling = Calling::new(&inner, peer.clone());
        let call = on_runtime(&inner, async move {
            for_task.start_call(id, peer, Direction::Outgoing, machine, &shared_options, glare).await
        })
        .await?;
        match call.accepted_by_server().await {
            Ok(()) => Ok(call),
            Err(error) => match glared.try_recv() {
                Ok(id) => self.answer_instead(&id, &options).await.unwrap_or(Err(error)),
                Err(_) => Err(error),
            },
        }
    }

    /// Both called each other at once: take the call that the server kept, as soon as it rings here. `None` where it does not.
    async fn answer_instead(&self, id: &CallId, options: &CallOptions) -> Option<Result<Call, CallError>> {
        let inner = self.inner.clone();
        let id = id.clone();
        let found = on_runtime(&self.inner, async move {
            let wait = async {
                loop {
                    let rang = inner.rang.notified();
                    if let Some(call) = inner.lock().ringing.get(&id).and_then(|slot| slot.take()) {
                        return call;
                    }
                    rang.await;
                }
            };
            Ok(tokio::time::timeout(GLARE_TIMEOUT, wait).await.ok())
        });
        let call = found.await.ok()??;
        Some(call.accept(options).await)
    }

    /// Calls that ring here from now on; an earlier receiver gets no more. Without one, callers are told that this device is
    /// busy. At most 16 wait to be looked at.
    pub fn incoming(&self) -> IncomingCalls {
        let (sender, receiver) = mpsc::channel(MAX_CALLS);
        self.inner.lock().incoming = Some(sender);
        IncomingCalls(receiver)
    }

    /// Who is online, and who comes and goes from now on; an earlier watch ends.
    ///
    /// # Errors
    /// Where the server refuses.
    pub async fn watch_presence(&self) -> Result<(Vec<Presence>, mpsc::Receiver<Presence>), CallError> {
        let (sender, receiver) = mpsc::channel(256);
        self.inner.lock().presence = Some(sender);
        match self.inner.signal.request(Request::WatchPresence(WatchPresence { users: None })).await {
            Ok(ReplyResult::Presence { users }) => Ok((users, receiver)),
            Ok(_) => Err(CallError::Setup("the server answered with something else".to_owned())),
            Err(error) => Err(CallError::Refused(error)),
        }
    }

    /// Why the server ended the session for good, if it did (signed in elsewhere, say).
    pub fn session_ended(&self) -> Option<String> {
        self.inner.lock().refused.as_ref().map(|e| e.message.clone())
    }

    /// Signs out now and waits until the server knows, for two seconds at most.
    pub async fn sign_out(self) {
        self.inner.signal.sign_out().await;
    }
}

/// Calls that ring here.
#[derive(Debug)]
pub struct IncomingCalls(mpsc::Receiver<IncomingCall>);

impl IncomingCalls {
    /// The next call; `None` once the engine is gone or a later receiver was made.
    pub async fn next(&mut self) -> Option<IncomingCall> {
        loop {
            let call = self.0.recv().await?;
            if call.is_ringing() {
                return Some(call);
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn network_changed(&self) {
        self.signal.network_changed();
    }

    /// Calls and rooms that run do not wait long for a server that comes back.
    fn hurry(&self) {
        let shared = self.lock();
        if !shared.calls.is_empty() || !shared.rooms.is_empty() {
            self.signal.hurry();
        }
    }

    fn signed_in(&self, welcome: Welcome) {
        let mut shared = self.lock();
        let resumed = welcome.resumed;
        for (id, call) in &shared.calls {
            let known = welcome.calls.iter().any(|c| c.call == *id);
            let _ = call.try_send(CallInput::SignedIn { resumed, known });
        }
        for (id, room) in &shared.rooms {
            let snapshot = welcome.rooms.iter().find(|r| r.room == *id).cloned().map(Box::new);
            let _ = room.try_send(RoomInput::SignedIn { resumed, snapshot });
        }
        if !resumed && shared.presence.is_some() {
            drop(self.signal.submit(Request::WatchPresence(WatchPresence { users: None })));
        }
        shared.welcome = welcome;
    }

    fn to_all_calls(&self, input: impl Fn() -> CallInput) {
        self.lock()
            .calls
            .retain(|_, call| !matches!(call.try_send(input()), Err(mpsc::error::TrySendError::Closed(_))));
    }

    fn tell_presence(&self, presence: Presence) {
        if let Some(sender) = &self.lock().presence {
            // A watcher that does not read misses changes, not calls.
            let _ = sender.try_send(presence);
        }
    }

    fn deliver(&self, event: Event) {
        let event = match self.deliver_to_room(event) {
            Ok(()) => return,
            Err(event) => event,
        };
        let Some(id) = call_of(&event).cloned() else {
            if let Event::GoingAway { message } = event {
                tracing::info!(%message, "the signaling server is going away");
            }
            return;
        };
        let mut shared = self.lock();
        let Some(call) = shared.calls.get(&id) else { return };
        if let Err(error) = call.try_send(CallInput::Event(event)) {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                tracing::error!("a call's task is {CALL_QUEUE} messages behind: it is given up");
            }
            shared.calls.remove(&id);
        }
    }

    /// A call rings here.
    fn ring(engine: &Arc<Self>, event: IncomingCallEvent) {
        let (listener, wanted) = {
            let shared = engine.lock();
            let wanted = shared.incoming.is_some() || shared.calling.contains(&event.from);
            (shared.incoming.clone(), wanted && shared.calls.len() < MAX_CALLS)
        };
        if !wanted {
            drop(engine.signal.submit(Request::Busy { call: event.call }));
            return;
        }
        let engine = engine.clone();
        tokio::spawn(async move {
            let rings = Duration::from_millis(event.ring_timeout_ms.clamp(1_000, 600_000));
            let (id, peer) = (event.call.clone(), event.from.clone());
            let machine = CallMachine::incoming(clock::now(), id.clone(), peer.clone(), event.sdp, rings);
            let (glare, _) = mpsc::channel(1);
            let options = CallOptions::default();
            match engine.clone().start_call(id.clone(), peer, Direction::Incoming, machine, &options, glare).await {
                Ok(call) => {
                    let slot = Arc::new(RingingSlot::new(call));
                    engine.lock().ringing.insert(id, slot.clone());
                    engine.rang.notify_waiters();
                    // Without a listener the slot alone keeps it, for the `call` in progress to find.
                    let Some(listener) = listener else { return };
                    let incoming = IncomingCall::new(slot, event.from, event.from_name, event.media);
                    if let Err(refused) = listener.try_send(incoming) {
                        let (mpsc::error::TrySendError::Full(incoming) | mpsc::error::TrySendError::Closed(incoming)) =
                            refused;
                        incoming.busy().await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "an incoming call could not be set up");
                    drop(engine.signal.submit(Request::Busy { call: id }));
                }
            }
        });
    }

    /// How a connection is set up with what the server said last.
    fn wire_config(
        &self,
        layout: Layout,
        max_bitrate: Bitrate,
        input: Arc<dyn MediaInput>,
        events: mpsc::Sender<WireEvent>,
    ) -> WireConfig {
        WireConfig {
            ice_servers: self.lock().welcome.ice_servers.iter().map(to_wire).collect(),
            bind: self.bind.clone(),
            layout,
            start_bitrate: START_BITRATE.min(max_bitrate),
            min_bitrate: MIN_BITRATE.min(max_bitrate),
            max_bitrate,
            runtime: self.handle.clone(),
            input,
            events,
            seed: rand::random(),
        }
    }

    /// Starts a call's task. Must run on the engine's runtime.
    async fn start_call(
        self: Arc<Self>,
        id: CallId,
        peer: UserId,
        direction: Direction,
        machine: CallMachine,
        options: &CallOptions,
        glare: mpsc::Sender<CallId>,
    ) -> Result<Call, CallError> {
        let events = EventQueue::default();
        // The video thread asks for key frames from before there is a wire.
        let asked: Arc<OnceLock<Wire>> = Arc::default();
        let asking = Arc::clone(&asked);
        #[cfg(feature = "video")]
        let ask_key_frame = Arc::new(move |ssrc| {
            if let Some(wire) = asking.get() {
                wire.request_key_frame(ssrc);
            }
        });
        #[cfg(not(feature = "video"))]
        drop(asking);
        let media = CallMedia::new(
            peer.to_string(),
            options,
            events.clone(),
            #[cfg(feature = "video")]
            ask_key_frame,
        )
        .map_err(|e| CallError::Setup(e.to_string()))?;
        let (wire_sender, wire_events) = mpsc::channel(64);
        let layout = Layout::Call { video: cfg!(feature = "video") };
        let config = self.wire_config(layout, options.max_bitrate, media.clone(), wire_sender);
        let wire = match Wire::new(config).await {
            Ok(wire) => wire,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || media.stop()).await;
                return Err(CallError::Setup(error.to_string()));
            }
        };
        let _ = asked.set(wire.clone());
        media.attach_route(&wire);
        // Room for every request an application makes in a hurry; a full queue refuses further ones.
        let (commands, command_receiver) = mpsc::channel(64);
        let (inputs, input_receiver) = mpsc::channel(CALL_QUEUE);
        let starting = if direction == Direction::Outgoing { Progress::Starting } else { Progress::Pending };
        let (progress, progress_receiver) = watch::channel(starting);
        self.lock().calls.insert(id.clone(), inputs);
        let actor = CallActor {
            machine,
            wire: wire.clone(),
            wire_events,
            inputs: input_receiver,
            commands: command_receiver,
            signal: self.signal.clone(),
            media: media.clone(),
            events: events.clone(),
            progress,
            glare,
        };
        let (engine, call) = (Arc::downgrade(&self), id.clone());
        tokio::spawn(async move {
            actor.run().await;
            if let Some(engine) = engine.upgrade() {
                let slot = {
                    let mut shared = engine.lock();
                    shared.calls.remove(&call);
                    shared.ringing.remove(&call)
                };
                drop(slot);
            }
        });
        Ok(Call {
            id,
            peer,
            direction,
            commands,
            media,
            wire,
            events,
            progress: progress_receiver,
            engine: self,
            started_at: clock::now(),
        })
    }
}

/// Marks a user as being called while it lives.
struct Calling<'a> {
    engine: &'a Inner,
    user: UserId,
}

impl<'a> Calling<'a> {
    fn new(engine: &'a Inner, user: UserId) -> Self {
        engine.lock().calling.push(user.clone());
        Self { engine, user }
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut shared = self.engine.lock();
        if let Some(at) = shared.calling.iter().position(|user| *user == self.user) {
            shared.calling.swap_remove(at);
        }
    }
}

/// Runs a future on the engine's runtime, whatever runtime (or none) the caller is on.
async fn on_runtime<T: Send + 'static>(
    engine: &Inner,
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    let (sender, receiver) = oneshot::channel();
    engine.handle.spawn(async move {
        let _ = sender.send(work.await);
    });
    receiver.await.map_err(|_| CallError::Setup("the engine's runtime is gone".to_owned()))?
}

fn call_of(event: &Event) -> Option<&CallId> {
    match event {
        Event::IncomingCall(e) => Some(&e.call),
        Event::Ringing { call, .. } | Event::MediaState { call, .. } | Event::PeerReach { call, .. } => Some(call),
        Event::Answered(e) => Some(&e.call),
        Event::Candidate(e) => Some(&e.call),
        Event::Description(e) => Some(&e.call),
        Event::Ended(e) => Some(&e.call),
        _ => None,
    }
}

fn to_wire(server: &halloo_protocol::IceServer) -> IceServer {
    IceServer {
        urls: server.urls.clone(),
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.clone().unwrap_or_default(),
    }
}
