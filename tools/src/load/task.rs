//! A listener's task: the socket, and how fast it is read.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::http::PATIENCE;
use crate::failure::io_words;
use crate::load::head::NoStream;
use crate::load::listener::{End, Todo};
use crate::load::measures::Kind;
use crate::load::mount::Form;
use crate::load::reader::{Sent, masked};
use crate::load::shared::{Shared, Slot};
use crate::units as words;

/// How long what is on its way to a listener that leaves may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a slow listener reads: a few times in the shortest ring of a listener.
const SLOW_EVERY: Duration = Duration::from_millis(50);
/// What a slow listener reads of a stream.
const SLOW_SHARE: f64 = 0.5;
/// The code of a WebSocket's proper end.
const NORMAL: u16 = 1000;

/// Connects, listens until the stream ends or the listener is to leave, and leaves in its place how it ended.
pub(crate) async fn listen(shared: Rc<Shared>, slot: Rc<Slot>, server: SocketAddr) {
    let end = match begin(&shared, &slot, server).await {
        Err(end) => end,
        Ok(mut tcp) => match go_on(&shared, &slot, &mut tcp).await {
            Err(end) => end,
            Ok(()) => farewell(&shared, &slot, &mut tcp).await,
        },
    };
    let kind = slot.kind();
    let mut measures = shared.measures.borrow_mut();
    // A stall that ended the stream, too, is one.
    slot.listener.borrow().pause(&shared.run, Instant::now(), &mut measures[kind as usize]);
    *slot.end.borrow_mut() = Some(end);
}

/// A connection whose stream has begun.
async fn begin(shared: &Shared, slot: &Slot, server: SocketAddr) -> Result<TcpStream, End> {
    let beginning = async {
        let other =
            |what: &str, error: &io::Error| End::NoStream(NoStream::Other(format!("{what}: {}", io_words(error))));
        let mut tcp = TcpStream::connect(server).await.map_err(|error| other("can't connect", &error))?;
        slot.local.set(tcp.local_addr().ok());
        let request = slot.listener.borrow().request().to_vec();
        tcp.write_all(&request).await.map_err(|error| other("no HTTP answer", &error))?;
        while !slot.listener.borrow().streams() {
            let read = poll_fn(|context| poll_read(shared, slot, &mut tcp, context, usize::MAX)).await;
            if read.map_err(|end| no_stream(&end))? == Some(0) {
                return Err(End::NoStream(NoStream::Other("no HTTP answer: the connection was closed".to_owned())));
            }
        }
        Ok(tcp)
    };
    match timeout(PATIENCE, beginning).await {
        Ok(begun) => begun,
        Err(_) => Err(End::NoStream(NoStream::Other(format!("no HTTP answer within {}", words::span(PATIENCE))))),
    }
}

/// What breaks before there is a stream was never one.
fn no_stream(end: &End) -> End {
    match end {
        End::Broken(why) => End::NoStream(NoStream::Other(format!("no HTTP answer: {why}"))),
        other => other.clone(),
    }
}

