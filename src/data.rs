//! The data folder: what `halloo serve` keeps between runs, and `halloo token` reads. Secrets are readable by their owner only.

use anyhow::{Context, bail};
use ring::rand::{SecureRandom, SystemRandom};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

/// The data folder.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The given folder, or `$XDG_DATA_HOME/halloo`, or `~/.local/share/halloo`.
    ///
    /// # Errors
    /// Where none is given and neither variable is set.
    pub fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let path = given
            .or_else(|| set("XDG_DATA_HOME").map(|base| base.join("halloo")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/halloo")))
            .context("no data folder: neither XDG_DATA_HOME nor HOME is set, so name one with --data DIR")?;
        Ok(Self(path))
    }

    /// A path within it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The server's own token secret, made at the first call.
    ///
    /// # Errors
    /// Where the folder cannot be written or the secret cannot be read.
    pub fn secret(&self) -> anyhow::Result<Vec<u8>> {
        let path = self.join("token.secret");
        if !path.exists() {
            write_private(&path, new_secret()?.as_bytes())?;
        }
        read_secret(&path)
    }
}

/// 32 random bytes in hexadecimal.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn new_secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    let Ok(()) = SystemRandom::new().fill(&mut bytes) else { bail!("the operating system gave no random bytes") };
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A secret from its file, without the line's end.
///
/// # Errors
/// Where it cannot be read or is empty.
pub fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut secret = fs::read(path).with_context(|| format!("the secret in {} cannot be read", path.display()))?;
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    if secret.is_empty() {
        bail!("the secret in {} is empty: remove the file and start again to get a new one", path.display());
    }
    Ok(secret)
}

/// Writes a file that only its owner can read. Two processes that start at once agree on the first one's.
///
/// # Errors
/// Where the folder cannot be made or the file cannot be written.
pub fn write_private(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let attempt = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let temporary = folder.join(format!(".{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    attempt().with_context(|| format!("{} cannot be written: choose another folder with --data DIR", path.display()))
}
