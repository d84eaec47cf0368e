//! An impaired network in user space: every packet between two endpoints passes here, late, out of order or not at all.
//!
//! Each real address gets a relay socket that stands for it. A packet that arrives at the socket standing for B, from A's
//! real address, leaves to B's real address from the socket standing for A. So both ends see what signaling told them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// What happens to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Impairment {
    /// All are this late, in each direction.
    pub(crate) delay: Duration,
    /// Each is up to this much later.
    pub(crate) jitter: Duration,
    /// Share that is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Whether jitter may change their order.
    pub(crate) reorder: bool,
}

/// The network.
#[derive(Clone)]
pub(crate) struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    impairment: Impairment,
    rng: Mutex<ChaCha8Rng>,
    /// By real address.
    standing_for: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
}

impl Relay {
    pub(crate) fn new(impairment: Impairment, seed: u64) -> Self {
        let rng = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
        Self { inner: Arc::new(Inner { impairment, rng, standing_for: Mutex::default() }) }
    }

    /// The address that stands for `real` from now on. Must run within a runtime.
    pub(crate) fn stand_in(&self, real: SocketAddr) -> SocketAddr {
        self.socket_for(real).local_addr().unwrap()
    }

    fn socket_for(&self, real: SocketAddr) -> Arc<UdpSocket> {
        let mut sockets = self.inner.standing_for.lock().unwrap();
        if let Some(socket) = sockets.get(&real) {
            return socket.clone();
        }
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Arc::new(UdpSocket::from_std(socket).unwrap());
        sockets.insert(real, socket.clone());
        let (queue, packets) = mpsc::unbounded_channel();
        tokio::spawn(deliver(packets, real));
        tokio::spawn(self.clone().receive(socket.clone(), real, queue));
        socket
    }

    async fn receive(self, socket: Arc<UdpSocket>, to: SocketAddr, queue: mpsc::UnboundedSender<Packet>) {
        let mut buffer = vec![0; 65_536];
        let mut last_due = Instant::now();
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            let impairment = self.inner.impairment;
            let (lost, late) = {
                let mut rng = self.inner.rng.lock().unwrap();
                (rng.random::<f64>() < impairment.loss, impairment.jitter.mul_f64(rng.random::<f64>()))
            };
            if lost {
                continue;
            }
            let mut due = Instant::now() + impairment.delay + late;
            if !impairment.reorder {
                due = due.max(last_due);
                last_due = due;
            }
            let packet = Packet { due, bytes: buffer[..length].to_vec(), via: self.socket_for(from) };
            if impairment.reorder {
                tokio::spawn(async move {
                    sleep_until(packet.due).await;
                    let _ = packet.via.send_to(&packet.bytes, to).await;
                });
            } else if queue.send(packet).is_err() {
                return;
            }
        }
    }
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
    via: Arc<UdpSocket>,
}

async fn deliver(mut packets: mpsc::UnboundedReceiver<Packet>, to: SocketAddr) {
    while let Some(packet) = packets.recv().await {
        sleep_until(packet.due).await;
        let _ = packet.via.send_to(&packet.bytes, to).await;
    }
}
