//! A network of its own, from which only this machine's end of one cable can be reached.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// A network namespace with a pair of virtual devices; it ends with this.
#[derive(Debug)]
pub struct Network {
    name: String,
    device: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes one; `None` where that is not allowed or iproute2 is missing.
    pub fn start() -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Other test processes have other addresses, as far as a byte goes.
        let third = (process % 64) as u8 * 4 + number % 4;
        let network = Self {
            name: format!("keep-{process}-{number}"),
            device: format!("k{process}-{number}"),
            address: Ipv4Addr::new(10, 231, third, 1),
        };
        let Self { name, device, address } = &network;
        let (peer, there) = (format!("p{process}-{number}"), Ipv4Addr::new(10, 231, third, 2));
        let commands = [
            format!("netns add {name}"),
            format!("link add {device} type veth peer name {peer} netns {name}"),
            format!("addr add {address}/30 dev {device}"),
            format!("link set {device} up"),
            format!("-n {name} addr add {there}/30 dev {peer}"),
            format!("-n {name} link set {peer} up"),
            format!("-n {name} link set lo up"),
        ];
        commands.iter().all(|command| ip(command)).then_some(network)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The only address that can be reached from there.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its end of the cable goes with the device here.
        let _gone = ip(&format!("link del {}", self.device));
        let _gone = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

static NEXT: AtomicU8 = AtomicU8::new(0);
