// SPDX-License-Identifier: Apache-2.0
//! A command of WASI 0.2 that does as its first argument says.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

fn say(error: impl std::fmt::Display, what: &str) -> i32 {
    eprintln!("{what}: {error}");
    1
}

fn told(result: std::io::Result<String>, what: &str) -> i32 {
    match result {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(error) => say(error, what),
    }
}

fn connect(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"from the guest\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// An HTTP client: the body of http://ADDRESS/PATH.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// Answers one client with what it said.
fn serve(address: &str) -> std::io::Result<String> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    let mut bytes = [0; 64];
    let n = stream.read(&mut bytes)?;
    stream.write_all(&bytes[..n])?;
    Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
}

fn datagram(address: &str) -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"ping", address)?;
    let mut bytes = [0; 64];
    let (n, _) = socket.recv_from(&mut bytes)?;
    Ok(format!("{}\n", String::from_utf8_lossy(&bytes[..n])))
}

fn resolve(name: &str) -> std::io::Result<String> {
    Ok((name, 80).to_socket_addrs()?.map(|found| format!("{}\n", found.ip())).collect())
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.iter().map(|name| format!("{name}\n")).collect())
}

#[inline(never)]
fn inner_function(divisor: i32) -> i32 {
    std::hint::black_box(1000) / std::hint::black_box(divisor)
}

fn run(words: &[String]) -> i32 {
    let word = |i: usize| words.get(i).map_or("", String::as_str);
    match word(1) {
        "echo" => {
            println!("{}", words[2..].join(" "));
            0
        }
        "args" => {
            words.iter().for_each(|one| println!("{one}"));
            0
        }
        "env" => {
            std::env::vars().for_each(|(name, value)| println!("{name}={value}"));
            0
        }
        "cat" => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            let copied = read.and_then(|_| std::io::stdout().write_all(&bytes));
            copied.map_or_else(|error| say(error, "cat"), |()| 0)
        }
        "exit" => exit(word(2).parse().unwrap_or(9)),
        "std-exit" => word(2).parse().unwrap_or(9),
        "fail" => 1,
        "ls" => told(list(word(2)), word(2)),
        "read" => told(std::fs::read_to_string(word(2)), word(2)),
        "write" => told(std::fs::write(word(2), word(3)).map(|()| String::new()), word(2)),
        "cwd" => told(std::env::current_dir().map(|path| format!("{}\n", path.display())), "cwd"),
        "connect" => told(connect(word(2)), word(2)),
        "serve" => told(serve(word(2)), word(2)),
        "udp" => told(datagram(word(2)), word(2)),
        "resolve" => told(resolve(word(2)), word(2)),
        "trap" => inner_function(0),
        "abort" => std::process::abort(),
        "spin" => {
            let mut n = 0u64;
            println!("spinning");
            loop {
                n = std::hint::black_box(n.wrapping_add(1));
            }
        }
        "daemon" => {
            for n in 1.. {
                println!("tick {n}");
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            0
        }
        "get" => told(get(word(2), word(3)), word(2)),
        "sleep" => {
            println!("sleeping");
            std::thread::sleep(std::time::Duration::from_secs(word(2).parse().unwrap_or(1)));
            0
        }
        "hog" => {
            let mut kept = Vec::new();
            loop {
                let mut block = Vec::<u8>::new();
                if block.try_reserve_exact(1 << 20).is_err() {
                    println!("refused after {} MiB", kept.len());
                    return 0;
                }
                block.resize(1 << 20, 1);
                kept.push(block);
            }
        }
        other => say("unknown", other),
    }
}

/// With the code; std's own exit knows ok and failed only, as WASI did before 0.2.12.
fn exit(code: u8) -> i32 {
    let _ = std::io::stdout().flush();
    wasip2::cli::exit::exit_with_code(code);
    9
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let code = run(&words);
    let _ = std::io::stdout().flush();
    std::process::exit(code);
}
