//! `/v1/volumes`.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::json::{Body, parse, wrong_query};
use crate::service::{Created, NewVolume, Service, VolumeDeleted, VolumeView};

/// What may be changed about a volume.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeChange {
    /// The new size in bytes; never smaller than the present one.
    pub(super) size_bytes: u64,
}

/// What goes with the volume.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Deletion {
    /// Destroy the data as well. Without it the data file is kept and can be adopted again by its uuid.
    #[serde(default)]
    pub(super) delete_data: bool,
    /// The name of the volume once more; needed to destroy data.
    #[serde(default)]
    pub(super) confirm: Option<String>,
}

/// List volumes
#[utoipa::path(get, path = "/v1/volumes", tag = "volumes", operation_id = "list_volumes", responses((status = 200, body = [VolumeView])))]
pub(super) async fn list(State(service): State<Service>) -> Json<Vec<VolumeView>> {
    Json(service.volumes().await)
}

/// Create a volume and serve it; the same again is the same volume
#[utoipa::path(
    post, path = "/v1/volumes", tag = "volumes", operation_id = "create_volume", request_body = NewVolume,
    responses(
        (status = 201, description = "It is new", body = VolumeView),
        (status = 200, description = "It exists with these parameters", body = VolumeView),
        (status = 409, description = "It exists with other parameters", body = Problem),
        (status = 422, description = "A value is wrong", body = Problem),
        (status = 507, description = "There is no room for it", body = Problem)
    )
)]
pub(super) async fn create(
    State(service): State<Service>,
    Body(new): Body<NewVolume>,
) -> Result<(StatusCode, Json<VolumeView>), Problem> {
    let (view, created) = service.create_volume(new).await?;
    Ok((status_of(created), Json(view)))
}

pub(super) fn status_of(created: Created) -> StatusCode {
    match created {
        Created::New => StatusCode::CREATED,
        Created::Existing => StatusCode::OK,
    }
}

/// Show a volume
#[utoipa::path(
    get, path = "/v1/volumes/{name}", tag = "volumes", operation_id = "show_volume", params(("name" = String, Path)),
    responses((status = 200, body = VolumeView), (status = 404, body = Problem))
)]
pub(super) async fn show(
    State(service): State<Service>,
    Path(name): Path<String>,
) -> Result<Json<VolumeView>, Problem> {
    Ok(Json(service.volume(&parse(&name)?).await?))
}

/// Make a volume larger
#[utoipa::path(
    patch, path = "/v1/volumes/{name}", tag = "volumes", operation_id = "grow_volume", params(("name" = String, Path)), request_body = VolumeChange,
    responses(
        (status = 200, body = VolumeView), (status = 404, body = Problem),
        (status = 422, description = "Smaller, or not a whole number of blocks", body = Problem)
    )
)]
pub(super) async fn grow(
    State(service): State<Service>,
    Path(name): Path<String>,
    Body(change): Body<VolumeChange>,
) -> Result<Json<VolumeView>, Problem> {
    Ok(Json(service.grow_volume(&parse(&name)?, change.size_bytes).await?))
}

/// Take a volume out of service; its data is kept unless the deletion is confirmed
#[utoipa::path(
    delete, path = "/v1/volumes/{name}", tag = "volumes", operation_id = "delete_volume", params(("name" = String, Path), Deletion),
    responses(
        (status = 200, body = VolumeDeleted), (status = 404, body = Problem),
        (status = 409, description = "A target or subsystem has it", body = Problem),
        (status = 422, description = "Data would be destroyed and that is not confirmed", body = Problem)
    )
)]
pub(super) async fn delete(
    State(service): State<Service>,
    Path(name): Path<String>,
    deletion: Result<Query<Deletion>, QueryRejection>,
) -> Result<Json<VolumeDeleted>, Problem> {
    let Query(Deletion { delete_data, confirm }) = deletion.map_err(wrong_query)?;
    Ok(Json(service.delete_volume(&parse(&name)?, delete_data, confirm.as_deref()).await?))
}
