//! `halloo answer`.

use super::{
    conversation::{Conversation, interrupted},
    report::CallReport,
    sign_in,
    status::Status,
};
use crate::{cli::AnswerArgs, exit::Exit};
use anyhow::{Result, bail};
use halloo_engine::{Bitrate, CallOptions, IncomingCall, clock, video::window::WindowHandle};

/// Signs in and takes calls until Ctrl-C, or the first one with `--once`.
///
/// # Errors
/// Where media or sign-in failed; [`Exit::of`] gives the code.
pub async fn run(args: AnswerArgs) -> Result<Exit> {
    let mut status = Status::new();
    let window = args.media.prepare_sinks()?;
    // Opened for each call; opening it now finds what is wrong before anybody calls.
    drop(args.media.open_sources(|_| {})?);
    let engine = sign_in(&args.sign_in).await?;
    let user = engine.user();
    let mut incoming = engine.incoming();
    status.say(format!("signed in as {user}; waiting for calls (Ctrl-C to leave)"));
    let mut reports = Vec::new();
    loop {
        let call = tokio::select! {
            call = incoming.next() => call,
            () = interrupted() => break,
        };
        let Some(call) = call else { bail!("the server ended the session of {user}") };
        if args.from.as_deref().is_some_and(|from| from != call.from()) {
            status.say(format!("declined a call from {}", call.from()));
            call.decline().await;
            continue;
        }
        match take(&args, call, &user, reports.len() + 1, window.as_ref(), &mut status).await {
            Ok(report) => reports.push(report),
            Err(error) => status.say(format!("a call could not be taken: {error:#}")),
        }
        if args.once {
            break;
        }
    }
    let exit =
        reports.last().map_or(Exit::Done, |report: &CallReport| if args.once { report.exit } else { Exit::Done });
    if args.media.json {
        match reports.as_slice() {
            [only] => println!("{}", serde_json::to_string(only)?),
            all => println!("{}", serde_json::json!({ "version": 1, "calls": all })),
        }
    }
    Ok(exit)
}

async fn take(
    args: &AnswerArgs,
    call: IncomingCall,
    user: &str,
    number: usize,
    window: Option<&WindowHandle>,
    status: &mut Status,
) -> Result<CallReport> {
    status.say(format!("{} calls; answering", call.from()));
    let sending = args.media.open_sources(|text| eprintln!("{text}"))?;
    let started = clock::now();
    let options = CallOptions {
        video: args.media.video_state(),
        playout: args.media.playout(),
        max_bitrate: Bitrate::from_kbps(u64::from(args.media.video_kbps) * 2 + 500),
    };
    let call = call.accept(options).await?;
    let conversation =
        Conversation { media: &args.media, sending, user: user.to_owned(), number, started, window: window.cloned() };
    Ok(conversation.hold(call, status).await)
}
