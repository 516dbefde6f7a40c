//! The HTTP API: `/v1`, its OpenAPI document, health and metrics.
//!
//! A handler parses, calls one operation of [`Service`] and writes the answer down; it decides nothing. Errors are
//! problem documents (RFC 9457) with a stable `code`. PUT and DELETE name one thing by its path; PUT and POST of what
//! is there already change nothing and succeed.

mod controllers;
mod devices;
mod health;
mod json;
mod node;
mod problem;
mod server;
mod sessions;
mod subsystems;
mod targets;
mod volumes;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use problem::Problem;
pub use server::{ApiServer, BindError, Binding, Bound};

use crate::limits::API_BODY_BYTES_MAX;
use crate::service::Service;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vega node API",
        description = "Volumes, iSCSI targets and sessions, NVMe/TCP subsystems and controllers of one Vega node. Errors are application/problem+json.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "volumes", description = "Volumes: create, grow, delete"),
        (name = "targets", description = "iSCSI targets: units, users, allow lists"),
        (name = "sessions", description = "iSCSI sessions that are logged in"),
        (name = "subsystems", description = "NVMe/TCP subsystems: namespaces, hosts, ANA states"),
        (name = "controllers", description = "NVMe/TCP controllers that hosts are connected to"),
        (name = "devices", description = "NVMe devices that the node drives itself"),
        (name = "node", description = "Status, counters, health")
    )
)]
struct Document;

fn routes_and_document() -> (Router<Service>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::show, volumes::grow, volumes::delete))
        .routes(routes!(targets::list, targets::create))
        .routes(routes!(targets::show, targets::change, targets::delete))
        .routes(routes!(targets::put_lun, targets::remove_lun))
        .routes(routes!(targets::put_user, targets::remove_user))
        .routes(routes!(targets::list_initiators))
        .routes(routes!(targets::allow, targets::disallow))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::drop_session))
        .routes(routes!(subsystems::list, subsystems::create))
        .routes(routes!(subsystems::show, subsystems::change, subsystems::delete))
        .routes(routes!(subsystems::add_namespace))
        .routes(routes!(subsystems::put_namespace, subsystems::remove_namespace))
        .routes(routes!(subsystems::list_hosts))
        .routes(routes!(subsystems::allow_host, subsystems::deny_host))
        .routes(routes!(subsystems::set_ana_state))
        .routes(routes!(subsystems::set_listener_ana_state))
        .routes(routes!(controllers::list))
        .routes(routes!(controllers::drop_controller))
        .routes(routes!(devices::list))
        .routes(routes!(devices::show))
        .routes(routes!(node::show))
        .routes(routes!(node::stats))
        .routes(routes!(health::livez))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .split_for_parts()
}

/// The OpenAPI document, as JSON with a line end.
pub fn openapi_json() -> String {
    let (_, document) = routes_and_document();
    let mut text = document.to_pretty_json().expect("an OpenAPI document can be written as JSON");
    text.push('\n');
    text
}

/// The whole API over a service.
pub fn router(service: Service) -> Router {
    let document: Arc<str> = openapi_json().into();
    let (routes, _) = routes_and_document();
    let served = move || async move { ([("content-type", "application/json")], document.to_string()) };
    routes
        .route("/openapi.json", get(served))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(API_BODY_BYTES_MAX))
        .layer(middleware::from_fn(server::within_deadline))
        .with_state(service)
}

async fn no_such_path(uri: Uri) -> impl IntoResponse {
    let detail = format!("there is no {}; GET /openapi.json describes what there is", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", detail)
}

async fn no_such_method(method: Method, uri: Uri) -> impl IntoResponse {
    let detail = format!("{} does not take {method}; GET /openapi.json describes what it takes", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", detail)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_that_is_checked_in_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let current = super::openapi_json();
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == current,
            "control/openapi.json is not current: run this test with UPDATE_OPENAPI=1"
        );
    }
}
