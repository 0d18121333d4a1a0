//! Named steps of a write, at which the crash tests kill the process. Outside the tests nothing happens at them.

/// Every step: of a write, of a compaction, of a snapshot, of a migration.
#[cfg(test)]
pub(super) const STEPS: [&str; 10] = [
    "applied",
    "flushed",
    "indexed",
    "purged",
    "copied",
    "switched",
    "snapshot written",
    "snapshot renamed",
    "migrated",
    "migration complete",
];

#[cfg(not(test))]
pub(super) fn step(_name: &'static str) {}

/// Tells the parent that the step is reached, and waits there to be killed.
#[cfg(test)]
pub(super) fn step(name: &'static str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let Ok(wanted) = std::env::var("FACEMATCH_CRASH_AT") else { return };
    let Some((wanted, times)) = wanted.rsplit_once(' ') else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) >= times.parse().expect("a number") {
        println!("\nreached");
        loop {
            std::thread::park();
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::{BufRead, BufReader, Lines, Write};
    use std::path::Path;
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::SystemTime;

    use super::STEPS;
    use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
    use crate::biometrics::template::Template;
    use crate::error::Error;
    use crate::gallery::{
        EmbeddedGalleries, EnrolledTemplate, Enrollment, GallerySettings, Identity, IdentityChange, IfExists,
        MigrationPlan, Scope, Search, SearchPolicy, Synthetic,
    };

    const DIMENSION: usize = 64;
    const ROUNDS: u64 = 200;
    const WRITERS: u64 = 4;
    const IDENTITIES_EACH: u64 = 6;

    /// An identity's templates by number; `None`: not enrolled.
    type State = Option<BTreeSet<u64>>;

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 20) % limit
        }
    }

    fn gallery() -> GalleryId {
        GalleryId::parse("g").expect("an id")
    }

    fn doomed() -> GalleryId {
        GalleryId::parse("doomed").expect("an id")
    }

    fn identity(number: u64) -> IdentityId {
        IdentityId::parse(&format!("p{number}")).expect("an id")
    }

    fn template_id(number: u64) -> TemplateId {
        TemplateId::parse(&number.to_string()).expect("an id")
    }

    /// The pack of new galleries, and the one that they move to and back from.
    fn packs() -> [PackId; 2] {
        ["0a", "0b"].map(|digits| PackId::from_digits(digits.repeat(16)))
    }

    /// The pack of a gallery now.
    fn pack_of(galleries: &EmbeddedGalleries, id: &GalleryId) -> PackId {
        galleries.gallery(id).map_or_else(|_| packs()[0].clone(), |(gallery, _)| gallery.pack_id)
    }

    /// Every template of every identity is a direction of its own, so that a search tells which ones are there.
    fn template(identity: u64, number: u64, pack_id: PackId) -> Template {
        let vector = Synthetic::new(9, DIMENSION).template(identity * 1_000 + number, 0);
        Template::from_vector(&vector, pack_id).expect("a template")
    }

    fn enrollment(identity_number: u64, numbers: &[u64], pack_id: &PackId) -> Enrollment {
        let enrolled = numbers.iter().map(|number| EnrolledTemplate {
            id: template_id(*number),
            template: template(identity_number, *number, pack_id.clone()),
            face: None,
            chip: Some(b"a chip".as_slice().into()),
            created: SystemTime::now(),
        });
        Enrollment {
            identity: identity(identity_number),
            change: IdentityChange::default(),
            templates: enrolled.collect(),
            if_exists: IfExists::Add,
            check_defaults: Default::default(),
            may_refuse_all: false,
            identities_max: None,
        }
    }

    async fn create(galleries: &EmbeddedGalleries, id: GalleryId, search_policy: SearchPolicy) {
        let settings = GallerySettings { search_policy, ..Default::default() };
        galleries.create_gallery(id, settings, packs()[0].clone(), DIMENSION).await.expect("create a gallery");
    }

    /// What the store says of an identity.
    fn stored(galleries: &EmbeddedGalleries, number: u64) -> State {
        let found = galleries.identity(&gallery(), &identity(number)).ok()?;
        Some(found.templates.iter().map(|enrolled| enrolled.id.as_str().parse().expect("a number")).collect())
    }

    fn text(state: &State) -> String {
        match state {
            None => "-".to_owned(),
            Some(numbers) => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
        }
    }

    fn parse(text: &str) -> State {
        (text != "-").then(|| text.split(',').map(|number| number.parse().expect("a number")).collect())
    }

    /// The child: writes without end, and says before each write what it will make of an identity, and after its reply that
    /// it was acknowledged. Does nothing unless a parent started it.
    #[test]
    fn writer_that_is_killed() {
        let Ok(folder) = std::env::var("FACEMATCH_CRASH_FOLDER") else { return };
        let seed: u64 = std::env::var("FACEMATCH_CRASH_SEED").expect("a seed").parse().expect("a number");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
        runtime.block_on(async move {
            let galleries = std::sync::Arc::new(EmbeddedGalleries::open(Path::new(&folder)).expect("open"));
            println!("\nready");
            let mut tasks = tokio::task::JoinSet::new();
            for writer in 0..WRITERS {
                tasks.spawn(write_without_end(std::sync::Arc::clone(&galleries), writer, seed));
            }
            tasks.spawn(make_and_delete_a_gallery(std::sync::Arc::clone(&galleries)));
            let moving = std::sync::Arc::clone(&galleries);
            tasks.spawn_blocking(move || move_without_end(&moving));
            tasks.spawn_blocking(move || compact_and_take_snapshots(&galleries));
            while let Some(task) = tasks.join_next().await {
                if let Err(error) = task {
                    // Left to the runtime, the end would wait for the tasks that have none.
                    eprintln!("{error}");
                    std::process::exit(1);
                }
            }
        });
    }

    async fn write_without_end(galleries: std::sync::Arc<EmbeddedGalleries>, writer: u64, seed: u64) {
        let mut random = Random((seed + writer * 7_919 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        loop {
            let number = writer * IDENTITIES_EACH + random.below(IDENTITIES_EACH);
            let before = stored(&galleries, number);
            let mut after = before.clone().unwrap_or_default();
            let pick = random.below(40);
            match random.below(4) {
                0 if before.is_some() => {
                    say(&format!("begin {number} -"));
                    galleries.delete_identity(gallery(), identity(number)).await.expect("delete");
                }
                1 if after.len() > 1 => {
                    let gone = *after.iter().nth(pick as usize % after.len()).expect("one of them");
                    after.remove(&gone);
                    say(&format!("begin {number} {}", text(&Some(after))));
                    let deleted = galleries.delete_template(gallery(), identity(number), template_id(gone));
                    deleted.await.expect("delete a template");
                }
                _ => {
                    let added = [pick, pick + 1 + random.below(3)];
                    after.extend(added);
                    say(&format!("begin {number} {}", text(&Some(after))));
                    enroll_by_the_pack_of_now(&galleries, number, &added).await;
                }
            }
            say(&format!("done {number}"));
        }
    }

    /// What is just then made for the pack of before is made again.
    async fn enroll_by_the_pack_of_now(galleries: &EmbeddedGalleries, number: u64, added: &[u64]) {
        loop {
            let enrollment = enrollment(number, added, &pack_of(galleries, &gallery()));
            match galleries.enroll(gallery(), enrollment).await {
                Err(Error::PackMismatch { .. }) => {}
                enrolled => return drop(enrolled.expect("enrol")),
            }
        }
    }

    /// Moves the gallery from pack to pack: a template is stamped anew and has the same values.
    fn move_without_end(galleries: &EmbeddedGalleries) {
        loop {
            let pack_id = packs().into_iter().find(|pack| *pack != pack_of(galleries, &gallery())).expect("the other");
            let stamp = pack_id.clone();
            let embed = std::sync::Arc::new(move |mut identities: Vec<Identity>| {
                for enrolled in identities.iter_mut().flat_map(|identity| &mut identity.templates) {
                    enrolled.template = Template::from_unit_vector(enrolled.template.values(), stamp.clone())?;
                }
                Ok(identities)
            });
            let plan = MigrationPlan { pack_id, dimension: DIMENSION, loss_max: 1.0, is_trial: false };
            galleries.migrate(&gallery(), plan, embed, |_| Ok(())).expect("a move");
        }
    }

    /// A gallery that comes and goes, so that kills fall into its removal.
    async fn make_and_delete_a_gallery(galleries: std::sync::Arc<EmbeddedGalleries>) {
        loop {
            if galleries.gallery(&doomed()).is_err() {
                create(&galleries, doomed(), SearchPolicy::Graph).await;
            }
            for number in 0..5 {
                galleries.enroll(doomed(), enrollment(number, &[1], &packs()[0])).await.expect("enrol");
            }
            say("begin doomed");
            galleries.delete_gallery(doomed(), true).await.expect("delete a gallery");
            say("done doomed");
        }
    }

    fn compact_and_take_snapshots(galleries: &EmbeddedGalleries) {
        for round in 0u64.. {
            for (id, shared) in galleries.indexes.all() {
                match galleries.keeper.snapshots.take(&id, &shared) {
                    Ok(()) | Err(Error::NotFound(_)) => {}
                    Err(error) => panic!("a snapshot: {error}"),
                }
            }
            if round % 4 == 3 {
                galleries.compact(|_| Ok(())).expect("compact");
            }
        }
    }

    fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
        out.flush().expect("the parent reads");
    }

    struct Writing {
        child: Child,
        lines: Lines<BufReader<ChildStdout>>,
    }

    fn start(folder: &Path, seed: u64, crash_at: Option<&str>) -> Writing {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "gallery::embedded::crash::tests::writer_that_is_killed", "--nocapture"]);
        command.env("FACEMATCH_CRASH_FOLDER", folder).env("FACEMATCH_CRASH_SEED", seed.to_string());
        if let Some(step) = crash_at {
            command.env("FACEMATCH_CRASH_AT", step);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Writing { child, lines }
    }

    /// What was acknowledged of each identity, and what was on its way when the child died.
    #[derive(Default)]
    struct Promised {
        acknowledged: BTreeMap<u64, State>,
        begun: BTreeMap<u64, State>,
        doomed_is_gone: Option<bool>,
    }

    impl Promised {
        fn note(&mut self, line: &str) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["begin", "doomed"] => self.doomed_is_gone = None,
                ["done", "doomed"] => self.doomed_is_gone = Some(true),
                ["begin", number, state] => drop(self.begun.insert(number.parse().expect("a number"), parse(state))),
                ["done", number] => {
                    let number = number.parse().expect("a number");
                    let state = self.begun.remove(&number).expect("it was begun");
                    self.acknowledged.insert(number, state);
                }
                _ => {}
            }
        }

        /// Opens the store again and holds it against what was promised.
        fn check(&mut self, folder: &Path, context: &str) {
            let galleries = EmbeddedGalleries::open(folder).unwrap_or_else(|error| panic!("{context}: {error}"));
            for number in 0..WRITERS * IDENTITIES_EACH {
                let found = stored(&galleries, number);
                let acknowledged = self.acknowledged.get(&number).cloned().unwrap_or_default();
                let possible = [Some(acknowledged), self.begun.get(&number).cloned()];
                assert!(
                    possible.iter().flatten().any(|state| *state == found),
                    "{context}: identity {number} is {found:?}, promised was {possible:?}"
                );
                search_agrees(&galleries, number, &found, context);
                self.acknowledged.insert(number, found);
            }
            self.begun.clear();
            let (_, status) = galleries.gallery(&gallery()).expect("the gallery");
            let templates: usize = self.acknowledged.values().flatten().map(BTreeSet::len).sum();
            let counts = status.counts;
            assert_eq!((counts.templates, counts.damaged_identities), (templates as u64, 0), "{context}");
            galleries.close();
        }
    }

    /// The index has exactly the templates that the store has.
    fn search_agrees(galleries: &EmbeddedGalleries, number: u64, state: &State, context: &str) {
        let there = state.clone().unwrap_or_default();
        for tried in 0..44 {
            let probe = template(number, tried, pack_of(galleries, &gallery()));
            let search = Search { probe, capacity: 1, exact: false, scope: Scope::default() };
            let best = galleries.search(&gallery(), search).expect("search").ranked.into_iter().next();
            let is_found = best.is_some_and(|best| best.score.cosine() > 0.99 && best.identity == identity(number));
            assert_eq!(is_found, there.contains(&tried), "{context}: template {tried} of identity {number}");
        }
    }

    /// Reads what the child says until it is to be killed, kills it, and reads what it said before that.
    fn kill(mut writing: Writing, promised: &mut Promised, lines_before: Option<u64>) {
        let mut read = 0;
        while let Some(Ok(line)) = writing.lines.next() {
            promised.note(&line);
            read += 1;
            if line == "reached" || lines_before.is_some_and(|lines| read >= lines) {
                break;
            }
        }
        writing.child.kill().expect("kill the child"); // SIGKILL
        let ended = writing.child.wait().expect("the child ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "it ended by itself: {ended}");
        // A last line that was cut off is of something that was not said.
        let rest: Vec<String> = writing.lines.map_while(Result::ok).collect();
        rest.iter().for_each(|line| promised.note(line));
    }

    /// A folder with the gallery that is written to.
    fn prepared_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("tokio");
        runtime.block_on(create(&galleries, gallery(), SearchPolicy::Exact));
        galleries.close();
        folder
    }

    #[test]
    fn killed_at_every_step_keeps_every_promise() {
        let folder = prepared_folder();
        let mut promised = Promised::default();
        for (round, step) in STEPS.iter().cycle().take(STEPS.len() * 5).enumerate() {
            let passes = round / STEPS.len() * 2 + round % 3;
            let context = format!("step {step:?}, round {round}");
            let writing = start(folder.path(), round as u64, Some(&format!("{step} {passes}")));
            kill(writing, &mut promised, None);
            promised.check(folder.path(), &context);
        }
    }

    #[test]
    fn killed_at_random_times_keeps_every_promise() {
        let first_seed = std::env::var("FACEMATCH_SEED").map_or_else(
            |_| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_nanos() as u64,
            |seed| seed.parse().expect("FACEMATCH_SEED is a number"),
        );
        println!("FACEMATCH_SEED={first_seed} runs these rounds again");
        let folder = prepared_folder();
        let mut promised = Promised::default();
        let mut random = Random(first_seed | 1);
        for round in 0..ROUNDS {
            let seed = first_seed.wrapping_add(round) >> 8;
            let lines = 5 + random.below(300);
            kill(start(folder.path(), seed, None), &mut promised, Some(lines));
            promised.check(folder.path(), &format!("FACEMATCH_SEED={first_seed}, round {round}"));
        }
        assert!(promised.acknowledged.values().flatten().count() > 0, "something was written");
    }
}
