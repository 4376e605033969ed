//! A relay before the API server that a story can cut: its clients keep their connections and receive no data.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinHandle;

use super::cluster::Cluster;

/// The size of the buffer in bytes.
const PIECE: usize = 16 * 1024;

/// A relay on its own port. The drop of the value ends it.
pub struct Relay {
    kubeconfig: PathBuf,
    gate: Arc<RwLock<()>>,
    /// The lock is held while the relay is cut.
    cut: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay before the cluster of this kubeconfig.
    pub async fn before(cluster: &Cluster, kubeconfig: &Path) -> Self {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let there =
            server.as_str().and_then(|url| url.strip_prefix("https://")).expect("a server").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let here: SocketAddr = listener.local_addr().unwrap();
        *server = format!("https://{here}").into();
        let file = cluster.scratch().join("relayed.kubeconfig");
        std::fs::write(&file, config.to_string()).unwrap();
        let gate = Arc::<RwLock<()>>::default();
        let task = tokio::spawn(serve(listener, there, gate.clone()));
        Self { kubeconfig: file, gate, cut: Mutex::default(), task }
    }

    /// The same kubeconfig, through the relay.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Stops the traffic in both directions before it returns. The connections stay open.
    pub async fn cut(&self) {
        let closed = self.gate.clone().write_owned().await;
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(closed);
    }

    /// Resumes the traffic. The bytes that the cut held up come first.
    pub fn mend(&self) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, there: String, gate: Arc<RwLock<()>>) {
    while let Ok((outside, _)) = listener.accept().await {
        let (there, gate) = (there.clone(), gate.clone());
        tokio::spawn(async move {
            let Ok(inside) = TcpStream::connect(there).await else { return };
            let (from_outside, to_outside) = outside.into_split();
            let (from_inside, to_inside) = inside.into_split();
            tokio::join!(pump(from_outside, to_inside, gate.clone()), pump(from_inside, to_outside, gate));
        });
    }
}

/// Copies bytes until one side closes. The drop of both halves closes the other.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, gate: Arc<RwLock<()>>) {
    let mut piece = vec![0; PIECE];
    while let Ok(read) = read(&from, &mut piece).await {
        // The task holds the lock until the write is done, so that a cut waits for the write.
        let _passes = gate.read().await;
        if read == 0 || !write(&to, &piece[..read]).await {
            return;
        }
    }
}

async fn read(from: &OwnedReadHalf, piece: &mut [u8]) -> std::io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(piece) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Whether all bytes were written.
async fn write(to: &OwnedWriteHalf, mut piece: &[u8]) -> bool {
    while !piece.is_empty() {
        if to.writable().await.is_err() {
            return false;
        }
        match to.try_write(piece) {
            Ok(written) => piece = &piece[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}
