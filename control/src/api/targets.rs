//! `/v1/targets`, their units, users and allow lists.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::json::{Body, parse, parse_number};
use super::volumes::status_of;
use crate::model::{ChapRole, InitiatorPattern, IscsiName, Secret, VolumeName};
use crate::service::{NewTarget, Service, TargetChange, TargetView};

/// What a LUN maps, or what a namespace is.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapped {
    /// The volume.
    pub(super) volume: VolumeName,
}

/// A CHAP secret, on its way in; it never comes out again.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// 12 to 255 printable characters.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 255)]
    secret: Secret,
    /// Who proves itself with it.
    #[serde(default)]
    role: ChapRole,
}

/// List targets
#[utoipa::path(get, path = "/v1/targets", tag = "targets", operation_id = "list_targets", responses((status = 200, body = [TargetView])))]
pub(super) async fn list(State(service): State<Service>) -> Json<Vec<TargetView>> {
    Json(service.targets())
}

/// Create a target and serve it; the same again is the same target
#[utoipa::path(
    post, path = "/v1/targets", tag = "targets", operation_id = "create_target", request_body = NewTarget,
    responses(
        (status = 201, description = "It is new", body = TargetView),
        (status = 200, description = "It exists with these parameters", body = TargetView),
        (status = 409, description = "It exists with other parameters", body = Problem),
        (status = 422, description = "A value is wrong", body = Problem)
    )
)]
pub(super) async fn create(
    State(service): State<Service>,
    Body(new): Body<NewTarget>,
) -> Result<(StatusCode, Json<TargetView>), Problem> {
    let (view, created) = service.create_target(new).await?;
    Ok((status_of(created), Json(view)))
}

/// Show a target
#[utoipa::path(
    get, path = "/v1/targets/{iqn}", tag = "targets", operation_id = "show_target", params(("iqn" = String, Path)),
    responses((status = 200, body = TargetView), (status = 404, body = Problem))
)]
pub(super) async fn show(
    State(service): State<Service>,
    Path(iqn): Path<String>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.target(&parse(&iqn)?)?))
}

/// Change a target; what is absent stays
#[utoipa::path(
    patch, path = "/v1/targets/{iqn}", tag = "targets", operation_id = "change_target", params(("iqn" = String, Path)), request_body = TargetChange,
    responses((status = 200, body = TargetView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn change(
    State(service): State<Service>,
    Path(iqn): Path<String>,
    Body(change): Body<TargetChange>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.change_target(&parse(&iqn)?, change).await?))
}

/// Close the sessions of a target and remove it; its volumes stay
#[utoipa::path(
    delete, path = "/v1/targets/{iqn}", tag = "targets", operation_id = "delete_target", params(("iqn" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, body = Problem))
)]
pub(super) async fn delete(
    State(service): State<Service>,
    Path(iqn): Path<String>,
) -> Result<StatusCode, Problem> {
    service.delete_target(&parse(&iqn)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Map a volume
#[utoipa::path(
    put, path = "/v1/targets/{iqn}/luns/{lun}", tag = "targets", operation_id = "put_lun",
    params(("iqn" = String, Path), ("lun" = u16, Path)), request_body = Mapped,
    responses(
        (status = 200, body = TargetView), (status = 404, body = Problem),
        (status = 409, description = "The LUN maps another volume", body = Problem)
    )
)]
pub(super) async fn put_lun(
    State(service): State<Service>,
    Path((iqn, lun)): Path<(String, String)>,
    Body(mapped): Body<Mapped>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.put_lun(&parse(&iqn)?, parse_number(&lun)?, mapped.volume).await?))
}

/// Unmap a volume
#[utoipa::path(
    delete, path = "/v1/targets/{iqn}/luns/{lun}", tag = "targets", operation_id = "remove_lun",
    params(("iqn" = String, Path), ("lun" = u16, Path)),
    responses((status = 200, body = TargetView), (status = 404, body = Problem))
)]
pub(super) async fn remove_lun(
    State(service): State<Service>,
    Path((iqn, lun)): Path<(String, String)>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.remove_lun(&parse(&iqn)?, parse_number(&lun)?).await?))
}

/// Add a CHAP user, or give it another secret
#[utoipa::path(
    put, path = "/v1/targets/{iqn}/chap-users/{user}", tag = "targets", operation_id = "put_chap_user",
    params(("iqn" = String, Path), ("user" = String, Path)), request_body = Credentials,
    responses((status = 200, body = TargetView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn put_user(
    State(service): State<Service>,
    Path((iqn, user)): Path<(String, String)>,
    Body(credentials): Body<Credentials>,
) -> Result<Json<TargetView>, Problem> {
    let Credentials { secret, role } = credentials;
    Ok(Json(service.put_user(&parse(&iqn)?, parse(&user)?, role, secret).await?))
}

/// Remove a CHAP user and its secret
#[utoipa::path(
    delete, path = "/v1/targets/{iqn}/chap-users/{user}", tag = "targets", operation_id = "remove_chap_user",
    params(("iqn" = String, Path), ("user" = String, Path)),
    responses((status = 200, body = TargetView), (status = 404, body = Problem))
)]
pub(super) async fn remove_user(
    State(service): State<Service>,
    Path((iqn, user)): Path<(String, String)>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.remove_user(&parse(&iqn)?, parse(&user)?).await?))
}

/// List who may log in; an empty list admits every initiator
#[utoipa::path(
    get, path = "/v1/targets/{iqn}/initiators", tag = "targets", operation_id = "list_initiators", params(("iqn" = String, Path)),
    responses((status = 200, body = [String]), (status = 404, body = Problem))
)]
pub(super) async fn list_initiators(
    State(service): State<Service>,
    Path(iqn): Path<String>,
) -> Result<Json<BTreeSet<InitiatorPattern>>, Problem> {
    Ok(Json(service.target(&parse::<IscsiName>(&iqn)?)?.spec.allow))
}

/// Let an initiator log in: its name, or the beginning of one and `*`
#[utoipa::path(
    put, path = "/v1/targets/{iqn}/initiators/{initiator}", tag = "targets", operation_id = "allow_initiator",
    params(("iqn" = String, Path), ("initiator" = String, Path)),
    responses((status = 200, body = TargetView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn allow(
    State(service): State<Service>,
    Path((iqn, initiator)): Path<(String, String)>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.allow_initiator(&parse(&iqn)?, parse(&initiator)?).await?))
}

/// Remove an entry of the allow list
#[utoipa::path(
    delete, path = "/v1/targets/{iqn}/initiators/{initiator}", tag = "targets", operation_id = "disallow_initiator",
    params(("iqn" = String, Path), ("initiator" = String, Path)),
    responses((status = 200, body = TargetView), (status = 404, body = Problem))
)]
pub(super) async fn disallow(
    State(service): State<Service>,
    Path((iqn, initiator)): Path<(String, String)>,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(service.disallow_initiator(&parse(&iqn)?, parse(&initiator)?).await?))
}
