//! The `halloo` command: parses arguments, runs one of the library's commands, and turns its outcome into an exit code.

use clap::Parser;
use halloo::{
    cli::{Cli, Command},
    demo, devices, endpoint,
    exit::Exit,
    load, serve, token,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose);
    let outcome = match cli.command {
        Command::Devices(args) => devices::run(&args).map(Into::into),
        Command::Token(args) => token::run(&args),
        command => on_runtime(command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("halloo: {error:#}");
            Exit::of(&error).into()
        }
    }
}

fn on_runtime(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(*args).await,
            Command::Call(args) => endpoint::call::run(*args).await.map(Into::into),
            Command::Answer(args) => endpoint::answer::run(*args).await.map(Into::into),
            Command::Join(args) => endpoint::join::run(*args).await.map(Into::into),
            Command::Demo(args) => demo::run(args).await.map(Into::into),
            Command::Load(args) => load::run(*args).await.map(Into::into),
            Command::Devices(args) => devices::run(&args).map(Into::into),
            Command::Token(args) => token::run(&args),
        }
    });
    // A thread that still reads standard input or waits for a driver must not hold the exit up.
    runtime.shutdown_background();
    outcome
}

/// Logs go to standard error: warnings by default, more with `-v`, or what `RUST_LOG` says.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn,webrtc=error,rtc=error,rtc_ice=off,rtc_interceptor=off",
        1 => "info,webrtc=warn,rtc=warn",
        _ => "debug,webrtc=info,rtc=info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
