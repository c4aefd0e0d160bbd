//! TLS with a certificate authority of one's own, as companies have it: `SSL_CERT_FILE` names it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::Sandbox;
use crate::world::KEY;

/// Prints its port, and answers every request with a finished job.
const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b'{"id":"job-1","status":"done","result":{"output":"over TLS"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
while True:
    try:
        server.handle_request()
    except OSError:
        pass
"#;

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// In this directory, which has its certificate.
    fn start(directory: &Path) -> Server {
        let mut process = Command::new("python3")
            .args(["-c", SERVER])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Server { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn openssl(directory: &Path, words: &str) {
    let output =
        Command::new("openssl").args(words.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, `ca.pem`, and a certificate of it for localhost, `server.pem`.
fn make_certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(directory, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=Company"));
    openssl(
        directory,
        &format!(
            "req -x509 {key} -keyout server.key -out server.pem -subj /CN=localhost \
             -CA ca.pem -CAkey ca.key -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE"
        ),
    );
}

#[test]
fn a_certificate_authority_of_ones_own_is_trusted_where_it_is_named() {
    let mut sandbox = Sandbox::new();
    let directory = sandbox.path().to_owned();
    make_certificates(&directory);
    let server = Server::start(&directory);
    sandbox.env("SECUTOOLS_API_KEY", KEY);
    sandbox.env("SECUTOOLS_URL", format!("https://localhost:{}", server.port));
    // Never used for this machine.
    sandbox.env("HTTPS_PROXY", "http://127.0.0.1:1");

    let output = sandbox.ccl(["job", "result", "job-1"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("certificate"), "{stderr}");

    sandbox.env("SSL_CERT_FILE", directory.join("ca.pem"));
    let output = sandbox.ccl(["job", "result", "job-1"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(output.stdout, b"over TLS\n");
}
