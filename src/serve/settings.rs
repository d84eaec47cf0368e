//! Flags, environment and file become one plan, or a sentence that says which flags are missing.
//!
//! Invariant: nothing but loopback is listened on without TLS or a declared proxy, and no address of the world without keys
//! of its operator.

use super::{
    debug,
    media::{MediaPlan, MediaSettings},
    redactor, tls,
};
use crate::{data, data::DataDir, span::Span};
use anyhow::{Context, bail};
use halloo_signaling::{
    Authenticator, ConnectionLimits, GuestPolicy, HubConfig, IceConfig, OriginPolicy, ServerConfig, TurnAuth,
    token::{Verifier, VerifyingKey},
};
use serde::Deserialize;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Starts the server: signaling and the web client.
///
/// Without any flag it listens on this machine only, at http://127.0.0.1:8080, and lets anybody on this machine sign in
/// with a name. `--lan` opens it to the local network with a certificate of its own.
#[derive(clap::Args, Clone, Default, Debug)]
pub struct ServeArgs {
    /// A TOML file with any of the settings below; flags and environment go first.
    #[arg(long, value_name = "FILE", env = "HALLOO_CONFIG")]
    pub config: Option<PathBuf>,
    /// Prints one line of JSON once it listens: url, fingerprint, pid, media (where rooms' media comes in), debug.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// What flags, environment and file can all say.
#[derive(clap::Args, Clone, Default, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The address to listen on; 127.0.0.1 unless given.
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_BIND")]
    pub bind: Option<IpAddr>,
    /// The port to listen on; 8080 unless given, 0 for any free one.
    #[arg(long, env = "HALLOO_PORT")]
    pub port: Option<u16>,
    /// Serves the local network over HTTPS with a certificate of its own, and prints a QR code for phones.
    #[arg(long, env = "HALLOO_LAN")]
    pub lan: bool,
    /// Where the server keeps its secret and certificate; ~/.local/share/halloo unless given.
    #[arg(long, value_name = "DIR", env = "HALLOO_DATA")]
    pub data: Option<PathBuf>,
    /// Takes no guests: everybody needs a token.
    #[arg(long, env = "HALLOO_NO_GUESTS")]
    pub no_guests: bool,
    /// A key that tokens are checked with: an Ed25519 public key in PEM, or a file with a secret. Repeat it to rotate keys;
    /// ID=FILE gives it a key id.
    #[arg(long, value_name = "[ID=]FILE", env = "HALLOO_KEY", value_delimiter = ',')]
    pub key: Vec<String>,
    /// Whom tokens must be meant for.
    #[arg(long, env = "HALLOO_AUDIENCE")]
    pub audience: Option<String>,
    /// The certificate chain for HTTPS, in PEM.
    #[arg(long, value_name = "FILE", env = "HALLOO_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", env = "HALLOO_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// A proxy in front speaks TLS and writes X-Forwarded-For.
    #[arg(long, env = "HALLOO_BEHIND_PROXY")]
    pub behind_proxy: bool,
    /// An origin whose pages may connect besides the server's own, like https://app.example.org. Repeat it for more.
    #[arg(long, value_name = "ORIGIN", env = "HALLOO_ALLOW_ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<String>,
    /// A STUN server for clients, like stun:stun.example.org:3478. Repeat it for more.
    #[arg(long, value_name = "URL", env = "HALLOO_STUN", value_delimiter = ',')]
    pub stun: Vec<String>,
    /// A TURN server for clients, like turn:turn.example.org:3478. Repeat it for more.
    #[arg(long, value_name = "URL", env = "HALLOO_TURN", value_delimiter = ',')]
    pub turn: Vec<String>,
    /// The TURN servers' user name.
    #[arg(long, value_name = "NAME", env = "HALLOO_TURN_USERNAME")]
    pub turn_username: Option<String>,
    /// The TURN servers' password.
    #[arg(long, value_name = "PASSWORD", env = "HALLOO_TURN_CREDENTIAL", hide_env_values = true)]
    pub turn_credential: Option<String>,
    /// A file with the secret shared with the TURN servers; each client gets a password that holds for --turn-ttl.
    #[arg(long, value_name = "FILE", env = "HALLOO_TURN_SECRET")]
    pub turn_secret: Option<PathBuf>,
    /// How long such a password holds; 12h unless given.
    #[arg(long, value_name = "TIME", env = "HALLOO_TURN_TTL")]
    pub turn_ttl: Option<Span>,
    /// Takes calls between two only, and opens no port for media.
    #[arg(long, env = "HALLOO_NO_ROOMS")]
    pub no_rooms: bool,
    /// The port of rooms' media, UDP and TCP, and one more for each further shard; 10000 unless given, any free ones where only
    /// this machine is served.
    #[arg(long, value_name = "PORT", env = "HALLOO_MEDIA_PORT", conflicts_with = "no_rooms")]
    pub media_port: Option<u16>,
    /// The address to listen on for rooms' media; that of --bind unless given, every address behind a proxy.
    #[arg(long, value_name = "ADDRESS", env = "HALLOO_MEDIA_BIND", conflicts_with = "no_rooms")]
    pub media_bind: Option<IpAddr>,
    /// The address that clients are told for rooms' media: the public one of a NAT or load balancer in front. Repeat it for
    /// more; this machine's own addresses unless given.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "HALLOO_MEDIA_ADDRESS",
        value_delimiter = ',',
        conflicts_with = "no_rooms"
    )]
    pub media_address: Vec<IpAddr>,
    /// Threads that forward rooms' media, each with a port of its own; one per processor unless given.
    #[arg(long, value_name = "N", env = "HALLOO_MEDIA_SHARDS", conflicts_with = "no_rooms")]
    pub media_shards: Option<usize>,
    /// Keeps each of these threads to one processor: for machines that do nothing else.
    #[arg(long, env = "HALLOO_MEDIA_PIN", conflicts_with = "no_rooms")]
    pub media_pin: bool,
    /// A loopback address and port, like 127.0.0.1:6060, where /debug/rooms shows operators what happens in rooms; none unless
    /// given.
    #[arg(long, value_name = "ADDRESS:PORT", env = "HALLOO_DEBUG_LISTEN", conflicts_with = "no_rooms")]
    pub debug_listen: Option<SocketAddr>,
    /// Takes rooms' media over UDP only: who is in a network that blocks UDP needs a TURN server then.
    #[arg(long, env = "HALLOO_NO_MEDIA_TCP", conflicts_with = "no_rooms")]
    pub no_media_tcp: bool,
    /// Connections from one address; 100 unless given.
    #[arg(long, value_name = "N", env = "HALLOO_CONNECTIONS_PER_ADDRESS")]
    pub connections_per_address: Option<usize>,
    /// Connections in all; 50,000 unless given.
    #[arg(long, value_name = "N", env = "HALLOO_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,
    /// Messages per second that one connection may send on average; 50 unless given.
    #[arg(long, value_name = "N", env = "HALLOO_MESSAGES_PER_SECOND")]
    pub messages_per_second: Option<u32>,
    /// How long a call rings; 45s unless given.
    #[arg(long, value_name = "TIME", env = "HALLOO_RING_TIMEOUT")]
    pub ring_timeout: Option<Span>,
    /// How long a session waits for a client whose connection broke; 60s unless given.
    #[arg(long, value_name = "TIME", env = "HALLOO_RESUME_WINDOW")]
    pub resume_window: Option<Span>,
    /// How long clients have to leave once the server is told to stop; 3s unless given.
    #[arg(long, value_name = "TIME", env = "HALLOO_DRAIN_GRACE")]
    pub drain_grace: Option<Span>,
    /// Shows names and addresses in logs instead of marks.
    #[arg(long, env = "HALLOO_LOG_IDENTITIES")]
    pub log_identities: bool,
}

