//! What all connections share: the hub behind one lock, their outboxes, the limits by address, the shell's counters.
//!
//! Invariant: the hub's outputs reach the outboxes under the lock, so that a client sees events in the hub's order.

use crate::{
    admission::{Authenticator, OriginPolicy, client_address},
    hub::{ConnId, Hub, Identity, Output, SignIn},
    ice::IceConfig,
    limits::{AddressLimits, ConnectionLimits, OverLimit},
    media::MediaPlane,
    outbox::{Closing, Item, Outbox},
    redact::Redactor,
};
use halloo_protocol::{CloseCode, Credential, ErrorBody};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;

/// Counters of the shell.
#[derive(Debug, Default)]
pub(crate) struct ShellStats {
    pub(crate) messages_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) slow_readers: AtomicU64,
    pub(crate) rate_limited: AtomicU64,
    pub(crate) ping_timeouts: AtomicU64,
    pub(crate) refused_by_limit: AtomicU64,
    pub(crate) refused_by_origin: AtomicU64,
    pub(crate) tls_failures: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Core {
    hub: Hub,
    outboxes: HashMap<ConnId, Arc<Outbox>>,
    next_conn: u64,
}

pub(crate) struct Shared {
    core: Mutex<Core>,
    addresses: Mutex<AddressLimits>,
    /// Wakes the task that drives the hub's timers.
    timers: Notify,
    /// Wakes the task that carries orders to the media plane.
    media: Notify,
    pub(crate) authenticator: Authenticator,
    pub(crate) origins: OriginPolicy,
    pub(crate) behind_proxy: bool,
    pub(crate) limits: ConnectionLimits,
    pub(crate) ice: Vec<IceConfig>,
    pub(crate) redactor: Redactor,
    pub(crate) stats: ShellStats,
    /// Who forwards the media of rooms, where somebody does.
    pub(crate) plane: OnceLock<Arc<dyn MediaPlane>>,
    draining: AtomicBool,
}

/// Now, on the clock that tokio's timers run on.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Shared {
    pub(crate) fn new(config: crate::server::ServerConfig, seed: [u8; 32]) -> Self {
        let redactor = config.hub.redactor.clone();
        Self {
            core: Mutex::new(Core { hub: Hub::new(config.hub, seed), outboxes: HashMap::new(), next_conn: 0 }),
            addresses: Mutex::new(AddressLimits::new(config.connections_per_address, config.max_connections)),
            timers: Notify::new(),
            media: Notify::new(),
            authenticator: config.authenticator,
            origins: config.origins,
            behind_proxy: config.behind_proxy,
            limits: config.limits,
            ice: config.ice,
            redactor,
            stats: ShellStats::default(),
            plane: OnceLock::new(),
            draining: AtomicBool::new(false),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the hub do something and hands out what it wants sent.
    pub(crate) fn with_hub<R>(&self, act: impl FnOnce(&mut Hub) -> R) -> R {
        let mut core = self.core();
        let timeout = core.hub.next_timeout();
        let result = act(&mut core.hub);
        let Core { hub, outboxes, .. } = &mut *core;
        while let Some(output) = hub.poll_output() {
            match output {
                Output::Send { conn, text } => {
                    if let Some(outbox) = outboxes.get(&conn)
                        && !outbox.push(Item::Text(text.into()))
                    {
                        count(&self.stats.slow_readers);
                    }
                }
                Output::Close { conn, code, reason } => {
                    if let Some(outbox) = outboxes.remove(&conn) {
                        outbox.close(Closing { code, reason });
                    }
                }
            }
        }
        let sooner = core.hub.next_timeout() != timeout;
        let orders = core.hub.has_media_orders();
        drop(core);
        if orders {
            self.media.notify_one();
        }
        if sooner {
            self.timers.notify_one();
        }
        result
    }

    /// Drives the hub's timers for ever.
    pub(crate) async fn drive_timers(&self) {
        loop {
            let due = self.core().hub.next_timeout();
            let changed = self.timers.notified();
            match due {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => self.with_hub(|hub| hub.handle_timeout(now())),
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Waits until there may be orders for the media plane.
    pub(crate) async fn media_orders(&self) {
        self.media.notified().await;
    }

    pub(crate) fn open(&self, outbox: &Arc<Outbox>) -> ConnId {
        let mut core = self.core();
        core.next_conn += 1;
        let conn = ConnId(core.next_conn);
        core.outboxes.insert(conn, Arc::clone(outbox));
        core.hub.handle_open(conn);
        conn
    }

    pub(crate) fn closed(&self, conn: ConnId) {
        self.core().outboxes.remove(&conn);
        self.with_hub(|hub| hub.handle_closed(now(), conn));
    }

    /// Puts a ping behind everything that this connection has been sent so far.
    pub(crate) fn ping(&self, conn: ConnId) {
        let core = self.core();
        let seq = core.hub.last_seq(conn);
        if let Some(outbox) = core.outboxes.get(&conn) {
            outbox.push(Item::Ping(seq));
        }
    }

    pub(crate) fn sign_in(&self, address: IpAddr, credential: &Credential) -> Result<SignIn, ErrorBody> {
        let unix = unix_now();
        let identity = self.authenticator.authenticate(unix, address, credential)?;
        let ice_servers = self.ice.iter().map(|server| server.for_user(unix, &identity.user)).collect();
        Ok(SignIn { identity, address, ice_servers })
    }

    /// Whom the token of a single request names, and what it grants.
    pub(crate) fn prove_token(&self, address: IpAddr, token: String) -> Result<Identity, ErrorBody> {
        self.authenticator.authenticate(unix_now(), address, &Credential::Token { token })
    }

    pub(crate) fn address_of(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        client_address(peer, forwarded_for, self.behind_proxy)
    }

    pub(crate) fn admit_address(self: &Arc<Self>, address: IpAddr) -> Result<AddressPlace, OverLimit> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).open(address)?;
        Ok(AddressPlace { shared: Arc::clone(self), address })
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells everyone that the server will go away, and takes nobody new.
    pub(crate) fn start_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.with_hub(Hub::handle_drain);
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        let outboxes: Vec<Arc<Outbox>> = self.core().outboxes.values().cloned().collect();
        for outbox in outboxes {
            outbox.close(Closing { code: CloseCode::GoingAway, reason: "the server is shutting down" });
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.core().outboxes.len()
    }
}

/// One address's place among its connections, given back when dropped.
pub(crate) struct AddressPlace {
    shared: Arc<Shared>,
    pub(crate) address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner).close(self.address);
    }
}
