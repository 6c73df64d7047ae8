//! A way through TCP to a server, which can be cut.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A way to a port of this machine.
pub(crate) struct Way {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// Whether nothing arrives.
    is_held: bool,
    streams: Vec<TcpStream>,
}

impl Way {
    /// Makes a way to `port`.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let shared = Arc::clone(&way.state);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let (state, mended) = &*shared;
                let mut state = mended.wait_while(state.lock().unwrap(), |state| state.is_cut).unwrap();
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                state.streams.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                carry(near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&shared));
                carry(far, near, Arc::clone(&shared));
            }
        });
        way
    }

    /// Returns its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds back what is on its way, until that is cut.
    pub(crate) fn hold(&self) {
        self.state.0.lock().unwrap().is_held = true;
    }

    /// Ends all connections, and lets others wait.
    pub(crate) fn cut(&self) {
        let mut state = self.state.0.lock().unwrap();
        (state.is_cut, state.is_held) = (true, false);
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.state.1.notify_all();
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.state.0.lock().unwrap().is_cut = false;
        self.state.1.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: Arc<(Mutex<State>, Condvar)>) {
    thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let (state, cut) = &*shared;
            drop(cut.wait_while(state.lock().unwrap(), |state| state.is_held).unwrap());
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
