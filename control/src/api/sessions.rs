//! `/v1/sessions`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Problem;
use super::json::parse;
use crate::model::SessionInfo;
use crate::service::Service;

/// List the sessions that are logged in
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "list_sessions", responses((status = 200, body = [SessionInfo])))]
pub(super) async fn list(State(service): State<Service>) -> Result<Json<Vec<SessionInfo>>, Problem> {
    Ok(Json(service.sessions().await?))
}

/// Close a session; its initiator may log in again
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", tag = "sessions", operation_id = "drop_session", params(("id" = String, Path)),
    responses((status = 204, description = "It is closed"), (status = 404, body = Problem))
)]
pub(super) async fn drop_session(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    service.drop_session(parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
