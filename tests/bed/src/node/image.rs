//! The two images of every node: one with busybox, for pods that need a shell, and the sandbox ("pause") image, which
//! has the same files and another command. The creation needs no container engine and no registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::error::{Doing, Error};
use crate::programs;

/// The image for agents in tests: busybox with all its commands in `/bin`.
pub const BUSYBOX: &str = "localhost/town-bed/busybox:1";
/// The name of the same image in the examples. The node cannot reach a registry, so that the image must be loaded
/// before.
const EXAMPLES: &str = "docker.io/library/busybox:1.37";
pub(crate) const PAUSE: &str = "localhost/town-bed/pause:1";

/// Waits for SIGTERM without a child. The first process of a pid namespace receives SIGTERM only with a handler.
const WAIT: &str = "trap 'exit 0' TERM INT; while :; do read -r _ <> /pause; done";

/// The path of a static busybox. The function installs one if possible.
pub(super) fn busybox() -> Result<PathBuf, Error> {
    let usual = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/usr/local/bin/busybox"];
    let find = || usual.iter().map(PathBuf::from).find(|path| is_static(path));
    if let Some(found) = find() {
        return Ok(found);
    }
    programs::install(&["busybox-static"], "for the images of a node")?;
    find().ok_or_else(|| Error::Impossible("for the images of a node, please install busybox-static".into()))
}

/// A dynamic program names its loader.
fn is_static(program: &Path) -> bool {
    let Ok(bytes) = fs::read(program) else { return false };
    let names = |loader: &[u8]| bytes.windows(loader.len()).any(|window| window == loader);
    !names(b"/ld-linux") && !names(b"/ld-musl")
}

/// Writes the two images as one OCI archive.
pub(super) fn write(busybox: &Path, to: &Path) -> Result<(), Error> {
    let doing = || format!("writing {}", to.display());
    let output =
        Command::new(busybox).arg("--list").output().doing(|| "asking busybox for its commands".into())?;
    let commands = String::from_utf8_lossy(&output.stdout).into_owned();
    let layer = layer(&fs::read(busybox).doing(doing)?, &commands).doing(doing)?;
    let mut archive = Builder::new(fs::File::create(to).doing(doing)?);
    let mut blob = |bytes: &[u8]| -> Result<(String, usize), Error> {
        let digest = digest(bytes);
        file(&mut archive, &format!("blobs/sha256/{digest}"), 0o644, bytes).doing(doing)?;
        Ok((format!("sha256:{digest}"), bytes.len()))
    };
    let (layer_digest, layer_size) = blob(&layer)?;
    let mut manifests = Vec::new();
    let pause = json!(["/bin/busybox", "sh", "-c", WAIT]);
    for (names, command) in [(&[BUSYBOX, EXAMPLES][..], json!(["sh"])), (&[PAUSE][..], pause)] {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        });
        let (config_digest, config_size) = blob(config.to_string().as_bytes())?;
        let kind = |what: &str| format!("application/vnd.oci.image.{what}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind("manifest.v1+json"),
            "config": {"mediaType": kind("config.v1+json"), "digest": config_digest, "size": config_size},
            "layers": [{"mediaType": kind("layer.v1.tar"), "digest": layer_digest, "size": layer_size}],
        });
        let (digest, size) = blob(manifest.to_string().as_bytes())?;
        manifests.extend(names.iter().map(|name| {
            json!({
                "mediaType": kind("manifest.v1+json"),
                "digest": digest,
                "size": size,
                "annotations": {"io.containerd.image.name": name},
                "platform": {"os": "linux", "architecture": architecture()},
            })
        }));
    }
    let index = json!({"schemaVersion": 2, "manifests": Value::from(manifests)}).to_string();
    file(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).doing(doing)?;
    file(&mut archive, "index.json", 0o644, index.as_bytes()).doing(doing)?;
    archive.finish().doing(doing)
}

fn layer(busybox: &[u8], commands: &str) -> std::io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (name, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        entry(&mut layer, EntryType::Directory, name, mode, None)?;
    }
    file(&mut layer, "bin/busybox", 0o755, busybox)?;
    for command in commands.lines().filter(|command| *command != "busybox") {
        entry(&mut layer, EntryType::Symlink, &format!("bin/{command}"), 0o777, Some("busybox"))?;
    }
    file(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    file(&mut layer, "etc/group", 0o644, b"root:x:0:\n")?;
    entry(&mut layer, EntryType::Fifo, "pause", 0o666, None)?;
    layer.into_inner()
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn file<W: std::io::Write>(tar: &mut Builder<W>, name: &str, mode: u32, bytes: &[u8]) -> std::io::Result<()> {
    tar.append_data(&mut header(EntryType::Regular, mode, bytes.len()), name, bytes)
}

fn entry<W: std::io::Write>(
    tar: &mut Builder<W>,
    kind: EntryType,
    name: &str,
    mode: u32,
    target: Option<&str>,
) -> std::io::Result<()> {
    let mut header = header(kind, mode, 0);
    match target {
        Some(target) => tar.append_link(&mut header, name, target),
        None => tar.append_data(&mut header, name, std::io::empty()),
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    programs::hexadecimal(&Sha256::digest(bytes))
}

/// The name of this machine's processor in image manifests.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
