//! Which of the configured repositories a command is about that reads its states elsewhere.

use super::{Context, Failure};

/// The one whose rules hold: what was asked for, or the only one there is.
pub(super) fn of_policy<'a>(
    context: &'a Context,
    asked: Option<&'a str>,
) -> Result<&'a str, Failure> {
    let names = names(context);
    match asked {
        Some(name) if names.contains(&name) || context.config.policy.names(name) => Ok(name),
        Some(name) => Err(unknown(name, &names)),
        None => Ok(if let [only] = names[..] { only } else { "default" }),
    }
}

/// The one that something is kept of: several leave no doubt which.
pub(super) fn of_store<'a>(
    context: &'a Context,
    asked: Option<&'a str>,
) -> Result<&'a str, Failure> {
    let names = names(context);
    match asked {
        Some(name) if names.contains(&name) => Ok(name),
        Some(name) => Err(unknown(name, &names)),
        None => match names[..] {
            [only] => Ok(only),
            _ => {
                let names = names.join(", ");
                Err(Failure::Usage(format!("say which repository with --repository: {names}")))
            }
        },
    }
}

fn names(context: &Context) -> Vec<&str> {
    context.config.repository.iter().map(|it| it.name.as_str()).collect()
}

fn unknown(name: &str, names: &[&str]) -> Failure {
    let names = names.join(", ");
    Failure::Usage(format!("no repository \"{name}\" is configured; these are: {names}"))
}
