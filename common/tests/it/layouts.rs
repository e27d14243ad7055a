//! Portable Ruby, flat names, and other taps.

use std::io::Write as _;
use std::sync::Arc;

use common::publication::Set;
use common::receipt::What;
use common::registry::Upstream;
use testbed::{Fault, FormulaSpec, Spec, TapRoot, TapSpec, Times};

use crate::fixture::{Fixture, settings};

const RUBY: &str = "portable-ruby";

fn with_ruby(unlisted: bool) -> Spec {
    let tool =
        FormulaSpec::new("tool", "1.0").with_bottle("x86_64_linux", 2_000).with_bottle("sonoma", 2_001);
    let ruby = FormulaSpec { unlisted, ..FormulaSpec::portable_ruby("4.0.1") };
    Spec { seed: 12, formulae: vec![tool, ruby], ..Spec::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portable_ruby_comes_from_the_catalogue_where_it_is_listed() {
    let mut fixture = Fixture::new(with_ruby(false)).await;
    fixture.selection = "formulae=['tool']\ntags=['x86_64_linux']\nportable_ruby=['x86_64_linux','catalina']"
        .parse()
        .unwrap();
    let (plan, ..) = fixture.sync().await;
    assert_eq!(plan.unmatched, Vec::<String>::new());
    for (tag, is_wanted) in [("x86_64_linux", true), ("catalina", true), ("arm64_linux", false)] {
        let key = fixture.key_of(RUBY, tag);
        assert_eq!(fixture.object(key.as_str()).await.is_some(), is_wanted, "{tag}");
    }
    // A client on a newer macOS takes it too.
    fixture.selection = "formulae=['tool']\ntags=['sonoma']\nportable_ruby=['catalina']".parse().unwrap();
    fixture.sync().await;
    let run = fixture.manifest().await.publication.newest().unwrap().clone();
    let set = Set::load(&*fixture.store, &run).await.unwrap().unwrap();
    let key = fixture.key_of(RUBY, "catalina");
    let needed = set.needs.iter().flat_map(|need| &need.bottles);
    let ruby = needed.clone().find(|bottle| Some(bottle.digest) == key.blob_digest()).unwrap();
    assert_eq!(ruby.clients, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_the_catalogue_lists_is_one_message() {
    let mut fixture = Fixture::new(with_ruby(false)).await;
    let [linux, mac] =
        ["x86_64_linux", "catalina"].map(|tag| fixture.key_of(RUBY, tag).blob_digest().unwrap());
    for named in ["formulae=['tool']", "formulae=['tool','portable-ruby']"] {
        let selection = format!(
            "{named}\ntags=['x86_64_linux']\nportable_ruby=['x86_64_linux','catalina']\n\
             [portable_ruby_pins]\nx86_64_linux='{linux}'\ncatalina='{mac}'"
        );
        fixture.selection = selection.parse().unwrap();
        let (plan, done, _) = fixture.sync().await;
        assert_eq!(plan.unmatched, Vec::<String>::new());
        assert_eq!((plan.total().bottles, done.fetched.bottles), (3, 3), "{named}");
        fixture = Fixture::new(with_ruby(false)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portable_ruby_that_is_not_listed_is_pinned_and_waited_for() {
    let mut fixture = Fixture::new(with_ruby(true)).await;
    let pinned = fixture.testbed.unlisted().into_iter().find(|bottle| bottle.tag == "x86_64_linux").unwrap();
    let selection = |pin: &str| {
        format!(
            "formulae=['tool']\ntags=['x86_64_linux']\nportable_ruby=['x86_64_linux','arm64_linux']\n{pin}"
        )
    };
    fixture.selection = selection("").parse().unwrap();
    let (plan, ..) = fixture.sync().await;
    assert_eq!(plan.unmatched.len(), 2, "{:?}", plan.unmatched);
    assert!(plan.unmatched[0].contains("portable_ruby_pins"));

    let pins = format!("[portable_ruby_pins]\nx86_64_linux = '{}'", pinned.digest);
    fixture.selection = selection(&pins).parse().unwrap();
    let pattern = format!("cdn:*{}", pinned.digest);
    fixture.testbed.faults().set(&pattern, Fault::Corrupt, Times::Always);
    let (plan, ..) = fixture.sync().await;
    assert_eq!(plan.total().bottles, 1);
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.waiting[0].dead, 1);
    fixture.testbed.faults().clear();
    fixture.desk().go_through(common::dead_letter::Deed::Replay, |_| true).await.unwrap();
    fixture.drain().await;
    assert_eq!(fixture.settle().await.publication.waiting, []);
    assert!(fixture.object(&pinned.key).await == fixture.testbed.content(&pinned.digest));
    // Nothing is left to do, and it is no reason to retire anything.
    assert_eq!(fixture.plan().await.total().bottles, 0);
    assert!(
        fixture.manifest().await.images[&format!("v2/homebrew/core/{RUBY}").parse().unwrap()]
            .bottles
            .values()
            .all(|record| record.dropped_at.is_none())
    );
}

/// Names that need escaping, a revision and a rebuild, and a tag for all.
fn named() -> Spec {
    let formulae = vec![
        FormulaSpec::new("foo@1.2", "3.4").with_revision(1).with_bottle("x86_64_linux", 2_000),
        FormulaSpec::new("bar++", "2.3").with_rebuild(2).with_bottle("all", 2_001),
    ];
    Spec { seed: 5, formulae, ..Spec::default() }
}

const FLAT: [(&str, &str, &str); 2] = [
    ("foo@1.2", "x86_64_linux", "foo@1.2-3.4_1.x86_64_linux.bottle.tar.gz"),
    ("bar++", "all", "bar++-2.3.all.bottle.2.tar.gz"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flat_names_are_copies_made_before_anything_is_published() {
    let mut fixture = Fixture::new(named()).await;
    fixture.sync().await;
    fixture.testbed.log().clear();
    fixture.selection = "layout = 'flat'".parse().unwrap();
    fixture.plan().await;
    assert_eq!(fixture.drain().await.fetched.bottles, 0);
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.waiting, []);
    assert!(settled.copied >= 2 * FLAT.len(), "{}", settled.copied);
    for (formula, tag, flat) in FLAT {
        let bottle = fixture.testbed.content(&fixture.digest_of(formula, tag));
        assert!(fixture.object(flat).await == bottle, "{flat}");
    }
    for (formula, index) in [("foo@1.2", "foo/1.2/manifests/3.4_1"), ("bar++", "barxx/manifests/2.3-2")] {
        assert!(fixture.object(index).await.unwrap() == fixture.testbed.index_bytes(formula), "{index}");
    }
    assert_eq!(fixture.testbed.log().count("registry:*/blobs/*"), 0, "downloaded a second time");
    // They are made once.
    let before = fixture.store.list("foo@", None, 5).await.unwrap();
    assert_eq!(fixture.settle().await.copied, 0);
    assert_eq!(fixture.store.list("foo@", None, 5).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_follows_what_upstream_publishes_under_it() {
    let mut fixture = Fixture::new(named()).await;
    fixture.selection = "layout = 'flat'".parse().unwrap();
    fixture.sync().await;
    let mut other = named();
    other.formulae[0].bottles[0].content += 1;
    fixture.testbed.replace(other);
    fixture.sync().await;
    let (formula, tag, flat) = FLAT[0];
    assert!(fixture.object(flat).await == fixture.testbed.content(&fixture.digest_of(formula, tag)));
    assert!(fixture.object("foo/1.2/manifests/3.4_1").await.unwrap() == fixture.testbed.index_bytes(formula));
}

/// The same name for other bytes, while an older set waits for another client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_is_what_the_newest_published_file_says() {
    const FLAT: &str = "tool-1.0.x86_64_linux.bottle.tar.gz";
    let spec = |content: u64, other: &str| {
        let tool = FormulaSpec::new("tool", "1.0").with_content("x86_64_linux", 2_000, content);
        let other = FormulaSpec::new("other", other).with_bottle("x86_64_linux", 2_001);
        let mac = FormulaSpec::new("mac", "1.0").with_bottle("sonoma", 2_002);
        Spec { seed: 5, formulae: vec![tool, other, mac], ..Spec::default() }
    };
    let mut fixture = Fixture::new(spec(1, "1.0")).await;
    fixture.selection = "layout = 'flat'\ntags = ['x86_64_linux', 'sonoma']".parse().unwrap();
    let dead = fixture.digest_of("mac", "sonoma");
    let gone = Fault::Status { code: 404, retry_after: None };
    fixture.testbed.faults().set(&format!("registry:*{dead}"), gone.clone(), Times::Always);
    fixture.sync().await;
    let first = fixture.testbed.content(&fixture.digest_of("tool", "x86_64_linux"));
    assert!(first.is_some() && fixture.object(FLAT).await == first);

    // The new bytes are held, and those who read of them can't be told yet.
    fixture.testbed.replace(spec(2, "2.0"));
    let second = fixture.testbed.content(&fixture.digest_of("tool", "x86_64_linux"));
    let late = fixture.digest_of("other", "x86_64_linux");
    fixture.testbed.faults().set(&format!("registry:*{late}"), gone, Times::Always);
    fixture.sync().await;
    assert!(fixture.object(FLAT).await == first, "taken from those who are told of the first");
    fixture.order(What::PublishDespiteDead { clients: vec!["x86_64_linux".parse().unwrap()] }).await;
    for _ in 0..3 {
        fixture.settle().await;
        assert!(fixture.object(FLAT).await == second, "given back to what an older set says");
    }
    let path = "internal/packages.x86_64_linux.jws.json";
    assert!(fixture.api(path).await == fixture.upstream_api(path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_layout_there_are_no_flat_names() {
    let fixture = Fixture::new(named()).await;
    fixture.sync().await;
    for (.., flat) in FLAT {
        assert!(fixture.object(flat).await.is_none());
    }
    assert!(fixture.object("foo/1.2/manifests/3.4_1").await.is_none());
}

pub(crate) fn with_taps() -> Spec {
    let formula = |name: &str| FormulaSpec::new(name, "1.0").with_bottle("x86_64_linux", 2_000);
    let registry = TapSpec::new("example/tools", TapRoot::Registry)
        .with_formula(formula("hammer").with_dependencies(&["tool"]))
        .with_formula(formula("saw@2"));
    let files = TapSpec::new("example/files", TapRoot::Files)
        .with_formula(FormulaSpec::new("file++", "2.0").with_rebuild(1).with_bottle("x86_64_linux", 30_000));
    Spec {
        seed: 8,
        formulae: vec![formula("tool"), formula("unrelated")],
        taps: vec![registry, files],
        ..Spec::default()
    }
}

pub(crate) fn taps(testbed: &testbed::Upstream, more: &str) -> String {
    let tap = |name: &str| {
        format!("[[taps]]\nname = '{name}'\ncatalogue = '{}'\n", testbed.tap_catalogue_url(name))
    };
    format!("{more}\n{}{}", tap("example/tools"), tap("example/files"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_taps_are_mirrored_from_their_own_roots() {
    let mut fixture = Fixture::new(with_taps()).await;
    let more = "formulae = ['example/*/*']\ntags = ['x86_64_linux']";
    fixture.selection = taps(&fixture.testbed, more).parse().unwrap();
    let (plan, _, settled) = fixture.sync().await;
    assert_eq!((plan.problems.len(), plan.missing.len()), (0, 0), "{:?} {:?}", plan.problems, plan.missing);
    // With what they need of homebrew/core, and no more.
    assert!(fixture.object(fixture.key_of("tool", "x86_64_linux").as_str()).await.is_some());
    assert!(fixture.object(fixture.key_of("unrelated", "x86_64_linux").as_str()).await.is_none());
    for bottle in fixture.testbed.expected_in("example/tools") {
        let image = bottle.image.unwrap();
        let key = format!("{image}/blobs/sha256:{}", bottle.digest);
        assert!(fixture.object(&key).await == fixture.testbed.content(&bottle.digest), "{key}");
        let index = format!("{image}/manifests/{}", bottle.image_tag);
        assert!(fixture.object(&index).await.is_some(), "{index}");
    }
    let host = fixture.testbed.files_url().replace("http://", "").replace(':', "-");
    for bottle in fixture.testbed.expected_in("example/files") {
        let flat = format!("taps/{host}/example/files/{}", bottle.file);
        assert!(fixture.object(&flat).await == fixture.testbed.content(&bottle.digest), "{flat}");
    }
    assert!(
        fixture
            .testbed
            .log()
            .entries()
            .iter()
            .all(|entry| { entry.server != testbed::Server::Files || !entry.had_authorization })
    );
    assert_eq!(settled.publication.waiting, []);
    assert!(fixture.api("formula.jws.json").await == fixture.upstream_api("formula.jws.json"));

    // Nothing changed: each catalogue is asked for conditionally.
    fixture.testbed.log().clear();
    assert!(fixture.plan().await.unchanged);
    assert!(fixture.testbed.log().entries().iter().all(|entry| entry.status != 200));
    // One that did is planned.
    let mut next = with_taps();
    next.taps[1].formulae[0] = FormulaSpec::new("file++", "3.0").with_bottle("x86_64_linux", 30_000);
    fixture.testbed.replace(next);
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.unchanged, done.fetched.bottles), (false, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taps_catalogue_may_be_a_file() {
    let mut fixture = Fixture::new(with_taps()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("formula.json");
    std::fs::write(&file, fixture.testbed.tap_catalogue("example/tools")).unwrap();
    let text =
        format!("formulae = ['saw@2']\n[[taps]]\nname = 'example/tools'\ncatalogue = '{}'", file.display());
    fixture.selection = text.parse().unwrap();
    assert_eq!(fixture.sync().await.1.fetched.bottles, 1);
    assert!(fixture.plan().await.unchanged);
    // Or that file packed.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&fixture.testbed.tap_catalogue("example/tools")).unwrap();
    std::fs::write(&file, packed.finish().unwrap()).unwrap();
    let (plan, done, _) = fixture.sync().await;
    assert!(plan.is_whole() && done.fetched.bottles == 0 && plan.held == 1, "{plan:?}");
    std::fs::write(&file, "[").unwrap();
    for is_there in [true, false] {
        if !is_there {
            std::fs::remove_file(&file).unwrap();
        }
        let (plan, ..) = fixture.sync().await;
        assert_eq!(plan.unread_taps.len(), 1);
        let unread = &plan.unread_taps[0];
        assert!(unread.name == "example/tools" && unread.why.contains("formula.json"), "{unread:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_under_another_taps_name_is_not_read() {
    let mut fixture = Fixture::new(with_taps()).await;
    let url = fixture.testbed.tap_catalogue_url("example/tools");
    let selection = |name: &str| format!("[[taps]]\nname = '{name}'\ncatalogue = '{url}'");
    fixture.selection = selection("example/toolz").parse().unwrap();
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.unread_taps.len(), done.fetched.bottles), (1, 2));
    let why = &plan.unread_taps[0].why;
    assert!(why.contains("example/tools/hammer") && why.contains("example/toolz"), "{why}");
    fixture.selection = selection("Example/Tools").parse().unwrap();
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.unread_taps.len(), done.fetched.bottles), (0, 2));
}

/// Rule 4, for taps: one that can't be read harms only itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_that_can_not_be_read_holds_back_no_other() {
    let mut fixture = Fixture::new(with_taps()).await;
    fixture.selection = taps(&fixture.testbed, "").parse().unwrap();
    fixture.sync().await;
    let before = fixture.manifest().await;
    let path = fixture.testbed.tap_catalogue_url("example/tools");
    let path = format!("api:{}", url::Url::parse(&path).unwrap().path());
    fixture.testbed.faults().set(&path, Fault::Status { code: 404, retry_after: None }, Times::Always);
    // Nothing else is new: what is known of the tap stays, and so does all else.
    let (plan, ..) = fixture.sync().await;
    assert_eq!((plan.unchanged, plan.unread_taps.len()), (true, 1));
    assert_eq!(fixture.manifest().await.images, before.images);
    // Upstream's own is new, and mirrored and published; and again.
    for version in ["8.0", "9.0", "10.0"] {
        let mut next = with_taps();
        next.formulae.push(FormulaSpec::new("newer", version).with_bottle("x86_64_linux", 3_000));
        fixture.testbed.replace(next);
        let (plan, done, _) = fixture.sync().await;
        assert_eq!((plan.total().bottles, done.fetched.bottles, plan.unread_taps.len()), (1, 1, 1));
        assert_eq!(fixture.api("formula.jws.json").await, fixture.upstream_api("formula.jws.json"));
    }
    let manifest = fixture.manifest().await;
    for (path, image) in &before.images {
        for digest in image.bottles.keys() {
            let record = manifest.bottle(path, digest).unwrap();
            assert!(record.dropped_at.is_none(), "{path} is taken for dropped");
        }
    }
    fixture.testbed.faults().clear();
    let mut next = with_taps();
    next.taps[0].formulae[1] = FormulaSpec::new("saw@2", "11.0").with_bottle("x86_64_linux", 7_000);
    fixture.testbed.replace(next);
    let (plan, done, _) = fixture.sync().await;
    assert!(plan.is_whole() && done.fetched.bottles == 1, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_of_files_must_be_allowed() {
    let mut fixture = Fixture::new(with_taps()).await;
    fixture.selection = taps(&fixture.testbed, "").parse().unwrap();
    let mut strict = settings(&fixture.testbed);
    strict.routes = common::registry::Routes::new(
        &[format!("https://ghcr.io={}", fixture.testbed.registry_url()).parse().unwrap()],
        &[fixture.testbed.cdn_url().replace("http://", "").parse().unwrap()],
    )
    .with_origin_of(&fixture.testbed.api_url().parse().unwrap());
    fixture.upstream = Arc::new(Upstream::new(strict).unwrap());
    let (plan, ..) = fixture.sync().await;
    assert_eq!(plan.problems.len(), 1);
    assert!(plan.problems[0].why.contains("--allow-host"), "{:?}", plan.problems);
    // What names it all waits for it.
    assert!(fixture.api("formula.jws.json").await.is_none());
    fixture.order(What::PublishDespiteDead { clients: Vec::new() }).await;
    fixture.settle().await;
    assert!(fixture.api("formula.jws.json").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_that_is_no_longer_asked_for_is_not_retired() {
    let mut fixture = Fixture::new(with_taps()).await;
    fixture.selection = taps(&fixture.testbed, "").parse().unwrap();
    fixture.sync().await;
    for selection in ["exclude = ['none']", "exclude = ['nothing']", ""] {
        fixture.selection = selection.parse().unwrap();
        fixture.sync().await;
    }
    let manifest = fixture.manifest().await;
    let records = manifest.images.values().flat_map(|image| image.bottles.values());
    assert!(records.clone().count() > 4);
    assert!(records.clone().all(|record| record.dropped_at.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_that_can_not_be_given_holds_its_client_back() {
    let mut fixture = Fixture::new(named()).await;
    fixture.selection = "layout = 'flat'\ntags = ['x86_64_linux']".parse().unwrap();
    fixture.plan().await;
    fixture.drain().await;
    let (formula, tag, flat) = FLAT[0];
    let key = fixture.key_of(formula, tag);
    let bottle = fixture.object(key.as_str()).await.unwrap();
    fixture.remove(key.as_str()).await;
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.waiting[0].unnamed, 1);
    assert!(fixture.api("internal/packages.x86_64_linux.jws.json").await.is_none());
    fixture.store.put(&key, bottle.into(), common::store::Condition::Always).await.unwrap();
    assert_eq!(fixture.settle().await.publication.waiting, []);
    assert!(fixture.object(flat).await.is_some());
    assert!(fixture.api("internal/packages.x86_64_linux.jws.json").await.is_some());
}
