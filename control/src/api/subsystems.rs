//! `/v1/subsystems`, their namespaces, allow lists and ANA states.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::json::{Body, parse, parse_number, wrong_query};
use super::targets::Mapped;
use super::volumes::status_of;
use crate::model::{AnaState, HostPattern, Nqn, Nsid, VolumeName};
use crate::service::{NewSubsystem, Service, SubsystemChange, SubsystemView};

/// A namespace to add.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNamespace {
    /// The volume.
    volume: VolumeName,
    /// Its NSID; the lowest free one when absent.
    #[serde(default)]
    nsid: Option<Nsid>,
}

/// What goes with the entry.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Denial {
    /// Remove also the last entry, after which every host may connect.
    #[serde(default)]
    admit_all: bool,
}

/// An ANA state to set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAnaState {
    /// The state.
    state: AnaState,
}

/// List subsystems
#[utoipa::path(get, path = "/v1/subsystems", tag = "subsystems", operation_id = "list_subsystems", responses((status = 200, body = [SubsystemView])))]
pub(super) async fn list(State(service): State<Service>) -> Json<Vec<SubsystemView>> {
    Json(service.subsystems())
}

/// Create a subsystem and serve it; the same again is the same subsystem
#[utoipa::path(
    post, path = "/v1/subsystems", tag = "subsystems", operation_id = "create_subsystem", request_body = NewSubsystem,
    responses(
        (status = 201, description = "It is new", body = SubsystemView),
        (status = 200, description = "It exists with these parameters", body = SubsystemView),
        (status = 409, description = "It exists with other parameters, or another subsystem has a volume", body = Problem),
        (status = 422, description = "A value is wrong", body = Problem)
    )
)]
pub(super) async fn create(
    State(service): State<Service>,
    Body(new): Body<NewSubsystem>,
) -> Result<(StatusCode, Json<SubsystemView>), Problem> {
    let (view, created) = service.create_subsystem(new).await?;
    Ok((status_of(created), Json(view)))
}

/// Show a subsystem
#[utoipa::path(
    get, path = "/v1/subsystems/{nqn}", tag = "subsystems", operation_id = "show_subsystem", params(("nqn" = String, Path)),
    responses((status = 200, body = SubsystemView), (status = 404, body = Problem))
)]
pub(super) async fn show(
    State(service): State<Service>,
    Path(nqn): Path<String>,
) -> Result<Json<SubsystemView>, Problem> {
    Ok(Json(service.subsystem(&parse(&nqn)?)?))
}

/// Change a subsystem; what is absent stays
#[utoipa::path(
    patch, path = "/v1/subsystems/{nqn}", tag = "subsystems", operation_id = "change_subsystem", params(("nqn" = String, Path)), request_body = SubsystemChange,
    responses((status = 200, body = SubsystemView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn change(
    State(service): State<Service>,
    Path(nqn): Path<String>,
    Body(change): Body<SubsystemChange>,
) -> Result<Json<SubsystemView>, Problem> {
    Ok(Json(service.change_subsystem(&parse(&nqn)?, change).await?))
}

/// Disconnect the controllers of a subsystem and remove it; its volumes stay
#[utoipa::path(
    delete, path = "/v1/subsystems/{nqn}", tag = "subsystems", operation_id = "delete_subsystem", params(("nqn" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, body = Problem))
)]
pub(super) async fn delete(
    State(service): State<Service>,
    Path(nqn): Path<String>,
) -> Result<StatusCode, Problem> {
    service.delete_subsystem(&parse(&nqn)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a volume a namespace, under the lowest free NSID unless one is given
#[utoipa::path(
    post, path = "/v1/subsystems/{nqn}/namespaces", tag = "subsystems", operation_id = "add_namespace",
    params(("nqn" = String, Path)), request_body = NewNamespace,
    responses(
        (status = 200, body = SubsystemView), (status = 404, body = Problem),
        (status = 409, description = "The NSID is another volume, or another subsystem has the volume", body = Problem)
    )
)]
pub(super) async fn add_namespace(
    State(service): State<Service>,
    Path(nqn): Path<String>,
    Body(new): Body<NewNamespace>,
) -> Result<Json<SubsystemView>, Problem> {
    Ok(Json(service.add_namespace(&parse(&nqn)?, new.nsid, new.volume).await?))
}

