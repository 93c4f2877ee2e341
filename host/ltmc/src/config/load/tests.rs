//! Where configuration comes from, and what is said of what is wrong with it.

use super::super::*;
use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ltmc.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn message(error: &anyhow::Error) -> String {
    let problem = error.downcast_ref::<Problem>().expect("a problem");
    format!("{} {}", problem.message, problem.help.clone().unwrap_or_default())
}

#[test]
fn a_word_that_is_no_level_is_refused() {
    let with = |level: &str| {
        let flags = vec![("log.level", "--level", level.to_owned())];
        Loaded::new(&Sources { flags, ..Sources::default() })
    };
    for level in ["loud", "inf", "verbose", "", "info,loud", "=info", "ltmc_sandbox=loud", "info,", "a[b]=info"] {
        let error = with(level).unwrap_err();
        assert!(error.to_string().starts_with("log.level: `"), "{level}: {error}");
    }
    for level in ["info", "WARN", "off", "info,ltmc_sandbox=debug", "warn, ltmc_api::serve=trace"] {
        let filter = with(level).unwrap().config.log.level.parse::<tracing_subscriber::filter::Targets>();
        assert!(filter.is_ok(), "{level}");
    }
}

#[test]
fn every_field_is_a_known_key_and_every_known_key_a_field() {
    let defaults = Layer::of("default", &Config::default());
    let mut found = leaves(&defaults.dict, "");
    let mut known: Vec<String> = KEYS.iter().map(|(k, _)| (*k).to_owned()).collect();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

/// The table of docs/run-a-host.md between its two marks.
#[test]
fn every_key_stands_in_the_page_for_operators() {
    let loaded = Loaded::new(&Sources::default()).unwrap();
    let row = |(key, about): &(&str, &str)| {
        let value = loaded.figment.find_value(key).map(|value| shown(&value)).unwrap_or_default();
        format!("| `{key}` | `{}` | {about} |\n", value.trim_matches('"'))
    };
    let table: String = KEYS.iter().map(row).collect();
    let wanted = format!(
        "<!-- keys: begin -->\n| key | default | what it means |\n| --- | --- | --- |\n{table}<!-- keys: end -->"
    );
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run-a-host.md");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains(&wanted), "docs/run-a-host.md should have this:\n{wanted}");
}

/// What the image and compose.yaml set is taken: the host would refuse to start otherwise.
#[test]
fn every_variable_of_the_container_is_a_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut environment = Vec::new();
    for file in ["Dockerfile", "compose.yaml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let in_lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        let in_words = text.split_whitespace().filter_map(|word| word.split_once('='));
        let ours = in_lines.chain(in_words).filter(|(name, _)| name.starts_with("LTMC_"));
        environment.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    assert_eq!(environment.len(), 6, "{environment:?}");
    Loaded::new(&Sources { environment, ..Sources::default() }).unwrap();
}

#[test]
fn later_layers_win_and_are_named() {
    let (_dir, path) = file("listen = \"127.0.0.1:1\"\n[sandbox]\nslots = 7\ncache = \"1MiB\"\n");
    let loaded = Loaded::new(&Sources {
        file: Some(path.clone()),
        environment: vec![
            ("LTMC_SANDBOX_SLOTS".into(), "9".into()),
            ("LTMC_SHUTDOWN_DEADLINE".into(), "1m 30s".into()),
            ("LTMC_KEY".into(), "not the host's".into()),
        ],
        flags: vec![("listen", "--listen", "127.0.0.1:2".into())],
    })
    .unwrap();
    assert_eq!(loaded.config.listen.port(), 2);
    assert_eq!(loaded.config.sandbox.slots, 9);
    assert_eq!(loaded.config.sandbox.cache, ByteSize::mib(1));
    assert_eq!(loaded.config.shutdown_deadline.0, Duration::from_secs(90));
    assert_eq!(loaded.origin("listen"), "--listen");
    assert_eq!(loaded.origin("sandbox.slots"), "LTMC_SANDBOX_SLOTS");
    assert_eq!(loaded.origin("sandbox.cache"), path.display().to_string());
    assert_eq!(loaded.origin("limits.body"), "default");
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let environment = vec![("LTMC_LOG_LEVEL".to_owned(), "debug".to_owned())];
    let loaded = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap();
    let printed = loaded.print();
    assert!(printed.contains("# LTMC_LOG_LEVEL"), "{printed}");
    assert_eq!(toml::from_str::<Config>(&printed).unwrap(), loaded.config, "{printed}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (text, expected) in [
        ("[sandbox]\nslot = 1\n", "ltmc.toml:2: unknown key `sandbox.slot` did you mean `sandbox.slots`?"),
        ("slots = 1\n", "ltmc.toml:1: unknown key `slots` did you mean `sandbox.slots`?"),
        ("[sandbx]\nslots = 1\n", "ltmc.toml:1: unknown key `sandbx`"),
        ("quux = 1\n", "known are data, listen"),
    ] {
        let (_dir, path) = file(text);
        let error = Loaded::new(&Sources { file: Some(path), ..Sources::default() }).unwrap_err();
        assert!(message(&error).contains(expected), "{text}: {}", message(&error));
    }
    let environment = vec![("LTMC_LISTN".to_owned(), "x".to_owned())];
    let error = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap_err();
    assert!(message(&error).contains("did you mean `LTMC_LISTEN`?"), "{}", message(&error));
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    for (name, value, expected) in [
        ("LTMC_SANDBOX_SLOTS", "many", "LTMC_SANDBOX_SLOTS: `sandbox.slots` has a wrong value"),
        ("LTMC_SHUTDOWN_DEADLINE", "soon", "`soon` is not a duration"),
        ("LTMC_SHUTDOWN_DEADLINE", "5", "`5` is not a duration"),
        ("LTMC_LISTEN", "here", "LTMC_LISTEN: `listen` has a wrong value"),
        ("LTMC_LOG_FORMAT", "xml", "LTMC_LOG_FORMAT: `log.format`"),
        ("LTMC_RECORD_KIND", "oracle", "LTMC_RECORD_KIND: `record.kind` has a wrong value"),
        ("LTMC_RECORD_KIND", "oracle", "record.kind is which store is the record: sqlite"),
        ("LTMC_SANDBOX_SLOTS", "0", "at least 1"),
        ("LTMC_LIMITS_BODY", "8 potatoes", "LTMC_LIMITS_BODY: `limits.body`"),
    ] {
        let environment = vec![(name.to_owned(), value.to_owned())];
        let error = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap_err();
        assert!(message(&error).contains(expected), "{name}={value}: {}", message(&error));
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let sources = Sources { file: Some("no-such/ltmc.toml".into()), ..Sources::default() };
    assert!(message(&Loaded::new(&sources).unwrap_err()).contains("cannot be read"));
}
