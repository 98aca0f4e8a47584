//! From the command line to the end of the process.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use failover::{Settings, Variable};
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook_mio::v1_0::Signals;
use tracing::{error, info, warn};

use super::event_loop::{EventLoop, Stopper};
use super::files::{self, When};
use super::listeners::{Listeners, Places};
use super::log;
use super::options::{self, Files, NAME, Options};
use super::shared::{self, Configuration, Identity, Shared};

/// File descriptors other than those of clients: listeners, polls, logs.
const OTHER_DESCRIPTORS: u64 = 64;

/// The stack size. The parser's syntax tree can be as deep as a statement is long.
const STACK: usize = 16 * 1024 * 1024;

/// The program: reads the command line, serves until SIGTERM, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let options = match Options::read(&arguments, When::Starting) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if options.prints_version() {
        let _ = writeln!(io::stdout(), "{NAME} {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    log::start(options.log_level());
    match serve(&arguments, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &[OsString], options: Options) -> Result<(), String> {
    // First of all: a signal during startup ends the program immediately, whatever it is waiting for. During shutdown, a
    // second signal does.
    let failed = |error: io::Error| format!("signals: {error}");
    let at_once = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 0, Arc::clone(&at_once)).map_err(failed)?;
    }
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let settings = options.settings()?;
    let networks = options.proxy_networks()?;
    let mut configuration = options.configuration()?;
    let files = Files::read(&options, &hostname)?;
    if options.validates_config() {
        if let Some(warning) = shared::nobody_waits(&settings, files.accounts()) {
            warn!("{warning}");
        }
        let _ = writeln!(io::stdout(), "{NAME}: configuration is valid: {}", summary(&settings));
        return Ok(());
    }
    allow_descriptors(&mut configuration)?;
    let listeners = Listeners::open(&options.places())?;
    refuse_strangers(&options, &listeners)?;
    let (port, extra_port) = listeners.ports();
    let Places { back_log, bind_addresses, .. } = options.places();
    let bind_address = bind_addresses.join(",");
    let identity = Identity { hostname, port, extra_port, socket: listeners.socket_path(), bind_address, back_log };
    let shared = Arc::new(Shared::new(settings, files.complete(configuration), identity));
    shared.set_proxy_networks(networks, "the options");

    let mut loops = Loops::start(&listeners, &shared)?;
    at_once.store(false, Ordering::SeqCst);
    for caution in shared.cautions(Variable::ALL) {
        warn!("{caution}");
    }
    // For the user or script that has started this; everything else goes to the log.
    let _ = writeln!(io::stdout(), "{NAME}: ready, listening on {listeners}");
    info!("listening on {listeners}; {}", summary(&shared.settings()));
    notify(&[NotifyState::Ready, NotifyState::Status(&summary(&shared.settings()))]);

    let watch = Watch { arguments, options, files, shared: Arc::clone(&shared) };
    watch.until_stopped(signals, &loops)?;
    at_once.store(true, Ordering::SeqCst);
    notify(&[NotifyState::Stopping]);
    // No client is accepted any more once every thread has dropped its listeners.
    drop(listeners);
    info!("stopping; {} connections open", shared.counters.open());
    loops.stop()?;
    info!("stopped after {} redirects", shared.counters.redirects());
    Ok(())
}

/// Raises the limit of file descriptors to what `max_connections` needs, or lowers `max_connections` to the limit.
fn allow_descriptors(configuration: &mut Configuration) -> Result<(), String> {
    let connections = configuration.max_connections;
    let others = OTHER_DESCRIPTORS + u64::from(configuration.extra_max_connections);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("RLIMIT_NOFILE: {error}"))?;
    let wanted = u64::from(connections) + others;
    if soft >= wanted {
        return Ok(());
    }
    let limit = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).map_err(|error| format!("RLIMIT_NOFILE: {error}"))?;
    if limit < wanted {
        let possible = u32::try_from(limit.saturating_sub(others)).unwrap_or(connections).max(1);
        warn!("--max-connections reduced from {connections} to {possible}: the system allows only {hard} open files");
        configuration.max_connections = possible;
    }
    Ok(())
}

