//! `/livez`, `/readyz`, `/healthz`, `/metrics`.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::metrics;
use crate::model::Readiness;
use crate::service::Service;

/// Whether the process answers at all
#[utoipa::path(get, path = "/livez", tag = "node", operation_id = "livez", responses((status = 200, body = String)))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the data plane answers control
#[utoipa::path(
    get, path = "/healthz", tag = "node", operation_id = "healthz",
    responses((status = 200, body = String), (status = 503, body = String))
)]
pub(super) async fn healthz(State(service): State<Service>) -> (StatusCode, String) {
    match service.stats_report().await.1 {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Whether everything desired is served; with `?verbose`, each check on a line
#[utoipa::path(
    get, path = "/readyz", tag = "node", operation_id = "readyz",
    params(("verbose" = Option<String>, Query, description = "List every check")),
    responses((status = 200, body = String), (status = 503, body = String))
)]
pub(super) async fn readyz(
    State(service): State<Service>,
    RawQuery(query): RawQuery,
) -> (StatusCode, String) {
    let readiness = service.readiness().await;
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines(&readiness, verbose))
}

/// What failed is always listed; what is well only when asked for.
fn lines(readiness: &Readiness, verbose: bool) -> String {
    let mut text = String::new();
    for check in &readiness.checks {
        match &check.detail {
            Some(detail) => text.push_str(&format!("[-]{} failed: {detail}\n", check.name)),
            None if verbose => text.push_str(&format!("[+]{} ok\n", check.name)),
            None => {}
        }
    }
    text.push_str(if readiness.ready { "ok\n" } else { "not ready\n" });
    text
}

/// Metrics for Prometheus: text, or protobuf with native histograms when that is accepted
#[utoipa::path(get, path = "/metrics", tag = "node", operation_id = "metrics", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(service): State<Service>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = metrics::Format::accepted(accept.collect::<Vec<_>>().join(",").as_str());
    let gathered = metrics::gather(&service).await;
    ([(header::CONTENT_TYPE, format.content_type())], gathered.encode(format)).into_response()
}
