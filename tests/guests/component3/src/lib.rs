// SPDX-License-Identifier: Apache-2.0
//! A command of WASI 0.3.
wasip3::cli::command::export!(Command);

struct Command;

async fn say(text: String) {
    let (mut sender, receiver) = wasip3::wit_stream::new();
    futures::join!(
        async { wasip3::cli::stdout::write_via_stream(receiver).await.expect("stdout") },
        async {
            let rest = sender.write_all(text.into_bytes()).await;
            assert!(rest.is_empty());
            drop(sender);
        }
    );
}

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let words = wasip3::cli::environment::get_arguments();
        match words.get(1).map(String::as_str) {
            Some("fail") => Err(()),
            Some("trap") => std::process::abort(),
            _ => {
                say(format!("{}\n", words.join(" "))).await;
                Ok(())
            }
        }
    }
}
