//! Who runs this, as far as the surroundings tell.

/// The name of the user, in the words of sudo, the environment or the system's list of users.
pub(super) fn name() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let id = rustix::process::getuid().as_raw();
    let listed = || {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        name_of(id, &users)
    };
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(variable)
        .or_else(listed)
        .unwrap_or_else(|| format!("uid {id}"))
}

/// The name of a user in a list as passwd(5) has it.
fn name_of(id: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed_by_number() {
        let users = "root:x:0:0:root:/root:/bin/bash\n\nkeep:x:990:990::/:/bin/false\n";
        assert_eq!(name_of(990, users).as_deref(), Some("keep"));
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(7, users), None);
    }
}