impl Settings {
    /// These settings, and where they say nothing the file's.
    fn over(self, file: Self) -> Self {
        fn list<T>(own: Vec<T>, file: Vec<T>) -> Vec<T> {
            if own.is_empty() { file } else { own }
        }
        Self {
            bind: self.bind.or(file.bind),
            port: self.port.or(file.port),
            lan: self.lan || file.lan,
            data: self.data.or(file.data),
            no_guests: self.no_guests || file.no_guests,
            key: list(self.key, file.key),
            audience: self.audience.or(file.audience),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            behind_proxy: self.behind_proxy || file.behind_proxy,
            allow_origin: list(self.allow_origin, file.allow_origin),
            stun: list(self.stun, file.stun),
            turn: list(self.turn, file.turn),
            turn_username: self.turn_username.or(file.turn_username),
            turn_credential: self.turn_credential.or(file.turn_credential),
            turn_secret: self.turn_secret.or(file.turn_secret),
            turn_ttl: self.turn_ttl.or(file.turn_ttl),
            no_rooms: self.no_rooms || file.no_rooms,
            media_port: self.media_port.or(file.media_port),
            media_bind: self.media_bind.or(file.media_bind),
            media_address: list(self.media_address, file.media_address),
            media_shards: self.media_shards.or(file.media_shards),
            media_pin: self.media_pin || file.media_pin,
            debug_listen: self.debug_listen.or(file.debug_listen),
            no_media_tcp: self.no_media_tcp || file.no_media_tcp,
            connections_per_address: self.connections_per_address.or(file.connections_per_address),
            max_connections: self.max_connections.or(file.max_connections),
            messages_per_second: self.messages_per_second.or(file.messages_per_second),
            ring_timeout: self.ring_timeout.or(file.ring_timeout),
            resume_window: self.resume_window.or(file.resume_window),
            drain_grace: self.drain_grace.or(file.drain_grace),
            log_identities: self.log_identities || file.log_identities,
        }
    }
}

