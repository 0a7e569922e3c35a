use ruma::{RoomId, UserId};
use tokio::time::{advance, sleep};

use super::*;
use crate::homeserver::RETRY_AFTER_DEFAULT;
use crate::homeserver::pace::limit::{BELIEVED, UNTOLD_WAIT};

const SENDING: LimitOf = LimitOf::Account(Bucket::Everything);

/// A server that lets a request through every so often, and some at once after a rest.
struct Server {
    interval: Duration,
    burst: u32,
    next: Instant,
    refused: u32,
    /// It does not say how long to wait.
    is_silent: bool,
}

impl Server {
    fn new(interval: Duration, burst: u32) -> Self {
        let next = Instant::now();
        Self {
            interval,
            burst,
            next,
            refused: 0,
            is_silent: false,
        }
    }

    fn ask(&mut self) -> Outcome {
        let now = Instant::now();
        let full = now.checked_sub(self.interval * (self.burst - 1));
        let next = self.next.max(full.unwrap_or(now));
        if next > now {
            self.refused += 1;
            let wait = if self.is_silent {
                RETRY_AFTER_DEFAULT
            } else {
                next - now
            };
            return Outcome::Refused(wait);
        }
        self.next = next + self.interval;
        Outcome::LetThrough
    }
}

async fn send(pacer: &Arc<Pacer>, server: &mut Server) {
    loop {
        let deadline = Instant::now() + Duration::from_hours(1);
        let turn = pacer.turn(SENDING, Priority::Upgrade, deadline).await;
        sleep(Duration::from_millis(20)).await;
        let outcome = server.ask();
        turn.unwrap().note(outcome);
        if outcome == Outcome::LetThrough {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_interval_of_any_limit_is_learned_and_kept() {
    for (interval, burst) in [(5_000, 10), (200, 3), (60_000, 1), (3_333, 25)] {
        let interval = Duration::from_millis(interval);
        let (pacer, mut server) = (Arc::new(Pacer::default()), Server::new(interval, burst));
        sleep(interval * burst).await;
        let begun = Instant::now();
        let requests = burst + 100;
        for _ in 0..requests {
            send(&pacer, &mut server).await;
        }
        let least = interval * (requests - burst);
        let took = begun.elapsed();
        assert!(
            took <= least.mul_f64(1.2),
            "{interval:?}: {took:?}, {least:?}"
        );
        assert!(server.refused <= 5, "{interval:?}: {}", server.refused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_does_not_say_how_long_is_learned_by_trying() {
    for (interval, burst) in [(500, 2), (5_000, 10), (200, 3), (10_000, 1)] {
        let interval = Duration::from_millis(interval);
        let (pacer, mut server) = (Arc::new(Pacer::default()), Server::new(interval, burst));
        server.is_silent = true;
        let begun = Instant::now();
        for _ in 0..200 {
            send(&pacer, &mut server).await;
        }
        let (took, least) = (begun.elapsed(), interval * (200 - burst));
        let refused = server.refused;
        assert!(
            took <= least.mul_f64(1.3),
            "{interval:?}: {took:?}, {least:?}, {refused} refused"
        );
        assert!(refused <= 30, "{interval:?}: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_lifted_is_forgotten() {
    let (pacer, mut server) = (
        Arc::new(Pacer::default()),
        Server::new(Duration::from_secs(5), 1),
    );
    for _ in 0..20 {
        send(&pacer, &mut server).await;
    }
    assert!(pacer.is_limited(Bucket::Everything));
    server.interval = Duration::ZERO;
    sleep(BELIEVED).await;
    let begun = Instant::now();
    for _ in 0..50 {
        send(&pacer, &mut server).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(!pacer.is_limited(Bucket::Everything));
}

#[tokio::test(start_paused = true)]
async fn what_matters_more_goes_first() {
    let pacer = Arc::new(Pacer::default());
    pacer.note(&SENDING, Outcome::Refused(Duration::from_secs(5)));
    let order = Mutex::new(Vec::new());
    let ask = async |priority: Priority| {
        let deadline = Instant::now() + Duration::from_mins(10);
        let turn = pacer.turn(SENDING, priority, deadline).await.unwrap();
        order.lock().unwrap().push(priority);
        turn.note(Outcome::LetThrough);
    };
    tokio::join!(
        ask(Priority::Tidying),
        ask(Priority::Report),
        ask(Priority::Switched),
        ask(Priority::Upgrade),
        ask(Priority::Switch),
    );
    let mut sorted = order.lock().unwrap().clone();
    sorted.sort_unstable();
    assert_eq!(*order.lock().unwrap(), sorted);
    assert!(!pacer.is_waiting());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_told_at_once_and_leaves_no_place() {
    let pacer = Arc::new(Pacer::default());
    pacer.note(&SENDING, Outcome::Refused(Duration::from_mins(10)));
    let deadline = Instant::now() + Duration::from_secs(20);
    let wait = pacer.turn(SENDING, Priority::Upgrade, deadline).await;
    assert_eq!(wait.unwrap_err(), Duration::from_mins(10));
    assert!(!pacer.is_waiting());
}

#[tokio::test(start_paused = true)]
async fn odd_waits_are_no_reason_to_ask_at_once_or_never() {
    let pacer = Arc::new(Pacer::default());
    let expected = || pacer.expected(&SENDING, Priority::Upgrade);
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        pacer.note(&SENDING, Outcome::Refused(Duration::ZERO));
        assert!(expected() > Duration::ZERO && expected() >= last);
        last = expected();
        advance(last).await;
    }
    assert_eq!(last, WAIT_MAX);
    let pacer = Arc::new(Pacer::default());
    pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
    pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
    let wait = || pacer.expected(&SENDING, Priority::Upgrade);
    assert_eq!(wait(), UNTOLD_WAIT, "both left before either was refused");
    advance(UNTOLD_WAIT).await;
    pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
    assert_eq!(wait(), UNTOLD_WAIT * 2, "not told, so it grows");
}

#[tokio::test(start_paused = true)]
async fn a_refused_invitation_closes_the_invitee_then_the_room_then_the_account() {
    let pacer = Arc::new(Pacer::default());
    let [ann, ben, cat] =
        ["@ann:x", "@ben:x", "@cat:x"].map(|user| <&UserId>::try_from(user).unwrap());
    let [here, there] = ["!here:x", "!there:x"].map(|room| <&RoomId>::try_from(room).unwrap());
    let wait = |of: LimitOf| pacer.expected(&of, Priority::Upgrade);
    let to = |room: &RoomId| LimitOf::InvitationsTo(room.to_owned());
    let of_account = || LimitOf::Account(Bucket::Invitations);
    let refused = |seconds| Outcome::Refused(Duration::from_secs(seconds));
    pacer.note_invitation(ann, here, refused(300));
    assert_eq!(pacer.closed_to(ann), Some(Duration::from_mins(5)));
    assert_eq!(
        (pacer.closed_to(ben), wait(to(here))),
        (None, Duration::ZERO)
    );
    // Another limit of one person.
    pacer.note_invitation(ben, here, refused(200));
    assert_eq!(wait(to(here)), Duration::ZERO);
    pacer.note_invitation(cat, here, Outcome::LetThrough);
    pacer.note_invitation(ann, here, refused(7));
    pacer.note_invitation(ben, here, refused(7));
    assert_eq!(wait(to(here)), Duration::from_secs(7));
    assert_eq!(
        (wait(to(there)), wait(of_account())),
        (Duration::ZERO, Duration::ZERO)
    );
    pacer.note_invitation(cat, there, refused(7));
    assert_eq!(wait(of_account()), Duration::from_secs(7));
    assert_eq!(wait(to(here)), Duration::ZERO);
}
