//! Request parts, refused with a problem document that names the field.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::Problem;
use crate::model::ModelError;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // A browser can send JSON to another site only after asking that site, and this one says no.
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
            let detail = "the body must be JSON: send it with the header \"content-type: application/json\"";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error: BytesRejection| {
            Problem::new(error.status(), "unreadable-body", error.body_text())
        })?;
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let inner = error.inner();
            let (status, code) = match inner.classify() {
                serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-value"),
                _ => (StatusCode::BAD_REQUEST, "not-json"),
            };
            let path = error.path().to_string();
            let detail = if path == "." { inner.to_string() } else { format!("{path}: {inner}") };
            Problem::new(status, code, detail)
        })?;
        let ended = deserializer.end();
        ended.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "not-json", error.to_string()))?;
        Ok(Self(value))
    }
}

/// A part of the path.
pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", error.to_string())
    })
}

/// A part of the path that is a small number with bounds of its own.
pub(super) fn parse_number<T: TryFrom<u64, Error = ModelError>>(text: &str) -> Result<T, Problem> {
    let wrong = |error: ModelError| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", error.to_string())
    };
    T::try_from(parse::<u64>(text)?).map_err(wrong)
}

/// A query that cannot be read.
pub(super) fn wrong_query(error: QueryRejection) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", error.body_text())
}
