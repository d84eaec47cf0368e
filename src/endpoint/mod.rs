//! A native endpoint: what `halloo call`, `halloo answer` and `halloo join` share.

pub mod answer;
pub mod call;
pub mod conversation;
pub mod join;
pub mod media;
pub mod meeting;
pub mod meeting_report;
pub mod report;
pub mod status;

use crate::cli::SignIn;
use anyhow::{Context, Result};
use halloo_engine::Engine;
use tokio::runtime::Handle;

/// Signs in.
async fn sign_in(args: &SignIn) -> Result<Engine> {
    let mut builder =
        Engine::builder().server(&args.server).client("halloo", env!("CARGO_PKG_VERSION")).runtime(Handle::current());
    builder = match (&args.token, &args.name) {
        (Some(token), _) => builder.token(token),
        (None, Some(name)) => builder.guest(name),
        (None, None) => builder,
    };
    if let Some(pin) = args.pin {
        builder = builder.pin(pin);
    }
    if let Some(device) = &args.device {
        builder = builder.device(device);
    }
    builder.build().await.with_context(|| format!("could not sign in at {}", args.server))
}