/// Accepting any login is allowed only if just programs on this machine can connect.
fn refuse_strangers(options: &Options, listeners: &Listeners) -> Result<(), String> {
    if options.accepts_any_login() && !listeners.are_local() {
        return Err("--accept-any-login is allowed only on loopback addresses and Unix sockets; give \
                    --bind-address=127.0.0.1, or use --accounts-file instead"
            .to_owned());
    }
    Ok(())
}

fn summary(settings: &Settings) -> String {
    format!("mode {}, target '{}'", settings.value(Variable::Mode), settings.value(Variable::Target))
}

/// Notifies systemd, if it has started us.
fn notify(state: &[NotifyState<'_>]) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send_state(&socket, state)
    {
        warn!("cannot notify systemd: {error}");
    }
}

/// Like `sd_notify`, but it waits at most a second for a receiver that does not read, and supports abstract sockets.
fn send_state(socket: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let message = state.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(Duration::from_secs(1)))?;
    datagram.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The threads that serve clients.
struct Loops {
    threads: Vec<(JoinHandle<io::Result<()>>, Stopper)>,
}

impl Loops {
    fn start(listeners: &Listeners, shared: &Arc<Shared>) -> Result<Self, String> {
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let mut threads = Vec::new();
        for number in 0..cores {
            let started = EventLoop::new(listeners, Arc::clone(shared)).and_then(|(event_loop, stopper)| {
                let thread = thread::Builder::new().name(format!("clients-{number}")).stack_size(STACK);
                Ok((thread.spawn(|| event_loop.run())?, stopper))
            });
            threads.push(started.map_err(|error| format!("cannot start a client thread: {error}"))?);
        }
        Ok(Self { threads })
    }

    /// Whether one has ended unexpectedly.
    fn one_has_ended(&self) -> bool {
        self.threads.iter().any(|(thread, _)| thread.is_finished())
    }

    /// Stops all of them, and waits for the handshakes in progress, which have a deadline.
    fn stop(&mut self) -> Result<(), String> {
        for (_, stopper) in &self.threads {
            stopper.stop();
        }
        for (thread, _) in self.threads.drain(..) {
            match thread.join() {
                Ok(ended) => ended.map_err(|error| format!("a client thread failed: {error}"))?,
                Err(_) => return Err("a client thread panicked".to_owned()),
            }
        }
        Ok(())
    }
}

/// The main thread's work: signals, the end of HOLD, and what is logged from time to time.
struct Watch<'a> {
    arguments: &'a [OsString],
    options: Options,
    files: Files,
    shared: Arc<Shared>,
}

