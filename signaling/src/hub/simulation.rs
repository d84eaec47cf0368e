//! Random clients against the hub on a virtual clock: what must hold whatever they do.
//!
//! Each request gets exactly one reply; a session's events have no gap and are the same when replayed; once everybody has
//! left, no call, session or timer is left and nobody is in a call. A failing seed is printed: keep it as a test.

mod rooms;

use super::*;
use halloo_protocol::{
    Announce, AnnouncedRole, Answer, Candidate, CandidateFrom, ClientInfo, Credential, Description, DeviceId, Hello,
    Invite, MediaState, NumberedEvent, Resume, SdpKind, WatchPresence,
};
use rooms::{Belief, Plane, is_deferred};
use std::{collections::HashSet, net::IpAddr};

struct Client {
    user: UserId,
    device: DeviceId,
    conn: Option<ConnId>,
    session: Option<(SessionId, Epoch)>,
    /// Sent to the connection and not read yet.
    unread: VecDeque<ServerMessage>,
    last_seq: u64,
    belief: Belief,
}

struct World {
    hub: Hub,
    now: Instant,
    random: ChaCha20Rng,
    clients: Vec<Client>,
    next_conn: u64,
    next_id: u64,
    next_call: u64,
    /// Every event by session and number.
    sent: HashMap<(SessionId, u64), Event>,
    resumes: u32,
    plane: Plane,
    /// Requests whose reply waits for the media plane.
    awaited: HashSet<(ConnId, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut config = HubConfig { max_calls_per_device: 3, ..HubConfig::default() };
        config.rooms.limits.max_participants = 4;
        config.rooms.max_rooms_per_device = 1;
        let mut clients = Vec::new();
        for user in ["alice", "bob", "carol"] {
            for device in ["phone", "desk"] {
                clients.push(Client {
                    user: UserId::new(user).unwrap(),
                    device: DeviceId::new(device).unwrap(),
                    conn: None,
                    session: None,
                    unread: VecDeque::new(),
                    last_seq: 0,
                    belief: Belief::default(),
                });
            }
        }
        let mut hub = Hub::new(config, [7; 32]);
        hub.use_media_plane();
        Self {
            hub,
            now: Instant::now(),
            random: ChaCha20Rng::seed_from_u64(seed),
            clients,
            next_conn: 0,
            next_id: 0,
            next_call: 0,
            sent: HashMap::new(),
            resumes: 0,
            plane: Plane::default(),
            awaited: HashSet::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    /// Takes what the hub sends, and gives how many replies to this request were among it.
    fn collect(&mut self, asked: Option<(ConnId, u64)>) -> usize {
        let mut replies = 0;
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Send { conn, text } => {
                    let message: ServerMessage = serde_json::from_str(&text).unwrap();
                    if let ServerMessage::Reply(reply) = &message {
                        if asked == Some((conn, reply.reply_to)) {
                            replies += 1;
                        } else {
                            assert!(self.awaited.remove(&(conn, reply.reply_to)), "a reply to nothing");
                        }
                    }
                    if let Some(client) = self.clients.iter_mut().find(|c| c.conn == Some(conn)) {
                        client.unread.push_back(message);
                    }
                }
                Output::Close { conn, .. } => {
                    self.awaited.retain(|(waiting, _)| *waiting != conn);
                    if let Some(client) = self.clients.iter_mut().find(|c| c.conn == Some(conn)) {
                        // What was sent before is still read.
                        while let Some(message) = client.unread.pop_front() {
                            read(client, message, &mut self.sent);
                        }
                        client.conn = None;
                    }
                    self.hub.handle_closed(self.now, conn);
                }
            }
        }
        self.take_orders();
        replies
    }

    fn sign_in(&mut self, n: usize) {
        self.next_conn += 1;
        self.next_id += 1;
        let (conn, id) = (ConnId(self.next_conn), self.next_id);
        self.hub.handle_open(conn);
        let fresh = self.draw(4) == 0;
        let client = &mut self.clients[n];
        client.unread.clear();
        // A client that signs in again without closing is replaced.
        client.conn = Some(conn);
        let resume = client.session.clone().filter(|_| !fresh);
        let resume = resume.map(|(session, epoch)| Resume { session, epoch, last_seq: client.last_seq });
        let hello = Hello {
            credential: Credential::Guest { name: client.user.clone() },
            device: client.device.clone(),
            client: ClientInfo { name: "sim".into(), version: "0".into() },
            resume,
        };
        let identity = Identity {
            user: client.user.clone(),
            display_name: client.user.to_string(),
            kind: IdentityKind::Guest,
            rooms: Some(RoomAccess::everything()),
        };
        let address = IpAddr::from([127, 0, 0, 1]);
        self.hub.handle_hello(self.now, conn, id, hello, Ok(SignIn { identity, address, ice_servers: vec![] }));
        assert_eq!(self.collect(Some((conn, id))), 1);
        // The welcome comes first and says where the numbers go on.
        let client = &mut self.clients[n];
        let Some(ServerMessage::Reply(Reply { body: ReplyBody::Result(ReplyResult::Welcome(welcome)), .. })) =
            client.unread.pop_front()
        else {
            panic!("no welcome");
        };
        if welcome.resumed {
            self.resumes += 1;
        } else {
            client.last_seq = 0;
        }
        client.belief.welcome(welcome.resumed, &welcome.rooms);
        client.session = Some((welcome.session, welcome.epoch));
    }

