//! The named baseline: nginx, two workers, serving files of the very sizes over mutual TLS 1.3 with the world's own
//! certificates, driven by the same load generator in the same run. Skipped loudly where there is none.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::BenchError;
use super::load::{Figures, Load};
use crate::connect::{Http, Party};
use crate::dev::World;

/// Ends nginx with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Why asked and not killed: the one that dies at once leaves its workers behind.
        let asked = rustix::process::Pid::from_child(&self.0);
        if rustix::process::kill_process(asked, rustix::process::Signal::TERM).is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

pub(super) async fn beside(
    world: &World,
    load: Load,
    (single, many): (&Figures, &Figures),
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    if Command::new("nginx")
        .arg("-v")
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        said(
            "nginx",
            &json!("SKIPPED: there is no nginx here (Debian: apt-get install nginx-light)"),
        );
        return Ok(());
    }
    let dir = world.dir().join("nginx");
    std::fs::create_dir_all(dir.join("html"))?;
    std::fs::write(dir.join("html/one"), vec![b'x'; single.bytes()])?;
    std::fs::write(dir.join("html/many"), vec![b'x'; many.bytes()])?;
    let port = free_port()?;
    std::fs::write(dir.join("nginx.conf"), config(world.dir(), &dir, port))?;
    let child = Command::new("nginx")
        .args(["-p", &dir.display().to_string(), "-c", "nginx.conf"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let running = Running(child);
    let hospital = world.party("hospital-a")?;
    let own = world.dir().join("clients/hospital-a");
    let url = format!("https://127.0.0.1:{port}");
    let http = Http::new(
        &url,
        &world.dir().join("ca.pem"),
        &own.join("cert.pem"),
        &own.join("key.pem"),
    )?;
    let party = Arc::new(Party { http, ..hospital });
    for _ in 0..100 {
        if party.read("/one", "").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (what, path, ours) in [
        ("nginx, one", "/one", single),
        ("nginx, many", "/many", many),
    ] {
        let figures = load
            .for_seconds(&party, vec![(path.to_owned(), String::new())])
            .await;
        let ratio = (ours.per_second / figures.per_second * 1000.0).round() / 1000.0;
        let mut value = figures.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("ours_to_nginx".to_owned(), json!(ratio));
        }
        said(what, &value);
    }
    drop(running);
    Ok(())
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

fn config(world: &Path, dir: &Path, port: u16) -> String {
    let (world, dir) = (world.display(), dir.display());
    format!(
        "user root; worker_processes 2; daemon off; master_process on; pid {dir}/pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 10000000;\n\
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;\n\
         scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl; root {dir}/html; ssl_protocols TLSv1.3;\n\
         ssl_certificate {world}/server/cert.pem; ssl_certificate_key {world}/server/key.pem;\n\
         ssl_client_certificate {world}/ca.pem; ssl_verify_client on; }} }}\n"
    )
}
