//! A proxy in front of a homeserver that logs every request and breaks those it is told to. Parts of
//! the homeserver can be replaced, see [`Proxy::stand_in`] and [`crate::play`].
//!
//! It runs on a thread of its own, so it works on while a test blocks. Answers are buffered. Leaves
//! out TLS, streaming and keeping connections to the homeserver.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use self::rule::{Action, Condition, Fault, Fired, Mapping, Rule};
pub use crate::request::{Kind, Seen};
use crate::user::User;

mod rule;

/// How long the homeserver may take for an answer. Longer than any long poll.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_mins(5);

/// Headers that belong to a connection, or that are made anew for the forwarded message.
const NOT_FORWARDED: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// An answer in the making: a status and a JSON body.
pub type Answering = Pin<Box<dyn Future<Output = (u16, Value)> + Send>>;
/// Answers requests in the homeserver's place. Gets the request and its sender, as a client of the
/// homeserver itself; of the sender it knows the access token only, if there is one.
pub type StandIn = Arc<dyn Fn(Seen, User) -> Answering + Send + Sync>;

/// A rule at work.
struct Armed {
    rule: Rule,
    matched: usize,
    fired: Fired,
}

/// What the proxy and its thread share.
struct Shared {
    upstream: String,
    client: reqwest::Client,
    log: Mutex<Log>,
    rules: Mutex<Vec<Armed>>,
    stand_ins: Mutex<Vec<(Condition, StandIn)>>,
    hidden: Mutex<Vec<HeaderName>>,
}

/// The requests seen, with the number of the first one kept.
#[derive(Default)]
struct Log {
    cleared: usize,
    seen: Vec<Seen>,
}

/// A running proxy. Dropping it ends it and cuts its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Dropped to end the thread.
    _running: oneshot::Sender<Infallible>,
}

impl Proxy {
    /// Starts a proxy in front of the homeserver at that address.
    #[must_use]
    pub fn start(upstream: &str) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("bind a port on the loopback interface");
        listener
            .set_nonblocking(true)
            .expect("make the listener non-blocking");
        let address = listener.local_addr().expect("the listener's address");
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(UPSTREAM_TIMEOUT)
            .build()
            .expect("build an HTTP client");
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').into(),
            client,
            log: Mutex::default(),
            rules: Mutex::default(),
            stand_ins: Mutex::default(),
            hidden: Mutex::default(),
        });
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("build the proxy's runtime");
        let work = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                runtime.block_on(async {
                    let listener =
                        TcpListener::from_std(listener).expect("hand the listener to the runtime");
                    tokio::select! {
                        () = accept(&listener, &work) => {}
                        _ = ended => {}
                    }
                });
                // Does not wait for actions that still run.
                runtime.shutdown_background();
            })
            .expect("start the proxy's thread");
        Self {
            address,
            shared,
            _running: running,
        }
    }

    /// The address clients use, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests seen, in the order they came, but for those cleared.
    #[must_use]
    pub fn log(&self) -> Vec<Seen> {
        lock(&self.shared.log).seen.clone()
    }

    /// The requests of [`Proxy::log`] that are of that kind.
    #[must_use]
    pub fn log_of(&self, kind: &Kind) -> Vec<Seen> {
        self.log()
            .into_iter()
            .filter(|seen| seen.kind == *kind)
            .collect()
    }

    /// The requests of [`Proxy::log`] that write.
    #[must_use]
    pub fn writes(&self) -> Vec<Seen> {
        self.log().into_iter().filter(Seen::is_write).collect()
    }

    /// Forgets the requests seen.
    pub fn clear_log(&self) {
        let mut log = lock(&self.shared.log);
        log.cleared += log.seen.len();
        log.seen.clear();
    }

    /// Adds a rule behind those there are. The first one that applies is applied, alone; but each
    /// counts the requests it is about, up to that one.
    pub fn add(&self, rule: Rule) -> Fired {
        let fired = Fired(Arc::default());
        lock(&self.shared.rules).push(Armed {
            rule,
            matched: 0,
            fired: fired.clone(),
        });
        fired
    }

    /// Takes all rules away. Requests they already broke stay broken.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Has those requests answered in the homeserver's place, for good; where several stand in for
    /// it, the first does. Rules break such answers as they break the homeserver's.
    pub fn stand_in<F>(
        &self,
        when: impl Fn(&Seen) -> bool + Send + Sync + 'static,
        answer: impl Fn(Seen, User) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = (u16, Value)> + Send + 'static,
    {
        let answer: StandIn = Arc::new(move |seen, sender| Box::pin(answer(seen, sender)));
        lock(&self.shared.stand_ins).push((Arc::new(when), answer));
    }

    /// Takes that header out of the homeserver's answers.
    pub fn hide_header(&self, name: HeaderName) {
        lock(&self.shared.hidden).push(name);
    }
}

/// The homeserver's answer, or one in its place.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// An answer with a JSON body.
    fn json(status: u16, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let status = StatusCode::from_u16(status).expect("a status");
        Self {
            status,
            headers,
            body: body.to_string().into(),
        }
    }
}