/// Make a volume the namespace with this NSID
#[utoipa::path(
    put, path = "/v1/subsystems/{nqn}/namespaces/{nsid}", tag = "subsystems", operation_id = "put_namespace",
    params(("nqn" = String, Path), ("nsid" = u32, Path)), request_body = Mapped,
    responses(
        (status = 200, body = SubsystemView), (status = 404, body = Problem),
        (status = 409, description = "The NSID is another volume, or another subsystem has the volume", body = Problem)
    )
)]
pub(super) async fn put_namespace(
    State(service): State<Service>,
    Path((nqn, nsid)): Path<(String, String)>,
    Body(mapped): Body<Mapped>,
) -> Result<Json<SubsystemView>, Problem> {
    let nsid = parse_number(&nsid)?;
    Ok(Json(service.add_namespace(&parse(&nqn)?, Some(nsid), mapped.volume).await?))
}

/// Detach a namespace; its volume stays
#[utoipa::path(
    delete, path = "/v1/subsystems/{nqn}/namespaces/{nsid}", tag = "subsystems", operation_id = "remove_namespace",
    params(("nqn" = String, Path), ("nsid" = u32, Path)),
    responses((status = 200, body = SubsystemView), (status = 404, body = Problem))
)]
pub(super) async fn remove_namespace(
    State(service): State<Service>,
    Path((nqn, nsid)): Path<(String, String)>,
) -> Result<Json<SubsystemView>, Problem> {
    Ok(Json(service.remove_namespace(&parse(&nqn)?, parse_number(&nsid)?).await?))
}

/// List the hosts that may connect; an empty list admits every host
#[utoipa::path(
    get, path = "/v1/subsystems/{nqn}/hosts", tag = "subsystems", operation_id = "list_hosts", params(("nqn" = String, Path)),
    responses((status = 200, body = [String]), (status = 404, body = Problem))
)]
pub(super) async fn list_hosts(
    State(service): State<Service>,
    Path(nqn): Path<String>,
) -> Result<Json<BTreeSet<HostPattern>>, Problem> {
    Ok(Json(service.subsystem(&parse::<Nqn>(&nqn)?)?.spec.allow))
}

/// Let a host connect: its NQN, or the beginning of one and `*`
#[utoipa::path(
    put, path = "/v1/subsystems/{nqn}/hosts/{host}", tag = "subsystems", operation_id = "allow_host",
    params(("nqn" = String, Path), ("host" = String, Path)),
    responses((status = 200, body = SubsystemView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn allow_host(
    State(service): State<Service>,
    Path((nqn, host)): Path<(String, String)>,
) -> Result<Json<SubsystemView>, Problem> {
    Ok(Json(service.allow_host(&parse(&nqn)?, parse(&host)?).await?))
}

/// Remove an entry of the allow list; hosts that only it admitted are disconnected
#[utoipa::path(
    delete, path = "/v1/subsystems/{nqn}/hosts/{host}", tag = "subsystems", operation_id = "deny_host",
    params(("nqn" = String, Path), ("host" = String, Path), Denial),
    responses(
        (status = 200, body = SubsystemView), (status = 404, body = Problem),
        (status = 422, description = "It is the last entry, and admit_all is not set", body = Problem)
    )
)]
pub(super) async fn deny_host(
    State(service): State<Service>,
    Path((nqn, host)): Path<(String, String)>,
    denial: Result<Query<Denial>, QueryRejection>,
) -> Result<Json<SubsystemView>, Problem> {
    let Query(Denial { admit_all }) = denial.map_err(wrong_query)?;
    Ok(Json(service.deny_host(&parse(&nqn)?, parse(&host)?, admit_all).await?))
}

/// Put a subsystem into an ANA state as reached by a listener
#[utoipa::path(
    put, path = "/v1/subsystems/{nqn}/ana/{listener}", tag = "subsystems", operation_id = "set_ana_state",
    params(("nqn" = String, Path), ("listener" = u16, Path, description = "Tag of the listener")), request_body = NewAnaState,
    responses((status = 200, body = SubsystemView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn set_ana_state(
    State(service): State<Service>,
    Path((nqn, listener)): Path<(String, String)>,
    Body(new): Body<NewAnaState>,
) -> Result<Json<SubsystemView>, Problem> {
    let nqn: Nqn = parse(&nqn)?;
    service.set_ana_state(parse_number(&listener)?, Some(&nqn), new.state).await?;
    Ok(Json(service.subsystem(&nqn)?))
}

/// Put every subsystem into an ANA state as reached by a listener
#[utoipa::path(
    put, path = "/v1/listeners/{listener}/ana", tag = "subsystems", operation_id = "set_listener_ana_state",
    params(("listener" = u16, Path, description = "Tag of the listener")), request_body = NewAnaState,
    responses((status = 200, body = [SubsystemView]), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn set_listener_ana_state(
    State(service): State<Service>,
    Path(listener): Path<String>,
    Body(new): Body<NewAnaState>,
) -> Result<Json<Vec<SubsystemView>>, Problem> {
    Ok(Json(service.set_ana_state(parse_number(&listener)?, None, new.state).await?))
}
