//! A small HTTP client: one request per connection, over a Unix socket or TCP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::args::Global;
use super::error::CliError;
use crate::api::Problem;
use crate::limits::ANSWER_BYTES_MAX;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Tcp(address) => write!(formatter, "http://{address}"),
        }
    }
}

/// Talks to one node.
pub(super) struct Client {
    endpoint: Endpoint,
    timeout: Duration,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(super) fn new(global: &Global) -> Result<Self, CliError> {
        let endpoint = match &global.api {
            Some(text) => parse_endpoint(text)?,
            None => find_node()?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let timeout = Duration::from_secs(global.timeout);
        Ok(Self { endpoint, timeout, runtime: runtime.map_err(CliError::Runtime)? })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, CliError> {
        self.request(Method::GET, path, None)
    }

    /// One request. An answer without content is `null`.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        let late =
            || CliError::Timeout { endpoint: self.endpoint.to_string(), seconds: self.timeout.as_secs() };
        self.runtime.block_on(async {
            let exchange = tokio::time::timeout(self.timeout, self.exchange(method, path, body));
            exchange.await.unwrap_or_else(|_| Err(late()))
        })
    }

    /// The answer as one of our own types.
    pub(super) fn read<T: DeserializeOwned>(&self, value: Value) -> Result<T, CliError> {
        serde_json::from_value(value).map_err(|error| self.strange(error))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let response = match &self.endpoint {
            Endpoint::Unix(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await;
                self.send(stream.map_err(|error| self.unreachable(error))?, "localhost", method, path, body)
                    .await?
            }
            Endpoint::Tcp(address) => {
                let stream = tokio::net::TcpStream::connect(address).await;
                self.send(stream.map_err(|error| self.unreachable(error))?, address, method, path, body)
                    .await?
            }
        };
        let status = response.status();
        let content = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let content = content.map_err(|error| self.strange(error))?.to_bytes();
        if !status.is_success() {
            let problem: Problem = serde_json::from_slice(&content)
                .map_err(|_| self.strange(format!("status {status} without a problem document")))?;
            return Err(CliError::Problem(problem));
        }
        match content.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&content).map_err(|error| self.strange(error)),
        }
    }

    async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, CliError> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.strange(error))?;
        // It ends with the answer; what goes wrong on it is seen there.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        let content = match body {
            Some(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(content).expect("method, path and headers are made of checked parts");
        sender.send_request(request).await.map_err(|error| self.strange(error))
    }

    fn unreachable(&self, source: std::io::Error) -> CliError {
        CliError::Connect { endpoint: self.endpoint.to_string(), source }
    }

    fn strange(&self, detail: impl std::fmt::Display) -> CliError {
        CliError::Answer { endpoint: self.endpoint.to_string(), detail: detail.to_string() }
    }
}

fn parse_endpoint(input: &str) -> Result<Endpoint, CliError> {
    let wrong = || CliError::Endpoint { input: input.to_owned() };
    if let Some(path) = input.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err(wrong()) } else { Ok(Endpoint::Unix(path.into())) };
    }
    let address = input.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let plain = address.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte));
    if port.is_some() && plain { Ok(Endpoint::Tcp(address.to_owned())) } else { Err(wrong()) }
}

/// The socket of a node that was started here, or as a service.
fn find_node() -> Result<Endpoint, CliError> {
    let configured = std::env::var_os("VEGA_NODE__DATA_DIR").map(|dir| Path::new(&dir).join("vega.sock"));
    let usual = ["vega-data/vega.sock", "/run/vega/vega.sock"].map(PathBuf::from);
    let candidates: Vec<PathBuf> = configured.into_iter().chain(usual).collect();
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(Endpoint::Unix(path.clone())),
        None => {
            let names: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
            Err(CliError::NoNode { looked_for: names.join(" and ") })
        }
    }
}

/// A name as one part of a path.
pub(super) fn segment(name: impl std::fmt::Display) -> String {
    let mut encoded = String::new();
    for byte in name.to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let read = |text: &str| parse_endpoint(text).ok().map(|endpoint| endpoint.to_string());
        assert_eq!(read("unix:/run/vega/vega.sock").as_deref(), Some("unix:/run/vega/vega.sock"));
        assert_eq!(read("unix:///run/vega.sock").as_deref(), Some("unix:/run/vega.sock"));
        assert_eq!(read("http://127.0.0.1:9503/").as_deref(), Some("http://127.0.0.1:9503"));
        assert_eq!(read("http://[::1]:9503").as_deref(), Some("http://[::1]:9503"));
        for bad in ["", "unix:", "http://", "http://host", "https://host:1", "/run/vega.sock", "http://a b:1"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_one_part_of_a_path() {
        assert_eq!(segment("iqn.1994-05.com.redhat:*"), "iqn.1994-05.com.redhat:%2A");
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
    }
}