/// The connection is to be cut. As the error of the service it makes hyper do so.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// A request with all of its body.
struct Complete {
    seen: Seen,
    method: Method,
    path_and_query: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Serves connections, each in a task of its own.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        // A connection that ended before it was taken is no loss.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| serve(Arc::clone(&shared), request));
            // Ends with an error whenever a connection is cut, by whichever side.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Serves one request.
async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let path_and_query = head
        .uri
        .path_and_query()
        .map_or_else(|| "/".to_owned(), ToString::to_string);
    let query = head.uri.query().unwrap_or_default();
    let seen = Seen::new(head.method.as_str(), head.uri.path(), query, &body);
    let fault = shared.pick(&seen);
    let number = shared.note(seen.clone());
    let request = Complete {
        seen,
        method: head.method,
        path_and_query,
        headers: head.headers,
        body,
    };
    // A task of its own, which goes on when the client goes away.
    let task = tokio::spawn(async move { shared.answer(number, request, fault).await });
    let answer = task.await.map_err(|_| Cut)??;
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

impl Shared {
    /// The fault for that request.
    fn pick(&self, seen: &Seen) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        for armed in rules.iter_mut() {
            if !(armed.rule.when)(seen) {
                continue;
            }
            armed.matched += 1;
            let broken = armed.fired.count();
            if armed.matched > armed.rule.skip && broken < armed.rule.times {
                armed.fired.0.fetch_add(1, Ordering::SeqCst);
                return Some(armed.rule.fault.clone());
            }
        }
        None
    }

    /// Logs a request; returns its number.
    fn note(&self, seen: Seen) -> usize {
        let mut log = lock(&self.log);
        log.seen.push(seen);
        log.cleared + log.seen.len() - 1
    }

    /// Logs a request's answer, unless the request has been cleared meanwhile.
    fn note_status(&self, number: usize, status: StatusCode) {
        let mut log = lock(&self.log);
        let index = number.checked_sub(log.cleared);
        if let Some(seen) = index.and_then(|index| log.seen.get_mut(index)) {
            seen.status = Some(status.as_u16());
        }
    }

    /// Answers a request, with or without the homeserver.
    async fn answer(
        &self,
        number: usize,
        request: Complete,
        fault: Option<Fault>,
    ) -> Result<Answer, Cut> {
        let answer = match fault {
            None => self.forward(number, request).await?,
            Some(Fault::Answer {
                status,
                headers,
                body,
            }) => {
                let mut answer = Answer::json(status, &body);
                for (name, value) in headers {
                    let name: HeaderName = name.parse().expect("a header's name");
                    answer
                        .headers
                        .insert(name, value.parse().expect("a header's value"));
                }
                answer
            }
            Some(Fault::LoseAnswer) => {
                self.forward(number, request).await?;
                return Err(Cut);
            }
            Some(Fault::AnswerInstead { status, body }) => {
                self.forward(number, request).await?;
                Answer::json(status, &body)
            }
            Some(Fault::Reset) => return Err(Cut),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.forward(number, request).await?
            }
            Some(Fault::Before(action)) => {
                run(action).await;
                return Err(Cut);
            }
            Some(Fault::After(action)) => {
                self.forward(number, request).await?;
                run(action).await;
                return Err(Cut);
            }
            Some(Fault::Custom(map)) => {
                let given = self.forward(number, request).await?;
                let body = serde_json::from_slice(&given.body).unwrap_or_default();
                let (status, body) = map(given.status.as_u16(), body);
                Answer::json(status, &body)
            }
        };
        self.note_status(number, answer.status);
        Ok(answer)
    }

    /// Who answers that request in the homeserver's place.
    fn stand_in_for(&self, seen: &Seen) -> Option<StandIn> {
        let stand_ins = lock(&self.stand_ins);
        let found = stand_ins.iter().find(|(when, _)| when(seen))?;
        Some(Arc::clone(&found.1))
    }

    /// Has the homeserver answer, or whoever stands in for it. Where it does not, neither does the proxy.
    async fn forward(&self, number: usize, request: Complete) -> Result<Answer, Cut> {
        if let Some(stand_in) = self.stand_in_for(&request.seen) {
            let token = request.headers.get(AUTHORIZATION);
            let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            let sender = User::with_token(&self.upstream, token.unwrap_or_default());
            let (status, body) = stand_in(request.seen, sender).await;
            let answer = Answer::json(status, &body);
            self.note_status(number, answer.status);
            return Ok(answer);
        }
        let url = format!("{}{}", self.upstream, request.path_and_query);
        let response = self
            .client
            .request(request.method, url)
            .headers(end_to_end(request.headers))
            .body(request.body)
            .send()
            .await
            .map_err(|_| Cut)?;
        let status = response.status();
        let mut headers = end_to_end(response.headers().clone());
        for name in lock(&self.hidden).iter() {
            headers.remove(name);
        }
        let body = response.bytes().await.map_err(|_| Cut)?;
        self.note_status(number, status);
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// Runs an action where it may block.
async fn run(action: Action) {
    // A panic of the action has been printed; the connection is cut in any case.
    let _ = tokio::task::spawn_blocking(move || action()).await;
}

/// The headers without those of [`NOT_FORWARDED`].
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    headers
}

/// What the mutex holds, also after a panic of a rule's condition: it is never left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
