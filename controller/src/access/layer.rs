//! The one place that every request passes on its way to a service.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use taf_peer::serve::Peer;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Gate;

/// Puts [`Access`] before the services.
#[derive(Debug, Clone)]
pub struct AccessLayer(Arc<Gate>);

impl AccessLayer {
    /// With a gate.
    pub fn new(gate: Arc<Gate>) -> Self {
        Self(gate)
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access {
            gate: self.0.clone(),
            inner,
        }
    }
}

/// Lets through who may, with a [`super::Caller`] in the extensions, and answers everybody else.
#[derive(Debug, Clone)]
pub struct Access<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Access<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let gate = self.gate.clone();
        // The clone takes the place of the one that was polled ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().cloned();
            let path = request.uri().path().to_owned();
            // Not across an await with the body: bodies need not be Sync.
            let headers = std::mem::take(request.headers_mut());
            match gate.admit(&path, peer.as_ref(), &headers).await {
                Ok(caller) => {
                    *request.headers_mut() = headers;
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(status) => {
                    tracing::debug!(path, code = ?status.code(), "refused: {}", status.message());
                    Ok(status.into_http())
                }
            }
        })
    }
}
