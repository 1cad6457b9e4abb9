//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::monitor::Monitor;

/// Answers for as long as it is polled.
///
/// # Errors
///
/// Where the listener ends.
pub async fn serve(listener: TcpListener, monitor: Arc<Monitor>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(monitor);
    axum::serve(listener, routes).await
}

async fn healthy(State(monitor): State<Arc<Monitor>>) -> impl IntoResponse {
    if monitor.is_healthy() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "a watch has ended")
    }
}

async fn ready(State(monitor): State<Arc<Monitor>>) -> impl IntoResponse {
    if monitor.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server was not heard yet",
        )
    }
}

async fn metrics(State(monitor): State<Arc<Monitor>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], monitor.text())
}
