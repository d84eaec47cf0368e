//! What a person, or a program, is told once the server listens.

use super::tls::lan_addresses;
use halloo_signaling::GuestPolicy;
use qrcode::{QrCode, render::unicode::Dense1x2};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

/// Where the server listens, and how.
pub(super) struct Listening {
    pub(super) local: SocketAddr,
    pub(super) lan: bool,
    pub(super) behind_proxy: bool,
    pub(super) guests: GuestPolicy,
    pub(super) fingerprint: Option<String>,
    /// Where clients are told to send rooms' media; empty where there are no rooms.
    pub(super) media: Vec<SocketAddr>,
    /// Where operators look into rooms.
    pub(super) debug: Option<SocketAddr>,
    /// Whether it comes in over TCP too.
    pub(super) media_tcp: bool,
}

impl Listening {
    fn url(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "https" } else { "http" };
        let ip = match self.local.ip() {
            ip if !ip.is_unspecified() => ip,
            _ if self.lan => lan_addresses().first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1])),
            _ => IpAddr::from([127, 0, 0, 1]),
        };
        format!("{scheme}://{}", SocketAddr::new(ip, self.local.port()))
    }

    /// One line for programs.
    pub(super) fn print_json(&self) {
        let line = serde_json::json!({
            "url": self.url(),
            "fingerprint": self.fingerprint,
            "pid": std::process::id(),
            "media": self.media,
            "debug": self.debug,
        });
        println!("{line}");
    }

    /// A few lines for people.
    pub(super) fn print(&self) {
        let url = self.url();
        println!("Halloo is at {url}");
        if self.behind_proxy {
            println!("Behind a proxy: it must speak TLS, pass WebSockets on, and write X-Forwarded-For.");
        }
        if self.lan {
            println!("Open it on a phone in the same network:\n");
            if let Some(code) = qr(&url) {
                println!("{code}\n");
            }
            println!("The browser will warn once, as the certificate is the server's own.");
        }
        if let Some(fingerprint) = &self.fingerprint {
            println!("SHA-256 fingerprint: {fingerprint}");
        }
        if !self.media.is_empty() && !self.local.ip().is_loopback() {
            let ports: BTreeSet<u16> = self.media.iter().map(SocketAddr::port).collect();
            let ports: Vec<String> = ports.into_iter().map(|port| port.to_string()).collect();
            let protocols = if self.media_tcp { "UDP and TCP" } else { "UDP" };
            println!("Media of rooms comes in at {protocols} port {}.", ports.join(", "));
        }
        if let Some(debug) = self.debug {
            println!("Rooms can be looked into at http://{debug}/debug/rooms, from this machine.");
        }
        println!(
            "{}",
            match self.guests {
                GuestPolicy::Refused => "Everybody needs a token to sign in: see `halloo token --help`.",
                GuestPolicy::Loopback =>
                    "Anybody on this machine can sign in with a name (--no-guests turns that off).",
                GuestPolicy::Lan => "Anybody on this network can sign in with a name (--no-guests turns that off).",
                GuestPolicy::Anywhere => "Anybody can sign in with a name.",
            }
        );
        println!("Press Ctrl-C to stop.");
    }
}

fn qr(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    // Dark modules in the terminal's own colours: light on dark is read as well.
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}
