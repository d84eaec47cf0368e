//! Builds `halloo` again when the web client's files come, go or change.

fn main() {
    let watched = ["web/dist", "web", "Cargo.toml"];
    if let Some(path) = watched.into_iter().find(|path| std::path::Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={path}");
    }
}
