//! What the operating system tells of this process, under the names that Prometheus' own clients use.

use super::metrics::Gauges;

/// Clock ticks a second in `/proc`: fixed for programs on Linux (`USER_HZ`, proc(5)).
const TICKS_A_SECOND: f64 = 100.0;

/// Sets the gauges of the process, where the system tells them.
pub fn add_process(gauges: &mut Gauges) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    if let Some(kilobytes) = field("VmRSS:") {
        gauges.set("process_resident_memory_bytes", &[], kilobytes * 1_024.0);
    }
    if let Some(threads) = field("Threads:") {
        gauges.set("process_threads", &[], threads);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauges.set("process_open_fds", &[], open.count() as f64);
    }
    // After the program's name, which may have spaces: fields 14 and 15 are the times, 22 the start (proc(5)).
    let stat = read("/proc/self/stat");
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    let seconds = |number: usize| fields.get(number - 4).map(|ticks| ticks / TICKS_A_SECOND);
    if let (Some(user), Some(system)) = (seconds(14), seconds(15)) {
        gauges.set("process_cpu_seconds", &[], user + system);
    }
    let booted = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(booted), Some(after)) = (booted, seconds(22)) {
        gauges.set("process_start_time_seconds", &[], booted + after);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn process_tells_plausible_values() {
        let mut gauges = Gauges::default();
        add_process(&mut gauges);
        let page = super::super::metrics::page(gauges).expect("a page");
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} is not in\n{page}"))
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_threads") >= 1.0 && value("process_open_fds") >= 3.0);
        assert!(value("process_cpu_seconds") < 1e5);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3_600.0);
    }
}
