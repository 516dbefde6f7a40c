//! `/v1/node` and `/v1/stats`.

use axum::Json;
use axum::extract::State;

use super::Problem;
use crate::model::NodeStatus;
use crate::service::{Service, StatsView};

/// Show the node
#[utoipa::path(get, path = "/v1/node", tag = "node", operation_id = "show_node", responses((status = 200, body = NodeStatus)))]
pub(super) async fn show(State(service): State<Service>) -> Json<NodeStatus> {
    Json(service.node().await)
}

/// Show all counters since the node was started; the difference of two answers is what happened in between
#[utoipa::path(
    get, path = "/v1/stats", tag = "node", operation_id = "show_stats",
    responses((status = 200, body = StatsView), (status = 504, body = Problem))
)]
pub(super) async fn stats(State(service): State<Service>) -> Result<Json<StatsView>, Problem> {
    Ok(Json(service.stats().await?))
}
