//! The origin's sound in pages of a chosen length.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write as _};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use ogg::{PacketReader, PacketWriteEndInfo, PacketWriter};

use crate::case::{FRAME_BYTES, RATE_HZ, Stream};

/// The name and password of Icecast's source, `source:source`, as HTTP wants them.
const SOURCE_AUTHORIZATION: &str = "Basic c291cmNlOnNvdXJjZQ==";

/// A connection to an aircheck that delivers a page when its last packet is there.
pub(crate) struct Feed {
    stream: Stream,
    pages: Pages,
}

enum Pages {
    /// Packets of short Ogg pages, which go into longer ones. Positions are in frames.
    Opus {
        packets: PacketReader<Unseekable<BufReader<TcpStream>>>,
        writer: PacketWriter<'static, Vec<u8>>,
        frames: u64,
        begun_at: u64,
    },
    /// Samples, so many bytes a page.
    Samples { body: BufReader<TcpStream>, bytes: usize },
}

/// A connection. `PacketReader` asks for a reader that can seek, which it does only to find its way out of garbage.
pub(crate) struct Unseekable<R>(pub(crate) R);

impl<R: Read> Read for Unseekable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R> Seek for Unseekable<R> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::Error::from(io::ErrorKind::NotSeekable))
    }
}

impl Feed {
    /// Connects to the aircheck at `origin`.
    pub(crate) fn open(origin: SocketAddr, stream: Stream, page: Duration) -> io::Result<Self> {
        let mut connection = TcpStream::connect(origin)?;
        // HTTP/1.0 has no chunks. The packets are those of aircheck's own pages of that length; samples come at once and
        // become pages here.
        let gather = if stream == Stream::Opus && page.as_millis() > 10 { page.as_millis() } else { 0 };
        let path = stream.origin_path();
        write!(connection, "GET /{path}?gather={gather}ms&buffer=4s HTTP/1.0\r\nHost: {origin}\r\n\r\n")?;
        let mut body = BufReader::new(connection);
        read_head(&mut body, " 200 ")?;
        let frames = u64::from(RATE_HZ) * page.as_millis() as u64 / 1000;
        let pages = match stream {
            Stream::Opus => Pages::Opus {
                packets: PacketReader::new(Unseekable(body)),
                writer: PacketWriter::new(Vec::new()),
                frames,
                begun_at: 0,
            },
            Stream::Wav => Pages::Samples { body, bytes: frames as usize * FRAME_BYTES },
        };
        Ok(Self { stream, pages })
    }

    /// Waits for the next page. The first one of Opus holds the two header pages, too.
    pub(crate) fn next_page(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.pages {
            Pages::Opus { packets, writer, frames, begun_at } => loop {
                let packet = packets.read_packet_expected().map_err(io::Error::other)?;
                let (position, serial) = (packet.absgp_page(), packet.stream_serial());
                let is_header = packet.data.starts_with(b"Opus");
                // The packets of a page of the origin have the position at its end, and stay together.
                let is_full = !is_header && packet.last_in_page() && position >= *begun_at + *frames;
                let end =
                    if is_header || is_full { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
                writer.write_packet(packet.data, serial, end, position)?;
                if is_full {
                    *begun_at = position;
                    return Ok(mem::take(writer.inner_mut()));
                }
            },
            Pages::Samples { body, bytes } => {
                let mut page = vec![0; *bytes];
                body.read_exact(&mut page)?;
                Ok(page)
            }
        }
    }

    /// Feeds the Icecast at `address`, mount `/live`, on a thread of its own until that Icecast ends. Returns when the
    /// first page is sent.
    pub(crate) fn pass_to_icecast(mut self, address: SocketAddr) -> io::Result<()> {
        let mut icecast = TcpStream::connect(address)?;
        icecast.set_nodelay(true)?;
        let content_type = self.stream.content_type();
        write!(
            icecast,
            "SOURCE /live HTTP/1.0\r\nAuthorization: {SOURCE_AUTHORIZATION}\r\nContent-Type: {content_type}\r\n\r\n"
        )?;
        read_head(&mut BufReader::new(icecast.try_clone()?), " 200 ")?;
        icecast.write_all(&self.next_page()?)?;
        thread::spawn(move || {
            // An error means that Icecast, or the origin, has ended.
            while self.next_page().and_then(|page| icecast.write_all(&page)).is_ok() {}
        });
        Ok(())
    }
}

/// Reads the head of an HTTP response, whose first line must contain `status`.
pub(crate) fn read_head(from: &mut impl io::BufRead, status: &str) -> io::Result<()> {
    let (mut first, mut line) = (String::new(), String::new());
    from.read_line(&mut first)?;
    while from.read_line(&mut line)? > 2 {
        line.clear();
    }
    if first.contains(status) { Ok(()) } else { Err(io::Error::other(format!("unexpected answer: {}", first.trim()))) }
}
