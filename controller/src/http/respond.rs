//! Problems as HTTP answers. A handler returns one; its body is written at the very end, when the request id is
//! known ([`super::frame`]).

use crate::error::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
