//! Setting an engine up: where to, as whom, on which runtime and addresses.

use super::{Engine, OwnRuntime, start};
use crate::{
    error::BuildError,
    signaling::{Fingerprint, SignalConfig},
    wire::BindPolicy,
};
use halloo_protocol::{ClientInfo, Credential, DeviceId, Hello, IdError, UserId};
use std::net::IpAddr;
use tokio::runtime::Handle;
use url::Url;

/// Sets an engine up. See [`Engine::builder`].
#[derive(Debug, Default)]
pub struct EngineBuilder {
    server: Option<String>,
    credential: Option<Result<Credential, IdError>>,
    device: Option<String>,
    fingerprint: Option<Fingerprint>,
    runtime: Option<Handle>,
    addresses: Vec<IpAddr>,
    client: Option<(String, String)>,
}

impl EngineBuilder {
    /// The signaling server: `ws://`, `wss://`, `http://` or `https://`, a host and a port. Default: `ws://127.0.0.1:8080`.
    #[must_use]
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.server = Some(address.into());
        self
    }

    /// Signs in with a token of the application's backend.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credential = Some(Ok(Credential::Token { token: token.into() }));
        self
    }

    /// Signs in under a name of one's choosing, where the server allows guests.
    #[must_use]
    pub fn guest(mut self, name: impl Into<String>) -> Self {
        self.credential = Some(UserId::new(name).map(|name| Credential::Guest { name }));
        self
    }

    /// A name for this installation, kept between runs: signing in again under it replaces the earlier session. Default: drawn
    /// at random.
    #[must_use]
    pub fn device(mut self, id: impl Into<String>) -> Self {
        self.device = Some(id.into());
        self
    }

    /// Trusts exactly the server whose certificate has this fingerprint.
    #[must_use]
    pub fn pin(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// Runs the network side on this tokio runtime instead of one of the engine's own.
    #[must_use]
    pub fn runtime(mut self, handle: Handle) -> Self {
        self.runtime = Some(handle);
        self
    }

    /// Offers only these local addresses for media. Default: every interface's, or the loopback where the server is on it.
    #[must_use]
    pub fn media_addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// The embedding application's name and version, for the server's logs.
    #[must_use]
    pub fn client(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.client = Some((name.into(), version.into()));
        self
    }

    /// Connects and signs in.
    ///
    /// # Errors
    /// [`BuildError`]: a bad address or name, a server that is not there or refuses.
    pub async fn build(self) -> Result<Engine, BuildError> {
        let url = server_url(self.server.as_deref().unwrap_or("ws://127.0.0.1:8080"))?;
        let credential = self.credential.ok_or(BuildError::NoCredential)??;
        let device = match self.device {
            Some(device) => DeviceId::new(device)?,
            None => DeviceId::new(format!("native-{}", uuid::Uuid::new_v4().simple()))?,
        };
        let (name, version) =
            self.client.unwrap_or_else(|| ("halloo-engine".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        let hello = Hello { credential, device, client: ClientInfo { name, version }, resume: None };
        let own = match self.runtime {
            Some(_) => None,
            None => Some(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .thread_name("halloo-net")
                    .enable_all()
                    .build()
                    .map_err(|e| BuildError::Setup(e.to_string()))?,
            ),
        };
        let handle = match (&self.runtime, &own) {
            (Some(handle), _) => handle.clone(),
            (None, Some(runtime)) => runtime.handle().clone(),
            (None, None) => return Err(BuildError::Setup("no runtime".to_owned())),
        };
        let bind = match &self.addresses[..] {
            [] if is_loopback(&url) => BindPolicy::InterfacesAndLoopback,
            [] => BindPolicy::Interfaces,
            addresses => BindPolicy::Addresses(addresses.to_vec()),
        };
        let config = SignalConfig { url, hello, pin: self.fingerprint, seed: rand::random() };
        let runtime = OwnRuntime(own);
        let engine = handle.spawn(start(config, bind, handle.clone(), runtime)).await;
        engine.map_err(|e| BuildError::Setup(e.to_string()))?
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The WebSocket address that a person's idea of a server means.
pub(crate) fn server_url(address: &str) -> Result<Url, BuildError> {
    let fail = |why: String| BuildError::Address { address: address.to_owned(), why };
    let text = if address.contains("://") { address.to_owned() } else { format!("ws://{address}") };
    let mut url = Url::parse(&text).map_err(|e| fail(e.to_string()))?;
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        other => return Err(fail(format!("the scheme {other} is not known"))),
    };
    url.set_scheme(scheme).map_err(|()| fail("the scheme cannot be changed".to_owned()))?;
    if url.host().is_none() {
        return Err(fail("it names no host".to_owned()));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/ws");
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_address_may_be_written_as_people_write_it() {
        for (given, meant) in [
            ("127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("http://localhost:8080/", "ws://localhost:8080/ws"),
            ("https://calls.example.org", "wss://calls.example.org/ws"),
            ("wss://example.org/signal", "wss://example.org/signal"),
            ("localhost:9000", "ws://localhost:9000/ws"),
        ] {
            assert_eq!(server_url(given).unwrap().as_str(), meant);
        }
        for bad in ["", "ftp://x", "ws://", "::::"] {
            assert!(server_url(bad).is_err(), "{bad}");
        }
    }
}
