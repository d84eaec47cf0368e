//! `halloo devices`: which microphones and speakers there are.

use crate::{cli::DevicesArgs, exit::Exit};
use anyhow::{Context, Result};
use halloo_engine::audio::{DeviceInfo, DeviceKind, devices};

/// Lists them.
///
/// # Errors
/// Where the sound service does not answer.
pub fn run(args: &DevicesArgs) -> Result<Exit> {
    let found = devices().context("could not list sound devices")?;
    if args.json {
        println!("{}", serde_json::Value::Array(found.iter().map(to_json).collect()));
        return Ok(Exit::Done);
    }
    for (kind, title, none) in [
        (DeviceKind::Input, "Microphones (--audio-in device:NAME)", "none: connect one, or use --audio-in FILE.wav"),
        (DeviceKind::Output, "Speakers (--audio-out device:NAME)", "none: connect one, or use --audio-out none"),
    ] {
        println!("{title}");
        let mut any = false;
        for device in found.iter().filter(|d| d.kind == kind) {
            any = true;
            println!("  {} {}", if device.is_default { "*" } else { " " }, device.name);
        }
        if !any {
            println!("    {none}");
        }
    }
    println!("(* is the system's default)");
    Ok(Exit::Done)
}

fn to_json(device: &DeviceInfo) -> serde_json::Value {
    serde_json::json!({
        "kind": match device.kind { DeviceKind::Input => "input", DeviceKind::Output => "output" },
        "id": device.id,
        "name": device.name,
        "default": device.is_default,
    })
}