/// Listens until it is to leave.
async fn go_on(shared: &Shared, slot: &Slot, tcp: &mut TcpStream) -> Result<(), End> {
    let mut ration = None;
    while !slot.is_leaving() {
        let mut most = usize::MAX;
        if slot.kind() == Kind::Slow
            && let Some(pace) = shared.pace.get()
        {
            let ration = ration.get_or_insert_with(|| Ration { since: Instant::now(), read: 0 });
            most = ration.left(pace * SLOW_SHARE);
            if most == 0 {
                let leaving = poll_fn(|context| {
                    slot.watch(context);
                    if slot.is_leaving() { Poll::Ready(()) } else { Poll::Pending }
                });
                tokio::select! {
                    () = sleep(SLOW_EVERY) => {}
                    () = leaving => {}
                }
                continue;
            }
        }
        let before = slot.listener.borrow().bytes;
        match poll_fn(|context| poll_read(shared, slot, tcp, context, most)).await? {
            Some(0) => return Err(End::Broken("the server closed the connection".to_owned())),
            Some(_) => {
                if let Some(ration) = &mut ration {
                    ration.read += slot.listener.borrow().bytes - before;
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// What a slow listener may read.
struct Ration {
    since: Instant,
    read: u64,
}

impl Ration {
    fn left(&self, bytes_per_second: f64) -> usize {
        let allowed = self.since.elapsed().as_secs_f64() * bytes_per_second;
        (allowed - self.read as f64).max(0.0) as usize
    }
}

/// Leaves as a player does that is switched off, but reads what is on its way: so all that the server counts as
/// delivered is counted here, too. Whoever is no aircheck may go on sending for ever, and is not waited for.
async fn farewell(shared: &Shared, slot: &Slot, tcp: &mut TcpStream) -> End {
    {
        let mut measures = shared.measures.borrow_mut();
        let mut listener = slot.listener.borrow_mut();
        listener.pause(&shared.run, Instant::now(), &mut measures[listener.kind as usize]);
        listener.measured = false;
    }
    if shared.run.blocks.is_none() {
        return End::Left;
    }
    let leaving = async {
        if shared.run.mount.form == Form::Ws {
            tcp.write_all(&masked(Sent::Close, &NORMAL.to_be_bytes())).await?;
        } else {
            tcp.shutdown().await?;
        }
        loop {
            match poll_fn(|context| poll_read(shared, slot, tcp, context, usize::MAX)).await {
                Ok(Some(0)) | Err(End::Finished) => return Ok(End::Left),
                Ok(_) => {}
                Err(End::Broken(_)) => return Ok(End::Torn),
                Err(end) => return Ok(end),
            }
        }
    };
    match timeout(FAREWELL, leaving).await {
        Ok(Ok::<_, io::Error>(end)) => end,
        Ok(Err(_)) | Err(_) => End::Torn,
    }
}

/// Reads once, at most `most` bytes, into what all listeners share. Ready with how many came, or with nothing when the
/// listener is to leave.
fn poll_read(
    shared: &Shared,
    slot: &Slot,
    tcp: &mut TcpStream,
    context: &mut Context<'_>,
    most: usize,
) -> Poll<Result<Option<usize>, End>> {
    slot.watch(context);
    let measured = slot.listener.borrow().measured;
    if slot.is_leaving() && measured && slot.listener.borrow().streams() {
        return Poll::Ready(Ok(None));
    }
    send(slot, tcp, context);
    if slot.kind() == Kind::Frozen && shared.freeze.get() && !slot.is_leaving() && slot.listener.borrow().streams() {
        return Poll::Pending;
    }
    let mut buffer = shared.buffer.borrow_mut();
    let length = buffer.len().min(most);
    let mut into = ReadBuf::new(&mut buffer[..length]);
    if let Err(error) = ready!(Pin::new(&mut *tcp).poll_read(context, &mut into)) {
        return Poll::Ready(Err(End::Broken(io_words(&error))));
    }
    let now = Instant::now();
    let mut todo = Vec::new();
    let mut measures = shared.measures.borrow_mut();
    let mut listener = slot.listener.borrow_mut();
    let measures = &mut measures[listener.kind as usize];
    let taken = listener.take(into.filled(), now, &shared.run, shared.clocks.get(), measures, &mut todo);
    drop(listener);
    for todo in todo {
        match todo {
            Todo::Pong(bytes) => slot.outbox.borrow_mut().extend(masked(Sent::Pong, &bytes)),
            Todo::Clock { asked, now: server } => shared.answers.borrow_mut().push((asked, server, now)),
        }
    }
    send(slot, tcp, context);
    Poll::Ready(taken.map(|()| Some(into.filled().len())))
}

/// Sends what waits, as far as the connection takes it at once: some 60 bytes a second, for which there is always room
/// where the server reads. Where it doesn't, they wait.
fn send(slot: &Slot, tcp: &mut TcpStream, context: &mut Context<'_>) {
    let mut outbox = slot.outbox.borrow_mut();
    while !outbox.is_empty() {
        match Pin::new(&mut *tcp).poll_write(context, &outbox) {
            Poll::Ready(Ok(written @ 1..)) => drop(outbox.drain(..written)),
            // What is wrong with the connection shows where it is read.
            _ => return,
        }
    }
}
