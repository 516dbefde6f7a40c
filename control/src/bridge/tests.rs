//! Deadlines, bounds and lost answers.

use super::*;
use std::sync::Mutex;

/// Keeps every responder, so that nothing is ever answered.
#[derive(Default)]
struct Silent(Mutex<Vec<Responder>>);

impl DataPlane for Silent {
    fn submit(&self, _: Request, responder: Responder) {
        self.0.lock().unwrap().push(responder);
    }
}

struct Forgetful;

impl DataPlane for Forgetful {
    fn submit(&self, _: Request, _: Responder) {}
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let bridge = Bridge::new(Arc::new(Silent::default()));
    let error = bridge.sessions().await.unwrap_err();
    assert_eq!(error, PlaneError::DeadlineExceeded { request: "sessions", after_ms: 5000 });
}

#[tokio::test]
async fn a_dropped_responder_is_an_answer() {
    let bridge = Bridge::new(Arc::new(Forgetful));
    assert_eq!(bridge.sessions().await.unwrap_err(), PlaneError::Abandoned { request: "sessions" });
}

#[tokio::test(start_paused = true)]
async fn the_data_plane_never_sees_more_than_the_bound() {
    let plane = Arc::new(Silent::default());
    let bridge = Bridge::new(plane.clone());
    let most = REQUESTS_IN_FLIGHT_MAX + REQUESTS_WAITING_MAX;
    let calls: Vec<_> = (0..most)
        .map(|_| {
            tokio::spawn({
                let bridge = bridge.clone();
                async move { bridge.sessions().await }
            })
        })
        .collect();
    for _ in 0..most {
        tokio::task::yield_now().await;
    }
    assert_eq!(plane.0.lock().unwrap().len(), REQUESTS_IN_FLIGHT_MAX);
    assert_eq!(bridge.sessions().await.unwrap_err(), PlaneError::Overloaded { in_flight: most });
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(PlaneError::DeadlineExceeded { .. })));
    }
}

#[test]
fn a_thread_without_a_runtime_can_answer_and_wait() {
    let (responder, wait) = Responder::pair();
    std::thread::spawn(move || responder.answer(Ok(Reply::Done)));
    assert!(matches!(wait(), Some(Ok(Reply::Done))));
}
