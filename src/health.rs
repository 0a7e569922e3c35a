//! What the bot tells those who watch over it, by HTTP: `/healthz`, `/readyz` and `/metrics`. And the
//! question itself, for `roomlift health`.
//!
//! Nothing here holds a secret or a name of a room or person. Left out: counting (`metrics`).

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::metrics::{self, Levels};
use crate::store::Store;
use crate::telemetry::chain;

/// Connections at the same time; more wait. A scrape and a health check are two.
const CONNECTIONS_MAX: usize = 16;

/// Longest time for one connection: an answer takes milliseconds.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// Pause after a connection could not be taken, so that a process out of files does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Age of a sync from which on the bot is not ready: a sync is held for half a minute, and may then
/// take its time.
const SYNC_AGE_MAX: Duration = Duration::from_mins(3);

/// Longest wait of `roomlift health`; below the limits that container engines have by default.
const PROBE_MAX: Duration = Duration::from_secs(5);

/// Longest answer that `roomlift health` reads.
const PROBE_BYTES_MAX: usize = 1024;

/// The format of the metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The format of all other answers.
const PLAIN: &str = "text/plain; charset=utf-8";

/// Why nothing can be told, or was.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; correct `listen`")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("no bot answers on {address}")]
    Silent {
        address: SocketAddr,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bot says that it is not well.
    #[error("the bot is not well: {0}")]
    Unwell(String),
}

#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Listens on an address; what comes is answered by [`Listener::serve`].
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        let listener = TcpListener::bind(address).await;
        listener
            .map(Self)
            .map_err(|source| HealthError::Listen { address, source })
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(
        self,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        let watched = Arc::new(Watched { store, clock });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.0.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "cannot take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let (watched, stop) = (Arc::clone(&watched), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                let answer = hyper::service::service_fn(|request| {
                    let answer = watched.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(CONNECTION_MAX)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::select! {
                    // Whoever asked and went away has no need of an answer.
                    _ = tokio::time::timeout(CONNECTION_MAX, connection) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

/// What is looked at.
struct Watched {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl Watched {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is possible");
        }
        match request.uri().path() {
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics(),
            _ => plain(
                StatusCode::NOT_FOUND,
                "there is /healthz, /readyz and /metrics",
            ),
        }
    }

    /// Whether the process works. A homeserver that is away does not make it sick: starting the bot
    /// again would not help.
    fn health(&self) -> Response<Full<Bytes>> {
        match self.store.counts() {
            Ok(_) => plain(StatusCode::OK, "ok"),
            Err(error) => {
                tracing::error!(error = chain(&error), "not healthy");
                plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database cannot be read",
                )
            }
        }
    }

    /// Whether commands are heard.
    fn readiness(&self) -> Response<Full<Bytes>> {
        match metrics::sync_age(self.clock.now()) {
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "starting"),
            Some(age) if age > SYNC_AGE_MAX => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("heard nothing for {} s", age.as_secs()),
            ),
            Some(_) => plain(StatusCode::OK, "ready"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let counts = match self.store.counts() {
            Ok(counts) => counts,
            Err(error) => {
                tracing::error!(error = chain(&error), "no metrics");
                return plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database cannot be read",
                );
            }
        };
        let levels = Levels {
            jobs: counts.jobs,
            unsent: counts.unsent,
            sync_age: metrics::sync_age(self.clock.now()),
        };
        match metrics::render(&levels) {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(_) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written",
            ),
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, PLAIN, format!("{text}\n"))
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Asks the bot that listens on an address whether it is well.
///
/// # Errors
/// When nobody answers, or the answer is no.
pub(crate) async fn probe(address: SocketAddr) -> Result<(), HealthError> {
    let asked = tokio::time::timeout(PROBE_MAX, ask(reachable(address)));
    let answer = asked.await.unwrap_or_else(|late| Err(late.into()));
    let (status, body) = answer.map_err(|source| HealthError::Silent { address, source })?;
    if status.is_success() {
        return Ok(());
    }
    Err(HealthError::Unwell(body))
}

/// Where to find who listens on all addresses of the machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(
    address: SocketAddr,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut client, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::get("/healthz")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    // Ends with the exchange, in whichever way.
    let _driving = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = client.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), PROBE_BYTES_MAX);
    let body = body.collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_on_this_machine() {
        for (listen, expected) in [
            ("0.0.0.0:9187", "127.0.0.1:9187"),
            ("[::]:9187", "[::1]:9187"),
            ("192.0.2.1:1", "192.0.2.1:1"),
        ] {
            let expected: SocketAddr = expected.parse().unwrap();
            assert_eq!(reachable(listen.parse().unwrap()), expected, "{listen}");
        }
    }
}