/// What carries the WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Plain,
    SelfSigned,
    Pem { cert: PathBuf, key: PathBuf },
}

/// What is decided before anything is opened.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) listen: SocketAddr,
    pub(super) lan: bool,
    pub(super) data: DataDir,
    pub(super) transport: Transport,
    pub(super) server: ServerConfig,
    /// Rooms' media, unless there are to be no rooms.
    pub(super) media: Option<MediaPlan>,
    /// Where operators look into rooms.
    pub(super) debug: Option<SocketAddr>,
}

/// Joins flags, environment and file.
pub(super) fn plan(args: &ServeArgs) -> anyhow::Result<Plan> {
    let file = match &args.config {
        None => Settings::default(),
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("the configuration {} cannot be read", path.display()))?;
            toml::from_str(&text).with_context(|| format!("the configuration {} is not right", path.display()))?
        }
    };
    let settings = args.settings.clone().over(file);
    let default_bind = if settings.lan { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let bind = settings.bind.unwrap_or(IpAddr::V4(default_bind));
    let transport = transport(&settings)?;
    check_exposure(&settings, bind, &transport)?;
    let data = DataDir::new(settings.data.clone())?;
    let guests = guests(&settings, bind);
    let server = ServerConfig {
        hub: hub(&settings)?,
        limits: limits(&settings),
        authenticator: Authenticator { verifier: verifier(&settings, &data)?, guests },
        origins: OriginPolicy {
            allowed: settings.allow_origin.clone(),
            hosts: tls::host_names(),
            any_host: guests == GuestPolicy::Refused,
        },
        behind_proxy: settings.behind_proxy,
        connections_per_address: settings.connections_per_address.unwrap_or(100),
        max_connections: settings.max_connections.unwrap_or(50_000),
        ice: ice(&settings)?,
        drain_grace: settings.drain_grace.map_or(Duration::from_secs(3), |span| span.0),
    };
    let listen = SocketAddr::new(bind, settings.port.unwrap_or(8080));
    let media = if settings.no_rooms { None } else { Some(media(&settings, bind)?) };
    settings.debug_listen.map_or(Ok(()), debug::check)?;
    let debug = settings.debug_listen;
    Ok(Plan { listen, lan: settings.lan, data, transport, server, media, debug })
}

