//! The head of an HTTP answer. It is read here and not by an HTTP client, whose task and buffers for each connection cost
//! more than the stream that follows.

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::client::Address;

/// Longest head that is read. aircheck's has 300 bytes; browsers take 256 KiB.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most headers in it.
const MAX_HEADERS: usize = 64;
/// Room for most heads, which is also the most that is read ahead.
const READ_BYTES: usize = 2048;
/// How SHOUTcast and old Icecast begin their answer, instead of with `HTTP/1.0`.
const ICY: &[u8] = b"ICY ";

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The bytes that came after it.
    pub(crate) rest: Vec<u8>,
}

impl Head {
    /// Asks for a path, and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// Says why there is none.
    pub(crate) async fn ask<T: AsyncRead + AsyncWrite + Unpin>(
        io: &mut T,
        address: &Address,
        path: &str,
        accept: &str,
    ) -> Result<Self, std::io::Error> {
        let version = env!("CARGO_PKG_VERSION");
        let authority = address.authority();
        let token =
            address.token().map_or(String::new(), |token| format!("authorization: {}\r\n", token.authorization()));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: aircheckctl/{version}\r\naccept: {accept}\r\n{token}\r\n"
        );
        io.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            if io.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::Error::other("the connection was closed before one came"));
            }
            match Self::read(&mut bytes).map_err(std::io::Error::other)? {
                Some(head) => return Ok(head),
                None if bytes.len() > MAX_HEAD_BYTES => return Err(std::io::Error::other("its head is too long")),
                None => {}
            }
        }
    }

    /// Reads a head, if all of it is there.
    fn read(bytes: &mut Vec<u8>) -> Result<Option<Self>, String> {
        if bytes.len() < ICY.len() {
            return Ok(None);
        }
        if bytes.starts_with(ICY) {
            bytes.splice(..ICY.len(), *b"HTTP/1.0 ");
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| error.to_string())?;
        let pair = |header: &httparse::Header<'_>| {
            Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, HeaderValue::from_bytes(header.value).ok()?))
        };
        let headers = response.headers.iter().filter_map(pair).collect();
        Ok(Some(Self { status, headers, rest: bytes[length..].to_vec() }))
    }

    /// Returns a header, if it is there and text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Head>, String> {
        Head::read(&mut text.as_bytes().to_vec())
    }

    #[test]
    fn a_head_is_read_once_all_of_it_is_there() {
        let text = "HTTP/1.1 200 OK\r\nX-Audio-Sample:  s16le \r\n\r\nRIFF";
        for length in 0..text.len() - 4 {
            assert!(read(&text[..length]).unwrap().is_none(), "{length} bytes");
        }
        let head = read(text).unwrap().unwrap();
        assert_eq!((head.status, head.header("x-audio-sample")), (StatusCode::OK, Some("s16le")));
        assert_eq!(head.rest, b"RIFF");
    }

    #[test]
    fn an_answer_of_shoutcast_is_one_of_http() {
        let head = read("ICY 404 Not Found\r\nicy-br: 1\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.header("icy-br")), (404, Some("1")));
        assert!(read("SSH-2.0-OpenSSH_9.9\r\n").is_err());
    }
}
