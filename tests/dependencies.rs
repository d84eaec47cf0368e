//! Dependencies between the crates point one way, as ARCHITECTURE.md draws them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, process::Command};

/// Each crate of this repository, and which others it may use.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("halloo", &["halloo-engine", "halloo-protocol", "halloo-sfu", "halloo-signaling", "halloo-transport"]),
    ("halloo-engine", &["halloo-protocol", "halloo-transport"]),
    ("halloo-protocol", &[]),
    ("halloo-sfu", &["halloo-protocol", "halloo-transport"]),
    ("halloo-signaling", &["halloo-protocol"]),
    ("halloo-transport", &[]),
];

/// Which crate alone may use a package of the outside world, because everybody else goes through its door.
const DOORS: [(&str, &str); 6] = [
    ("cpal", "halloo-engine"),
    ("dav1d", "halloo-engine"),
    ("libaom-sys", "halloo-engine"),
    ("webrtc", "halloo-engine"),
    ("jsonwebtoken", "halloo-signaling"),
    ("winit", "halloo-engine"),
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            // What only tests use may point anywhere.
            let normal = dependencies.filter(|d| d["kind"].as_str() != Some("dev"));
            (
                package["name"].as_str().unwrap().to_owned(),
                normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect(),
            )
        })
        .collect()
}

#[test]
fn edges_between_crates_are_those_of_the_architecture() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    for (package, uses) in dependencies() {
        let may = allowed
            .get(package.as_str())
            .unwrap_or_else(|| panic!("{package} is new: say in this test what it may use"));
        for used in uses.iter().filter(|name| name.starts_with("halloo")) {
            assert!(may.contains(&used.as_str()), "{package} must not depend on {used}");
        }
    }
}

#[test]
fn the_outside_world_has_one_door_each() {
    for (package, uses) in dependencies() {
        for (outside, door) in DOORS {
            assert!(
                package == door || !uses.iter().any(|u| u == outside),
                "{package} must not use {outside}; {door} does"
            );
        }
    }
}
