//! `/v1/devices`.

use axum::Json;
use axum::extract::{Path, State};

use super::Problem;
use super::json::parse;
use crate::service::{DeviceDetails, DeviceView, Service};

/// List the NVMe devices that the node drives, in the order of its configuration
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices", operation_id = "list_devices",
    responses((status = 200, body = [DeviceView]), (status = 504, body = Problem))
)]
pub(super) async fn list(State(service): State<Service>) -> Result<Json<Vec<DeviceView>>, Problem> {
    Ok(Json(service.devices().await?))
}

/// Show a device with its Identify Controller and its health log page in the shapes of nvme-cli
#[utoipa::path(
    get, path = "/v1/devices/{name}", tag = "devices", operation_id = "show_device", params(("name" = String, Path)),
    responses((status = 200, body = DeviceDetails), (status = 404, body = Problem), (status = 504, body = Problem))
)]
pub(super) async fn show(
    State(service): State<Service>,
    Path(name): Path<String>,
) -> Result<Json<DeviceDetails>, Problem> {
    Ok(Json(service.device(&parse(&name)?).await?))
}
