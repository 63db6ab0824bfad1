//! tonic's client of the matrix: matrix-client TARGET [--tls CA] CASE...  (grpc_rows.py says what each case is)

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// Messages are bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Said = Result<String, Status>;

fn path(method: &str) -> PathAndQuery {
    let full = if method.starts_with('/') { method.to_string() } else { format!("/weir.Matrix/{method}") };
    full.parse().unwrap()
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(30));
    request
}

async fn unary(client: &mut Grpc<Channel>, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    client.unary(request, path(method), Raw).await
}

/// A bidirectional call: where messages go, and where they come from.
async fn both(
    client: &Grpc<Channel>,
    method: &str,
    id: Option<&str>,
) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>, tokio::task::JoinHandle<Result<(), Status>>), Status> {
    let (sender, messages) = mpsc::channel(4);
    let mut call = request(ReceiverStream::new(messages));
    if let Some(id) = id {
        call.metadata_mut().insert("x-id", id.parse().unwrap());
    }
    let (arrived, receiver) = mpsc::channel(4);
    let mut client = client.clone();
    let path = path(method);
    // Headers may come only after the first message has gone.
    let reader = tokio::spawn(async move {
        client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut stream: Streaming<Bytes> = client.streaming(call, path, Raw).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if arrived.send(message).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    Ok((sender, receiver, reader))
}

fn block(number: usize, size: usize) -> Bytes {
    Bytes::from(vec![number as u8; size])
}

async fn play(case: &str, client: &mut Grpc<Channel>) -> Said {
    match case {
        "unary" => {
            let (mut echoed, mut servers) = (0, HashSet::new());
            for number in 0..30 {
                let response = unary(client, "Echo", request(block(number, 100))).await?;
                servers.insert(response.metadata().get("x-server").cloned());
                echoed += usize::from(*response.get_ref() == block(number, 100));
            }
            println!("# {} servers", servers.len());
            Ok(format!("{echoed} echoed"))
        }
        "down" => {
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let asked = request(Bytes::from_static(b"1000 1024"));
            let mut stream = client.server_streaming(asked, path("Down"), Raw).await?.into_inner();
            let (mut messages, mut bytes, mut sum) = (0, 0, Sha256::new());
            while let Some(message) = stream.message().await? {
                messages += 1;
                bytes += message.len();
                sum.update(&message);
            }
            Ok(format!("{messages} messages, {bytes} bytes, {}", &format!("{:x}", sum.finalize())[..16]))
        }
        "up" => {
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let messages = tokio_stream::iter(0..1000).map(|number| block(number, 1024));
            let response = client.client_streaming(request(messages), path("Up"), Raw).await?;
            Ok(String::from_utf8_lossy(response.get_ref()).into_owned())
        }
        "both" => {
            let (sender, mut receiver, reader) = both(client, "Both", None).await?;
            let mut echoed = 0;
            for number in 0..200 {
                sender.send(block(number, 50)).await.map_err(|_| Status::aborted("ended"))?;
                echoed += usize::from(receiver.recv().await == Some(block(number, 50)));
            }
            drop(sender);
            reader.await.unwrap()?;
            Ok(format!("{echoed} echoed"))
        }
        "large" => {
            let message = block(7, 50 << 20);
            let response = unary(client, "Echo", request(message.clone())).await?;
            Ok(format!("{} {}", response.get_ref().len(), if *response.get_ref() == message { "echoed" } else { "changed" }))
        }
        "metadata" => {
            let value: MetadataValue<_> = "m".repeat(8192).parse().unwrap();
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let mut call = request(tokio_stream::once(Bytes::from_static(b"x")));
            call.metadata_mut().insert("x-echo", value.clone());
            let response = client.streaming(call, path("Echo"), Raw).await?;
            let headers = response.metadata().get("x-echo").map_or(0, |v| v.len());
            let mut stream: Streaming<Bytes> = response.into_inner();
            while stream.message().await?.is_some() {}
            let trailers = stream.trailers().await?.and_then(|t| t.get("x-echo-trailer").map(|v| v.len())).unwrap_or(0);
            Ok(format!("{headers} in headers, {trailers} in trailers"))
        }
        "cancel" => {
            let id = format!("{}-{:?}", std::process::id(), std::time::SystemTime::now());
            let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
            let (sender, mut receiver, reader) = both(client, "Both", Some(&id)).await?;
            sender.send(block(1, 10)).await.map_err(|_| Status::aborted("ended"))?;
            let echoed = receiver.recv().await == Some(block(1, 10));
            // Only when both halves are gone the stream is reset.
            reader.abort();
            drop(sender);
            for _ in 0..100 {
                let heard = unary(client, "Cancelled", request(Bytes::from(id.clone()))).await?;
                if heard.get_ref().as_ref() == b"1" {
                    return Ok(format!("{}, the server heard", if echoed { "echoed" } else { "silent" }));
                }
                sleep(Duration::from_millis(30)).await;
            }
            Ok("the server did not hear".into())
        }
        "deadline" => {
            let mut codes = Vec::new();
            for _ in 0..20 {
                let mut call = Request::new(Bytes::new());
                call.set_timeout(Duration::from_millis(50));
                codes.push(ended(unary(client, "Sleep", call).await));
            }
            Ok(codes.join(" "))
        }
        "status" => Ok(match unary(client, "Fail", request(Bytes::new())).await {
            Ok(_) => "0".into(),
            Err(status) => format!("{} {}", status.code() as i32, status.message()),
        }),
        "unimplemented" => Ok(ended(unary(client, "Nothing", request(Bytes::new())).await)),
        "compressed" => {
            let mut gzip = client.clone().send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
            let response = unary(&mut gzip, "Echo", request(block(1, 100_000))).await?;
            let encoding = response.metadata().get("x-encoding").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
            Ok(format!("{} echoed, {encoding}", response.get_ref().len()))
        }
        "health" => {
            let response = unary(client, "/grpc.health.v1.Health/Check", request(Bytes::new())).await?;
            Ok(hex(response.get_ref()))
        }
        "reflection" => {
            let (sender, mut receiver, reader) = both(client, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None).await?;
            sender.send(Bytes::from_static(b":\0")).await.map_err(|_| Status::aborted("ended"))?;
            let response = receiver.recv().await.unwrap_or_default();
            drop(sender);
            reader.await.unwrap()?;
            Ok(hex(&Sha256::digest(&response)))
        }
        "keepalive" => {
            let (sender, mut receiver, reader) = both(client, "Both", None).await?;
            for pause in [17, 0] {
                sender.send(block(1, 10)).await.map_err(|_| Status::aborted("ended"))?;
                if receiver.recv().await != Some(block(1, 10)) {
                    return Ok("dead".into());
                }
                sleep(Duration::from_secs(pause)).await;
            }
            drop(sender);
            reader.await.unwrap()?;
            Ok("alive".into())
        }
        "pinged" => {
            let mut connections = HashMap::new();
            for pause in [8, 0] {
                for _ in 0..30 {
                    let response = unary(client, "Echo", request(block(1, 10))).await?;
                    let [server, connection] = ["x-server", "x-connection"].map(|key| response.metadata().get(key).cloned());
                    if *connections.entry(server).or_insert_with(|| connection.clone()) != connection {
                        return Ok("another connection".into());
                    }
                }
                sleep(Duration::from_secs(pause)).await;
            }
            Ok("alive".into())
        }
        _ => Ok("no such case".into()),
    }
}

fn ended(result: Result<Response<Bytes>, Status>) -> String {
    match result {
        Ok(_) => "0".into(),
        Err(status) => (status.code() as i32).to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = arguments.remove(0);
    let tls = arguments.first().is_some_and(|a| a == "--tls");
    let mut endpoint = Endpoint::from_shared(format!("{}://{target}", if tls { "https" } else { "http" })).unwrap();
    endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(3)).keep_alive_timeout(Duration::from_secs(5)).keep_alive_while_idle(true);
    if tls {
        let authority = Certificate::from_pem(std::fs::read(&arguments[1]).unwrap());
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority)).unwrap();
        arguments.drain(..2);
    }
    let channel = endpoint.connect_lazy();
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
    for case in arguments {
        match play(&case, &mut client).await {
            Ok(said) => println!("{case}: {said}"),
            Err(status) => println!("{case}: failed with {} {}", status.code() as i32, status.message()),
        }
    }
}
