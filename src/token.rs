//! `halloo token`: mints a sign-in token, or makes a key to mint tokens with.

use crate::{data, data::DataDir, span::Span};
use anyhow::{Context, anyhow};
use halloo_protocol::{RoomGrants, RoomId, SourceKind, UserId};
use halloo_signaling::token::{Grant, RoomGrant, RoomScope, SigningKey, mint, new_ed25519};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Mints a token that lets a user sign in, or makes a new key.
///
/// Without --key it uses the secret of the data folder, which `halloo serve` on this machine accepts.
#[derive(clap::Args, Clone, Debug)]
pub struct TokenArgs {
    /// Who may sign in with the token.
    #[arg(long, value_name = "USER", required_unless_present = "new_key")]
    pub user: Option<UserId>,
    /// What others are shown; the user id unless given.
    #[arg(long)]
    pub name: Option<String>,
    /// How long the token holds, like 10m, 1h or 7d.
    #[arg(long, default_value = "1h")]
    pub ttl: Span,
    /// Which server the token is for; must equal its --audience where that is set.
    #[arg(long)]
    pub audience: Option<String>,
    /// The key to sign with: an Ed25519 private key in PEM, or a file with a secret for HS256.
    #[arg(long, value_name = "FILE", env = "HALLOO_TOKEN_KEY")]
    pub key: Option<PathBuf>,
    /// The key's id, where the server has several.
    #[arg(long, value_name = "ID", requires = "key")]
    pub kid: Option<String>,
    /// The data folder whose secret is used when there is no --key.
    #[arg(long, value_name = "DIR", env = "HALLOO_DATA")]
    pub data: Option<PathBuf>,
    /// A room that the user may enter; `*` for every room. Repeat it for more. Without it the token opens no room.
    #[arg(long, value_name = "NAME")]
    pub room: Vec<String>,
    /// What the user may do in these rooms: publish (or microphone, camera, screen), subscribe, moderate.
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        requires = "room",
        default_value = "publish,subscribe"
    )]
    pub can: Vec<Ability>,
    /// Makes a new key instead and prints it: a pair in PEM, or a secret.
    #[arg(long, value_name = "KIND", value_enum, conflicts_with_all = ["user", "key", "room"])]
    pub new_key: Option<KeyKind>,
}

/// A kind of key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum KeyKind {
    /// The server needs the public half only.
    Ed25519,
    /// The server and whoever mints share it.
    Hs256,
}

/// What somebody may do in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Ability {
    /// Publish microphone, camera and screen.
    Publish,
    /// Publish the microphone.
    Microphone,
    /// Publish the camera.
    Camera,
    /// Publish the screen.
    Screen,
    /// Hear and see the others.
    Subscribe,
    /// Mute and remove others, lock and close the room.
    Moderate,
}

impl Ability {
    fn publishes(self, kind: SourceKind) -> bool {
        match self {
            Self::Publish => true,
            Self::Microphone => kind == SourceKind::Microphone,
            Self::Camera => kind == SourceKind::Camera,
            Self::Screen => kind == SourceKind::Screen,
            Self::Subscribe | Self::Moderate => false,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Where the key cannot be read or used.
pub fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    match args.new_key {
        Some(KeyKind::Ed25519) => {
            let pair = new_ed25519()?;
            print!("{}{}", pair.private_pem, pair.public_pem);
            eprintln!(
                "Keep the private key where tokens are minted; give the public one to `halloo serve --key FILE`."
            );
        }
        Some(KeyKind::Hs256) => {
            println!("{}", data::new_secret()?);
            eprintln!(
                "Put it into a file that only you can read, for `halloo serve --key FILE` and `halloo token --key FILE`."
            );
        }
        None => println!("{}", minted(args)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn minted(args: &TokenArgs) -> anyhow::Result<String> {
    let user = args.user.clone().context("--user is needed")?;
    let key = match &args.key {
        Some(path) => signing_key(args.kid.clone(), path)?,
        None => SigningKey::hs256(None, &DataDir::new(args.data.clone())?.secret()?)?,
    };
    let issued_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (name, audience) = (args.name.clone(), args.audience.clone());
    let room = rooms(args)?;
    mint(&key, &Grant { user, name, audience, issued_at, ttl: args.ttl.0, room }).map_err(|e| anyhow!(e))
}

/// The rooms that the token opens.
fn rooms(args: &TokenArgs) -> anyhow::Result<Option<RoomGrant>> {
    if args.room.is_empty() {
        return Ok(None);
    }
    let rooms = if args.room.iter().any(|name| name == "*") {
        RoomScope::Every
    } else {
        let named = |name: &String| RoomId::new(name).with_context(|| format!("{name:?} is no room's name"));
        RoomScope::Named(args.room.iter().map(named).collect::<anyhow::Result<_>>()?)
    };
    let may = |kind: &SourceKind| args.can.iter().any(|ability| ability.publishes(*kind));
    let grants = RoomGrants {
        publish: SourceKind::ALL.into_iter().filter(may).collect(),
        subscribe: args.can.contains(&Ability::Subscribe),
        moderate: args.can.contains(&Ability::Moderate),
    };
    Ok(Some(RoomGrant { rooms, grants }))
}

fn signing_key(id: Option<String>, path: &Path) -> anyhow::Result<SigningKey> {
    let context = || format!("the key {}", path.display());
    let bytes = fs::read(path).with_context(context)?;
    match std::str::from_utf8(&bytes) {
        Ok(pem) if pem.contains("-----BEGIN") => SigningKey::ed25519_pem(id, pem).with_context(context),
        _ => SigningKey::hs256(id, &data::read_secret(path)?).with_context(context),
    }
}
