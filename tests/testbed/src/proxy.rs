//! A proxy in front of a homeserver that logs every request and breaks those it is told to.
//!
//! It runs on a thread of its own, so it works on while a test blocks. Answers are buffered. Leaves
//! out TLS, streaming and keeping connections to the homeserver.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use crate::request::{Kind, Seen};

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

/// Which requests a rule is about.
pub type Condition = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;
/// Something to do when a request comes. May block: it runs on a thread of its own.
pub type Action = Arc<dyn Fn() + Send + Sync>;
/// Makes another answer of the homeserver's. A body that is not JSON comes as `null`.
pub type Mapping = Arc<dyn Fn(u16, Value) -> (u16, Value) + Send + Sync>;

/// What to do to a request.
#[derive(Clone)]
pub enum Fault {
    /// Answer without forwarding.
    Answer {
        /// The status.
        status: u16,
        /// Headers besides the body's.
        headers: Vec<(String, String)>,
        /// The body.
        body: Value,
    },
    /// Forward, wait for the answer, then cut the connection instead of passing it on.
    LoseAnswer,
    /// Forward, wait for the answer, then give this one.
    AnswerInstead {
        /// The status.
        status: u16,
        /// The body.
        body: Value,
    },
    /// Cut the connection without forwarding.
    Reset,
    /// Wait, then forward.
    Delay(Duration),
    /// Run the action, then cut the connection without forwarding.
    Before(Action),
    /// Forward, wait for the answer, run the action, then cut the connection.
    After(Action),
    /// Forward, and give the answer this function makes of the homeserver's.
    Custom(Mapping),
}

impl Fault {
    /// Answers with that status and body.
    #[must_use]
    pub fn answer(status: u16, body: Value) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// Answers with that status and a Matrix error.
    #[must_use]
    pub fn error(status: u16, errcode: &str) -> Self {
        Self::answer(
            status,
            json!({ "errcode": errcode, "error": "made up by the testbed" }),
        )
    }

    /// Answers that there have been too many requests, in the body and in the header.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        // The header knows whole seconds only.
        let seconds = retry_after.as_millis().div_ceil(1000);
        Self::Answer {
            status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
            headers: vec![("retry-after".into(), seconds.to_string())],
            body: json!({
                "errcode": "M_LIMIT_EXCEEDED",
                "error": "Too Many Requests",
                "retry_after_ms": u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// [`Fault::Before`] of a closure.
    #[must_use]
    pub fn before(action: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(action))
    }

    /// [`Fault::After`] of a closure.
    #[must_use]
    pub fn after(action: impl Fn() + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(action))
    }

    /// [`Fault::Custom`] of a closure.
    #[must_use]
    pub fn custom(map: impl Fn(u16, Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(map))
    }
}

/// Which requests to break, and how.
#[derive(Clone)]
pub struct Rule {
    /// Which requests this is about.
    pub when: Condition,
    /// How many of them to let pass first.
    pub skip: usize,
    /// How many to break then.
    pub times: usize,
    /// What to do to those.
    pub fault: Fault,
}

impl Rule {
    /// Breaks the first request `when` is true of.
    #[must_use]
    pub fn new(when: impl Fn(&Seen) -> bool + Send + Sync + 'static, fault: Fault) -> Self {
        Self {
            when: Arc::new(when),
            skip: 0,
            times: 1,
            fault,
        }
    }

    /// Breaks the first request of that kind.
    #[must_use]
    pub fn on(kind: Kind, fault: Fault) -> Self {
        Self::new(move |seen| seen.kind == kind, fault)
    }

    /// Lets that many pass first.
    #[must_use]
    pub fn skip(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Breaks that many.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Breaks all from there on.
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.times(usize::MAX)
    }
}

/// Tells how often a rule was applied.
#[derive(Debug, Clone)]
pub struct Fired(Arc<AtomicUsize>);

impl Fired {
    /// How many requests the rule broke up to now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

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
    let number = shared.note(seen);
    let request = Complete {
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

    /// Has the homeserver answer. Where it does not, neither does the proxy.
    async fn forward(&self, number: usize, request: Complete) -> Result<Answer, Cut> {
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
        let headers = end_to_end(response.headers().clone());
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
