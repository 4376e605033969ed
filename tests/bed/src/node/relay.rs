//! The relay: a connection to the cluster's port on the loopback of the machine reaches the API server inside of the
//! node.
//!
//! A socket belongs to the network namespace of its creation. The starter creates the listening socket outside. The
//! first process of the node inherits it and connects inside. The relay therefore needs no process and no interface
//! outside, and ends with the node.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;

/// Relays connections until the process ends.
pub(super) fn serve(listener: TcpListener, port: u16) {
    thread::spawn(move || {
        for outside in listener.incoming().flatten() {
            // Without the API server the relay closes the connection immediately.
            if let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                let _ = join(outside, inside);
            }
        }
    });
}

fn join(outside: TcpStream, inside: TcpStream) -> io::Result<()> {
    for stream in [&outside, &inside] {
        stream.set_nodelay(true)?;
    }
    let (outside2, inside2) = (outside.try_clone()?, inside.try_clone()?);
    thread::spawn(move || pump(&outside, &inside));
    thread::spawn(move || pump(&inside2, &outside2));
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        // The end of one side closes the other.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