    fn ask(&mut self, n: usize, request: Request) {
        let Some(conn) = self.clients[n].conn else { return };
        self.next_id += 1;
        let id = self.next_id;
        let (shown, deferred) = (format!("{request:?}"), is_deferred(&request));
        self.clients[n].belief.ask(id, &request);
        self.hub.handle_request(self.now, conn, id, request);
        if deferred {
            self.awaited.insert((conn, id));
        }
        let replies = self.collect(Some((conn, id)));
        if deferred && replies == 1 {
            self.awaited.remove(&(conn, id));
        } else {
            assert_eq!(replies, usize::from(!deferred), "replies to {shown}");
        }
    }

    fn some_call(&mut self) -> CallId {
        let back = self.draw(4);
        CallId::new(format!("call{}", self.next_call.saturating_sub(back))).unwrap()
    }

    fn some_user(&mut self) -> UserId {
        let n = usize::try_from(self.draw(self.clients.len() as u64)).unwrap();
        self.clients[n].user.clone()
    }

    fn some_request(&mut self) -> Request {
        let call = self.some_call();
        let media = MediaState { audio_muted: self.draw(2) == 0, ..MediaState::default() };
        let candidate = Candidate {
            candidate: format!("candidate:{}", self.next_id),
            sdp_mid: None,
            sdp_m_line_index: None,
            username_fragment: None,
        };
        match self.draw(16) {
            0..3 => {
                self.next_call += 1;
                let call = CallId::new(format!("call{}", self.next_call)).unwrap();
                Request::Invite(Invite { call, to: self.some_user(), media, sdp: "offer".into() })
            }
            3 => Request::Ringing { call },
            4..6 => Request::Answer(Answer { call, media, sdp: "answer".into() }),
            6..8 => Request::Candidate(CandidateFrom { call, candidate }),
            8 => Request::Decline { call },
            9 => Request::Busy { call },
            10 => Request::Cancel { call },
            11 => Request::HangUp { call, reason: EndReason::HungUp },
            12 => Request::Description(Description { call, kind: SdpKind::Offer, sdp: "sdp".into() }),
            13 => Request::MediaState { call, media },
            14 => {
                let role = if self.draw(2) == 0 { AnnouncedRole::Caller } else { AnnouncedRole::Callee };
                Request::Announce(Announce { call, peer: self.some_user(), role, media })
            }
            _ => Request::WatchPresence(WatchPresence { users: None }),
        }
    }

    fn step(&mut self) {
        let n = usize::try_from(self.draw(self.clients.len() as u64)).unwrap();
        match self.draw(20) {
            0..2 if self.clients[n].conn.is_none() => self.sign_in(n),
            2 => self.sign_in(n),
            3 => {
                if let Some(conn) = self.clients[n].conn.take() {
                    self.clients[n].unread.clear();
                    self.awaited.retain(|(waiting, _)| *waiting != conn);
                    self.hub.handle_closed(self.now, conn);
                    self.collect(None);
                }
            }
            4 => {
                let millis = self.draw(20_000);
                self.advance(Duration::from_millis(millis));
            }
            5 if self.draw(4) == 0 => self.ask(n, Request::SignOut),
            6 => {
                let client = &self.clients[n];
                if let Some(conn) = client.conn {
                    self.hub.handle_received(conn, client.last_seq);
                }
            }
            7..10 => {
                // Reads some of what there is.
                let count = self.draw(6);
                for _ in 0..count {
                    let client = &mut self.clients[n];
                    let Some(message) = client.unread.pop_front() else { break };
                    read(client, message, &mut self.sent);
                }
            }
            10..13 => self.media_step(),
            13..16 => {
                let request = self.some_room_request();
                self.ask(n, request);
            }
            _ => {
                let request = self.some_request();
                self.ask(n, request);
            }
        }
        self.check();
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.hub.next_timeout().filter(|due| *due <= until) {
            assert!(due >= self.now, "a timer was due before and was not fired");
            self.now = due;
            self.hub.handle_timeout(self.now);
            self.collect(None);
        }
        self.now = until;
    }

    /// What holds at any time.
    fn check(&self) {
        self.check_rooms();
        for (who, session) in &self.hub.sessions {
            assert!(self.hub.users[&who.user].devices.contains(&who.device));
            assert_eq!(session.conn.is_none(), session.lost_at.is_some());
            for call in &session.calls {
                assert!(self.hub.calls[call].ended().is_none(), "{who:?} holds an ended call");
            }
        }
        for (id, call) in &self.hub.calls {
            for side in [&call.caller, &call.callee] {
                if let (Some(endpoint), None) = (side.endpoint(), call.ended()) {
                    assert!(self.hub.sessions[&endpoint].calls.contains(id), "{id:?} is unknown to {endpoint:?}");
                }
            }
        }
        for (id, user) in &self.hub.users {
            let engaged = self.hub.sessions.iter().any(|(who, session)| {
                let called = session.calls.iter().any(|call| self.hub.calls[call].engages(who));
                who.user == *id && (called || !session.rooms.is_empty())
            });
            assert_eq!(user.in_call, engaged, "presence of {id:?}");
        }
    }