fn media(settings: &Settings, bind: IpAddr) -> anyhow::Result<MediaPlan> {
    let said = MediaSettings {
        port: settings.media_port,
        bind: settings.media_bind,
        announce: settings.media_address.clone(),
        shards: settings.media_shards,
        pin: settings.media_pin,
        no_tcp: settings.no_media_tcp,
    };
    MediaPlan::new(said, bind, settings.behind_proxy)
}

fn transport(settings: &Settings) -> anyhow::Result<Transport> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(cert), Some(key)) => Ok(Transport::Pem { cert: cert.clone(), key: key.clone() }),
        (Some(_), None) => bail!("--tls-cert needs its private key: add --tls-key FILE"),
        (None, Some(_)) => bail!("--tls-key needs its certificate: add --tls-cert FILE"),
        (None, None) if settings.lan => Ok(Transport::SelfSigned),
        (None, None) => Ok(Transport::Plain),
    }
}

/// Refuses to be reached from elsewhere without protection, and says exactly what is missing.
fn check_exposure(settings: &Settings, bind: IpAddr, transport: &Transport) -> anyhow::Result<()> {
    if settings.lan || bind.is_loopback() {
        return Ok(());
    }
    let mut missing = Vec::new();
    if settings.key.is_empty() {
        missing.push("--key FILE (make one with `halloo token --new-key ed25519`)");
    }
    if *transport == Transport::Plain && !settings.behind_proxy {
        missing.push("--tls-cert FILE and --tls-key FILE, or --behind-proxy where a proxy speaks TLS");
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "{bind} can be reached from other machines, so this needs {}. For your own network, --lan does it all",
        missing.join("; and ")
    )
}

fn guests(settings: &Settings, bind: IpAddr) -> GuestPolicy {
    if settings.no_guests || settings.behind_proxy {
        GuestPolicy::Refused
    } else if settings.lan {
        GuestPolicy::Lan
    } else if bind.is_loopback() {
        GuestPolicy::Loopback
    } else {
        GuestPolicy::Refused
    }
}

fn verifier(settings: &Settings, data: &DataDir) -> anyhow::Result<Verifier> {
    let keys = if settings.key.is_empty() {
        vec![VerifyingKey::hs256(None, &data.secret()?)?]
    } else {
        settings.key.iter().map(|text| verifying_key(text)).collect::<anyhow::Result<_>>()?
    };
    Ok(Verifier::new(keys, settings.audience.clone(), Duration::from_secs(5)))
}

fn verifying_key(text: &str) -> anyhow::Result<VerifyingKey> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (Some(id.to_owned()), PathBuf::from(path)),
        None => (None, PathBuf::from(text)),
    };
    let context = || format!("the key {}", path.display());
    let bytes = fs::read(&path).with_context(|| format!("the key {} cannot be read", path.display()))?;
    match std::str::from_utf8(&bytes) {
        Ok(pem) if pem.contains("-----BEGIN") => VerifyingKey::ed25519_pem(id, pem).with_context(context),
        _ => VerifyingKey::hs256(id, &data::read_secret(&path)?).with_context(context),
    }
}

fn hub(settings: &Settings) -> anyhow::Result<HubConfig> {
    let default = HubConfig::default();
    Ok(HubConfig {
        ring_timeout: settings.ring_timeout.map_or(default.ring_timeout, |span| span.0),
        resume_window: settings.resume_window.map_or(default.resume_window, |span| span.0),
        messages_per_second: limits(settings).messages_per_second,
        redactor: redactor(settings.log_identities)?,
        ..default
    })
}

fn limits(settings: &Settings) -> ConnectionLimits {
    let default = ConnectionLimits::default();
    let messages_per_second = settings.messages_per_second.unwrap_or(default.messages_per_second);
    ConnectionLimits { messages_per_second, burst: messages_per_second.saturating_mul(4), ..default }
}