impl Watch<'_> {
    fn until_stopped(mut self, mut signals: Signals, loops: &Loops) -> Result<(), String> {
        let failed = |error: io::Error| format!("signals: {error}");
        let mut poll = Poll::new().map_err(failed)?;
        poll.registry().register(&mut signals, Token(0), Interest::READABLE).map_err(failed)?;
        self.shared.wake_on_change(Arc::new(Waker::new(poll.registry(), Token(1)).map_err(failed)?));
        let mut events = Events::with_capacity(8);
        let (mut summary, mut drain) = (Summary::new(), DrainLog::default());
        loop {
            let hold_left = self.shared.in_force().hold_left(Instant::now());
            let timeout = hold_left.unwrap_or(Duration::MAX).min(Duration::from_secs(1));
            match poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(failed(error)),
                _ => {}
            }
            for signal in signals.pending() {
                if signal != SIGHUP {
                    return Ok(());
                }
                self.reload();
            }
            if loops.one_has_ended() {
                return Err("a client thread ended unexpectedly; see the messages above".to_owned());
            }
            self.shared.end_hold(Instant::now());
            drain.log(&self.shared, Instant::now());
            summary.log(&self.shared);
        }
    }

    fn reload(&mut self) {
        let started = NotifyState::monotonic_usec_now();
        notify(&[NotifyState::Reloading, started.unwrap_or(NotifyState::Reloading)]);
        match self.try_reload() {
            Ok(()) => info!("reloaded; {}", summary(&self.shared.settings())),
            Err(why) => error!("reload failed, nothing was changed: {why}"),
        }
        notify(&[NotifyState::Ready, NotifyState::Status(&summary(&self.shared.settings()))]);
    }

    /// Reads everything first, and only then changes anything.
    fn try_reload(&mut self) -> Result<(), String> {
        let options = match self.options.defaults_file().filter(|file| files::is_read_once(file)) {
            None => Options::read(self.arguments, When::Reloading).map_err(|error| options::first_line(&error))?,
            Some(file) => {
                info!("{} is not a regular file: keeping what was read from it at startup", file.display());
                self.options.clone()
            }
        };
        let settings = options.settings()?;
        let networks = options.proxy_networks()?;
        let mut configuration = options.configuration()?;
        let files = self.files.read_again(&self.options, &options, &self.shared.identity.hostname)?;
        if options.places() != self.options.places() {
            warn!("changes of addresses, ports and the socket take effect after a restart");
        }
        if options.accepts_any_login() != self.options.accepts_any_login() {
            return Err("--accept-any-login cannot be changed by a reload; restart to change it".to_owned());
        }
        allow_descriptors(&mut configuration)?;
        // Values set by SET GLOBAL are kept, unless the file has changed them too.
        let before = self.options.settings()?;
        let mut changes: Vec<_> = Variable::ALL
            .into_iter()
            .map(|variable| (variable, settings.value(variable)))
            .filter(|(variable, value)| before.value(*variable) != *value)
            .collect();
        if !settings.mode().redirects() {
            // The target may be taken away too, but not while it is in use.
            changes.sort_by_key(|(variable, _)| *variable != Variable::Mode);
        }
        self.shared.set(&changes, "the options file", None).map_err(|error| error.to_string())?;
        if networks != self.options.proxy_networks()? {
            self.shared.set_proxy_networks(networks, "the options file");
        }
        self.shared.configure(files.complete(configuration));
        for caution in self.shared.cautions(changes.into_iter().map(|(variable, _)| variable)) {
            warn!("{caution}");
        }
        (self.options, self.files) = (options, files);
        Ok(())
    }
}

/// One line about the sessions that are left, from time to time while they are drained.
#[derive(Default)]
struct DrainLog {
    /// When the drain began, and when to log.
    next: Option<(Instant, Instant)>,
}

impl DrainLog {
    const EVERY: Duration = Duration::from_secs(10);

    fn log(&mut self, shared: &Shared, now: Instant) {
        let in_force = shared.in_force();
        let Some(drain) = in_force.drain else {
            self.next = None;
            return;
        };
        // Another drain counts from its own beginning.
        let known = self.next.filter(|(began, _)| *began == drain.began);
        let at = known.map_or(drain.began + Self::EVERY, |(_, at)| at);
        let is_due = now >= at;
        self.next = Some((drain.began, if is_due { now + Self::EVERY } else { at }));
        if !is_due {
            return;
        }
        if let Some(left) = shared.open_sessions.left(&in_force) {
            let seconds = now.saturating_duration_since(drain.began).as_secs();
            info!("draining for {seconds} s: {left}");
        }
    }
}

/// One line with the events since the last: every second under load, otherwise every minute with events.
struct Summary {
    last: [u64; 4],
    since: Instant,
}

impl Summary {
    /// In events per second: more than on an ordinary day.
    const UNDER_LOAD: u64 = 100;
    const LOADED: Duration = Duration::from_secs(1);
    const CALM: Duration = Duration::from_mins(1);

    fn new() -> Self {
        Self { last: [0; 4], since: Instant::now() }
    }

    fn log(&mut self, shared: &Shared) {
        let since = self.since.elapsed();
        if since < Self::LOADED {
            return;
        }
        let counters = &shared.counters;
        let now = [
            counters.redirects(),
            counters.logins.get(),
            counters.access_denied.get(),
            counters.broken_handshakes.get(),
        ];
        let mut new = [0; 4];
        for ((new, now), last) in new.iter_mut().zip(now).zip(self.last) {
            *new = now - last;
        }
        let events: u64 = new.iter().sum();
        let under_load = events / since.as_secs().max(1) >= Self::UNDER_LOAD;
        if events == 0 || (!under_load && since < Self::CALM) {
            return;
        }
        let [redirected, let_in, refused, broken] = new;
        let seconds = since.as_secs();
        info!(redirected, let_in, refused, broken, open = counters.open(), seconds, "summary");
        (self.last, self.since) = (now, Instant::now());
    }
}
