//! `check-config`: what the configuration says, or what is wrong with it.

use super::{Context, Failure, output};
use crate::server;
use std::process::ExitCode;

pub(super) fn run(context: &Context) -> Result<ExitCode, Failure> {
    let (config, layout) = (&context.config, context.layout()?);
    let url = server::public_url(&config.server, None);
    if context.json {
        let repositories = config.repository.iter().map(|repository| {
            serde_json::json!({
                "name": repository.name,
                "upstream": repository.upstream.get_ref().to_string(),
                "refresh": repository.refresh.to_string(),
            })
        });
        output::json(&serde_json::json!({
            "ok": true,
            "config": context.file,
            "store": layout.root(),
            "url": url,
            "repositories": repositories.collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let file =
        context.file.as_ref().map_or("defaults".to_owned(), |file| file.display().to_string());
    anstream::println!("{}{file}{:#}: no mistake found", output::GOOD, output::GOOD);
    anstream::println!("  store       {}", layout.root().display());
    anstream::println!("  clients at  {url}");
    for repository in &config.repository {
        anstream::println!(
            "  repository  {} from {}, asked every {}",
            repository.name,
            repository.upstream.get_ref(),
            repository.refresh
        );
    }
    Ok(ExitCode::SUCCESS)
}