    /// Everybody leaves, and time passes.
    fn end(&mut self) {
        for n in 0..self.clients.len() {
            if let Some(conn) = self.clients[n].conn.take() {
                self.awaited.retain(|(waiting, _)| *waiting != conn);
                self.hub.handle_closed(self.now, conn);
                self.collect(None);
            }
        }
        self.advance(Duration::from_secs(600));
        self.end_media();
        self.check();
        assert!(self.hub.sessions.is_empty() && self.hub.connections.is_empty());
        assert!(self.hub.calls.is_empty(), "{:?}", self.hub.calls);
        assert!(self.hub.timers.is_empty() && self.hub.ended.is_empty(), "{:?}", self.hub.timers);
        assert!(self.hub.users.values().all(|user| !user.online && !user.in_call));
    }
}

fn read(client: &mut Client, message: ServerMessage, sent: &mut HashMap<(SessionId, u64), Event>) {
    client.belief.read(&message);
    let ServerMessage::Event(NumberedEvent { seq, event }) = message else { return };
    assert_eq!(seq, client.last_seq + 1, "a gap before {event:?}");
    client.last_seq = seq;
    let (session, _) = client.session.clone().unwrap();
    let first = sent.entry((session, seq)).or_insert_with(|| event.clone());
    assert_eq!(*first, event, "another event under the same number");
}

fn run(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.end();
    world
}

#[test]
fn random_clients_leave_nothing_behind() {
    let (mut resumes, mut ended, mut joins, mut late, mut reasons) = (0, 0, 0, 0, BTreeSet::new());
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| run(seed, 600));
        let Ok(world) = outcome else { panic!("seed {seed} fails") };
        resumes += world.resumes;
        joins += world.plane.joins;
        late += world.plane.late;
        ended += world.hub.stats.ended.values().sum::<u64>();
        reasons.extend(world.hub.stats.ended.keys().copied());
    }
    assert!(resumes > 500 && ended > 1_000, "too little happened: {resumes} resumes, {ended} calls");
    assert!(joins > 2_000 && late > 100, "too little happened: {joins} joins, {late} of them too late");
    for reason in ["hung_up", "declined", "busy", "cancelled", "no_answer", "peer_lost"] {
        assert!(reasons.contains(reason), "no call ended as {reason}: {reasons:?}");
    }
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    /// Requests that are nearly right, and texts that are not.
    fn text() -> impl Strategy<Value = String> {
        let kind = proptest::sample::select(Request::TYPES.to_vec());
        let field = proptest::sample::select(vec![
            r#""call":"c1""#,
            r#""to":"bob""#,
            r#""sdp":"v=0""#,
            r#""media":{"audio_muted":false,"video":"off"}"#,
            r#""kind":"offer""#,
            r#""candidate":{"candidate":"candidate:1"}"#,
            r#""reason":"hung_up""#,
            r#""peer":"bob","role":"caller""#,
            r#""credential":{"type":"guest","name":"alice"},"device":"d","client":{"name":"n","version":"1"}"#,
            r#""resume":{"session":"s","epoch":"e","last_seq":18446744073709551615}"#,
        ]);
        let fields = proptest::collection::hash_set(field, 0..6);
        let nearly = (any::<u64>(), kind, fields).prop_map(|(id, kind, fields)| {
            let fields: String = fields.into_iter().map(|field| format!(",{field}")).collect();
            format!(r#"{{"id":{id},"request":{{"type":"{kind}"{fields}}}}}"#)
        });
        prop_oneof![9 => nearly, 1 => ".{0,80}"]
    }

    proptest! {
        #[test]
        fn every_text_gets_one_reply_as_long_as_the_connection_lives(texts in proptest::collection::vec(text(), 1..40)) {
            let mut hub = Hub::new(HubConfig::default(), [1; 32]);
            let (now, conn) = (Instant::now(), ConnId(1));
            hub.handle_open(conn);
            for text in texts {
                let open = hub.connections.contains_key(&conn);
                hub.handle_text(now, conn, &text, |_| {
                    let user = UserId::new("alice").unwrap();
                    let identity = Identity { user, display_name: "A".into(), kind: IdentityKind::Guest, rooms: None };
                    Ok(SignIn { identity, address: IpAddr::from([127, 0, 0, 1]), ice_servers: vec![] })
                });
                let mut replies = 0;
                while let Some(output) = hub.poll_output() {
                    if let Output::Send { text, .. } = output {
                        replies += usize::from(text.starts_with(r#"{"reply_to":"#));
                    }
                }
                prop_assert_eq!(replies, usize::from(open));
            }
        }
    }
}
