//! `/v1/controllers`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Problem;
use super::json::parse;
use crate::model::ControllerInfo;
use crate::service::Service;

/// List the controllers that hosts are connected to, of discovery and of I/O
#[utoipa::path(get, path = "/v1/controllers", tag = "controllers", operation_id = "list_controllers", responses((status = 200, body = [ControllerInfo])))]
pub(super) async fn list(State(service): State<Service>) -> Result<Json<Vec<ControllerInfo>>, Problem> {
    Ok(Json(service.controllers().await?))
}

/// Disconnect a controller; its host may connect again
#[utoipa::path(
    delete, path = "/v1/controllers/{id}", tag = "controllers", operation_id = "drop_controller", params(("id" = String, Path)),
    responses((status = 204, description = "It is disconnected"), (status = 404, body = Problem))
)]
pub(super) async fn drop_controller(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    service.drop_controller(parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