fn ice(settings: &Settings) -> anyhow::Result<Vec<IceConfig>> {
    let mut servers = Vec::new();
    for (urls, schemes) in [(&settings.stun, &["stun:", "stuns:"]), (&settings.turn, &["turn:", "turns:"])] {
        if let Some(url) = urls.iter().find(|url| !schemes.iter().any(|scheme| url.starts_with(scheme))) {
            bail!(
                "{url:?} is no {} URL: it must start with {}",
                schemes[0].trim_end_matches(':'),
                schemes.join(" or ")
            );
        }
    }
    if !settings.stun.is_empty() {
        servers.push(IceConfig { urls: settings.stun.clone(), auth: TurnAuth::None });
    }
    if !settings.turn.is_empty() {
        servers.push(IceConfig { urls: settings.turn.clone(), auth: turn_auth(settings)? });
    }
    Ok(servers)
}

fn turn_auth(settings: &Settings) -> anyhow::Result<TurnAuth> {
    match (&settings.turn_secret, &settings.turn_username, &settings.turn_credential) {
        (Some(path), None, None) => {
            let secret = String::from_utf8(data::read_secret(path)?).context("the TURN secret is not text")?;
            let ttl = settings.turn_ttl.map_or(Duration::from_secs(12 * 3_600), |span| span.0);
            Ok(TurnAuth::SharedSecret { secret, ttl })
        }
        (None, Some(username), Some(credential)) => {
            Ok(TurnAuth::Static { username: username.clone(), credential: credential.clone() })
        }
        _ => bail!("--turn needs either --turn-secret FILE, or --turn-username NAME with --turn-credential PASSWORD"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(settings: Settings) -> String {
        let args = ServeArgs { settings, ..ServeArgs::default() };
        format!("{:#}", plan(&args).unwrap_err())
    }

    fn open(bind: &str) -> Settings {
        Settings { bind: Some(bind.parse().unwrap()), ..Settings::default() }
    }

    #[test]
    fn an_open_address_needs_a_key_and_tls_and_the_error_names_the_flags() {
        let text = refusal(open("0.0.0.0"));
        for flag in ["--key", "--tls-cert", "--tls-key", "--behind-proxy", "--lan"] {
            assert!(text.contains(flag), "{text}");
        }
        let text = refusal(Settings { behind_proxy: true, ..open("::") });
        assert!(text.contains("--key") && !text.contains("--tls-cert"), "{text}");
    }

    #[test]
    fn half_a_certificate_and_half_a_turn_account_are_refused() {
        assert!(refusal(Settings { tls_cert: Some("c.pem".into()), ..Settings::default() }).contains("--tls-key"));
        assert!(refusal(Settings { tls_key: Some("k.pem".into()), ..Settings::default() }).contains("--tls-cert"));
        let data = Some(std::env::temp_dir().join(format!("halloo-settings-{}", std::process::id())));
        let turn = Settings { turn: vec!["turn:t:3478".into()], data: data.clone(), ..Settings::default() };
        assert!(refusal(turn).contains("--turn-secret"));
        let stun = Settings { stun: vec!["http://x".into()], data, ..Settings::default() };
        assert!(refusal(stun).contains("stun:"));
    }

    #[test]
    fn guests_are_taken_where_they_live_and_never_through_a_proxy() {
        let local = "127.0.0.1".parse().unwrap();
        let lan = Settings { lan: true, ..Settings::default() };
        assert_eq!(guests(&Settings::default(), local), GuestPolicy::Loopback);
        assert_eq!(guests(&lan, "0.0.0.0".parse().unwrap()), GuestPolicy::Lan);
        assert_eq!(guests(&Settings { no_guests: true, ..lan }, local), GuestPolicy::Refused);
        assert_eq!(guests(&Settings { behind_proxy: true, ..Settings::default() }, local), GuestPolicy::Refused);
        assert_eq!(guests(&Settings::default(), "203.0.113.1".parse().unwrap()), GuestPolicy::Refused);
    }

    #[test]
    fn flags_go_before_the_file_and_unknown_settings_are_refused() {
        let file: Settings = toml::from_str("port = 9000\nring-timeout = \"10s\"\nlan = true").unwrap();
        let joined = Settings { port: Some(7), ..Settings::default() }.over(file);
        assert_eq!((joined.port, joined.lan), (Some(7), true));
        assert_eq!(joined.ring_timeout, Some(Span(Duration::from_secs(10))));
        assert!(toml::from_str::<Settings>("prot = 1").is_err());
    }
}
