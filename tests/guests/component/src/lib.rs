// SPDX-License-Identifier: Apache-2.0
//! An HTTP handler that does as it is told by the path: what comes after "?" is the argument.
use std::io::{Read, Write};
use std::time::Duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};

struct Handler;
wasip2::http::proxy::export!(Handler);

fn body_of(request: &IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else { return bytes };
    if let Ok(mut stream) = body.stream() {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

/// GET http://AUTHORITY/PATH: status and body.
fn fetch(url: &str) -> Result<String, String> {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Get).map_err(|()| "method")?;
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "path")?;
    let future = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    future.subscribe().block();
    let response = future.get().ok_or("no answer")?.map_err(|()| "asked twice")?;
    let response = response.map_err(|code| format!("{code:?}"))?;
    let body: IncomingBody = response.consume().map_err(|()| "no body")?;
    let mut text = String::new();
    let mut stream = body.stream().map_err(|()| "no stream")?;
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(format!("{} {text}", response.status()))
}

/// What a TCP server says first.
fn hear(address: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::net::TcpStream::connect(address)?.read_to_string(&mut text)?;
    Ok(text)
}

fn told<T: ToString, E: std::fmt::Display>(result: Result<T, E>) -> (u16, Vec<u8>) {
    match result {
        Ok(value) => (200, value.to_string().into_bytes()),
        Err(error) => (500, error.to_string().into_bytes()),
    }
}

fn lines<T: AsRef<str>>(values: impl Iterator<Item = T>) -> (u16, Vec<u8>) {
    (200, values.map(|value| format!("{}\n", value.as_ref())).collect::<String>().into_bytes())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn answer(request: &IncomingRequest) -> (u16, Vec<u8>) {
    let target = request.path_with_query().unwrap_or_default();
    let (path, argument) = target.split_once('?').unwrap_or((&target, ""));
    match path {
        "/hello" | "/" => (200, b"hello from a component\n".to_vec()),
        "/args" => lines(std::env::args()),
        "/env" => lines(std::env::vars().map(|(name, value)| format!("{name}={value}"))),
        "/read" => told(std::fs::read_to_string(argument)),
        "/write" => told(std::fs::write(argument, body_of(request)).map(|()| "written\n")),
        "/echo" => (200, body_of(request)),
        "/err" => {
            eprintln!("{argument}");
            println!("out {argument}");
            (200, Vec::new())
        }
        "/sleep" => {
            std::thread::sleep(Duration::from_millis(number(argument)));
            (200, b"slept\n".to_vec())
        }
        "/spin" => {
            let mut n = 0u64;
            loop {
                n = std::hint::black_box(n.wrapping_add(1));
            }
        }
        "/trap" => panic!("told to trap"),
        "/fetch" => told(fetch(argument)),
        "/tcp" => told(hear(argument)),
        "/resolve" => told(std::net::ToSocketAddrs::to_socket_addrs(argument).map(|found| {
            found.map(|address| format!("{address}\n")).collect::<String>()
        })),
        "/zeros" => (200, vec![b'0'; number(argument) as usize]),
        "/alloc" => {
            let bytes = vec![1u8; number(argument) as usize];
            (200, format!("{}\n", std::hint::black_box(&bytes).len()).into_bytes())
        }
        "/exit" => std::process::exit(3),
        _ => (404, Vec::new()),
    }
}

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, bytes) = answer(&request);
        let response = OutgoingResponse::new(Fields::new());
        let _ = response.set_status_code(status);
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        if let Ok(mut stream) = body.write() {
            let _ = stream.write_all(&bytes).and_then(|()| Write::flush(&mut stream));
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
