//! Large messages flow both ways through accept loop and channel.
#![allow(clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role};
use taf_peer::serve::{Limits, serve};
use taf_peer::tls::{ClientAuth, Expect, Trust, client_config, server_config};
use taf_peer::{DATA_MESSAGE_LIMIT, channel};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::StreamingService;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);

/// Sends each message back.
struct Echo;

impl StreamingService<Bytes> for Echo {
    type Response = Bytes;
    type ResponseStream = Streaming<Bytes>;
    type Future = futures::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        futures::future::ready(Ok(tonic::Response::new(request.into_inner())))
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<tonic::body::Body>, Infallible> {
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<Bytes, Bytes>::default())
        .max_decoding_message_size(DATA_MESSAGE_LIMIT);
    Ok(grpc.streaming(Echo, request).await)
}

#[tokio::test]
async fn megabyte_messages_stream_both_ways() {
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let issue = |role, id: &str| {
        let identity = Identity::new(authority.installation(), role, id).unwrap();
        authority.issue(&identity, DAY).unwrap()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let tls = server_config(&issue(Role::TapeAgent, "tape1"), ClientAuth::Required).unwrap();
    let service = tower::service_fn(echo);
    tokio::spawn(serve(listener, tls, service, Limits::default(), shutdown));

    let own = issue(Role::SourceAgent, "files");
    let trust = Trust::Authority(authority.certificate().clone());
    let expect = Expect::tape_agent(authority.installation(), "tape1");
    let tls = client_config(trust, Some(&own), expect).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel::connect(&address, tls).await.unwrap())
        .max_decoding_message_size(DATA_MESSAGE_LIMIT);
    grpc.ready().await.unwrap();
    let message = |n: u8| Bytes::from(vec![n; 1024 * 1024]);
    let outgoing = futures::stream::iter((0..100).map(message));
    let path = http::uri::PathAndQuery::from_static("/echo/Echo");
    let codec = ProstCodec::<Bytes, Bytes>::default();
    let request = tonic::Request::new(outgoing);
    let mut incoming = grpc
        .streaming(request, path.clone(), codec)
        .await
        .unwrap()
        .into_inner();
    for n in 0..100 {
        let echoed = incoming.next().await.unwrap().unwrap();
        assert!(echoed == message(n), "message {n} differs");
    }
    assert!(incoming.next().await.is_none());

    // One byte over the limit is refused before it is held.
    grpc.ready().await.unwrap();
    let huge = Bytes::from(vec![0; DATA_MESSAGE_LIMIT + 1]);
    let request = tonic::Request::new(futures::stream::iter([huge]));
    let codec = ProstCodec::<Bytes, Bytes>::default();
    let answer = grpc.streaming(request, path, codec).await;
    let status = match answer {
        Ok(answer) => answer.into_inner().next().await.unwrap().unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
}
