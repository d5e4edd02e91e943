//! nginx, as an administrator would run it.

use crate::deadline::within;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running nginx; it ends with this.
#[derive(Debug)]
pub struct Nginx {
    master: Child,
    address: SocketAddr,
}

impl Nginx {
    /// The program, where it is installed. Debian puts it where only root's `PATH` leads.
    pub fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin")])
            .map(|directory| directory.join("nginx"))
            .find(|program| program.is_file())
    }

    /// Runs a `server { … }` with its files in `directory`; it listens where it says `ADDRESS`.
    pub fn start(program: &Path, directory: &Path, server: &str) -> Self {
        let address = free_address();
        let config = directory.join("nginx.conf");
        let text = CONFIG.replace("SERVER", server).replace("ADDRESS", &address.to_string());
        std::fs::write(&config, text).expect("a file can be written");
        let master = Command::new(program)
            .arg("-p")
            .arg(directory)
            .arg("-c")
            .arg(&config)
            .args(["-e", "error.log"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx can be run");
        let mut nginx = Self { master, address };
        within(START, "nginx", || {
            let ended = nginx.master.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "nginx ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        nginx
    }

    /// The master's process id.
    pub fn pid(&self) -> i32 {
        self.master.id().try_into().expect("a pid fits")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would orphan the workers, which only the master ends.
        let _told = Command::new("kill").arg(self.master.id().to_string()).status();
        let _ended = self.master.wait();
    }
}

/// An address of this machine that nothing listens on now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .expect("this machine has a free port")
}

/// Two workers, sendfile, open files cached; requests are not logged.
const CONFIG: &str = "
daemon off;
user root;
worker_processes 2;
pid nginx.pid;
error_log error.log;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  open_file_cache max=100 inactive=10m;
  open_file_cache_valid 10m;
  SERVER
}
";
const START: Duration = Duration::from_secs(60);
