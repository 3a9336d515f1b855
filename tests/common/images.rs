//! Images with ext4 on them, and a device under them whose power can be cut. Needs root, `/dev/fuse`, loop devices,
//! `mkfs.ext4` and Python; each missing one is named by [`missing`].

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests may panic, and no test uses every part"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What this machine lacks to run this, if anything.
pub(crate) fn missing() -> Option<&'static str> {
    let works = |program: &str, argument: &str| {
        let mut run = Command::new(program);
        run.arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        run.status().is_ok()
    };
    if !rustix::process::geteuid().is_root() {
        Some("it needs root, to mount")
    } else if !Path::new("/dev/fuse").exists() {
        Some("it needs /dev/fuse")
    } else if !Path::new("/dev/loop-control").exists() {
        Some("it needs loop devices")
    } else if !works("mkfs.ext4", "-V") {
        Some("it needs mkfs.ext4 (e2fsprogs)")
    } else if !works("python3", "--version") {
        Some("it needs python3")
    } else {
        None
    }
}

/// A folder in memory where there is one: the images are whole disks, and their own syncs are what counts.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("sallyport-test-")
        .tempdir_in(base)
        .unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An empty ext4 file system of so many bytes, in a sparse file.
pub(crate) fn format(image: &Path, bytes: u64) {
    std::fs::File::create(image)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    run("mkfs.ext4", &["-q", "-F", text(image)]);
}

/// An image in use; unmounted with the value.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn new(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-o", "loop", text(image), text(at)]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Why a few tries: whoever was killed may still be letting go of its files.
        for _ in 0..100 {
            let status = Command::new("umount")
                .arg(&self.0)
                .stderr(Stdio::null())
                .status();
            if status.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("{} stays mounted", self.0.display());
    }
}

/// The disk as it may be found after a cut.
pub(crate) const FOUND: [&str; 3] = ["all", "subset", "strict"];

/// A mounted image whose power can be cut.
pub(crate) struct Powered {
    file_system: Option<Mounted>,
    device: Child,
    says: BufReader<ChildStdout>,
    at: PathBuf,
    is_cut: bool,
}

impl Powered {
    /// Mounts this image at `folder/live`, through the device at `folder/device`.
    pub(crate) fn on(image: &Path, folder: &Path) -> Self {
        let (at, live) = (folder.join("device"), folder.join("live"));
        std::fs::create_dir_all(&at).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/device.py");
        let mut device = Command::new("python3")
            .arg(script)
            .args([&at, image])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(device.stdout.take().unwrap());
        let mut powered = Self {
            file_system: None,
            device,
            says,
            at,
            is_cut: false,
        };
        powered.hears("mounted");
        powered.file_system = Some(Mounted::new(&powered.at.join("disk"), &live));
        powered
    }

    /// The power goes: `folder` has then one image for each name in [`FOUND`]. Nothing moves until [`Powered::off`].
    pub(crate) fn cut(&mut self, folder: &Path, seed: u64) {
        std::fs::create_dir_all(folder).unwrap();
        self.tell(&format!("cut {} {seed}", text(folder)));
        self.hears("cut");
        self.is_cut = true;
    }

    /// After the cut, and with everybody killed who used it: lets them die, and takes it all away.
    pub(crate) fn off(mut self, wait: impl FnOnce()) {
        self.tell("dead");
        self.hears("dead");
        wait();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.device.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert!(line.starts_with(word), "the device said {line:?}");
    }
}

impl Drop for Powered {
    fn drop(&mut self) {
        drop(self.file_system.take());
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = self.device.wait();
    }
}
