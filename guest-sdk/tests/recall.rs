//! Recall: notes kept, replaced, forgotten and searched.

use ltmc::Error;
use ltmc::recall::{self, Hits};
use ltmc::testing::Host;

fn host() -> Host {
    let host = Host::new().grant("recall:read").grant("recall:write");
    host.remember("retries", "How retries are bounded: by the number of attempts.", &[("file", "errors.md")]);
    host.remember("keys", "A key has at most 512 bytes.", &[("file", "memory.md"), ("part", "bounds")]);
    host.remember("empty", "Nothing of this kind.", &[]);
    host
}

fn ids(hits: &Hits) -> Vec<&str> {
    hits.hits.iter().map(|hit| hit.id.as_str()).collect()
}

#[test]
fn the_nearest_comes_first_however_far() {
    host().within(|| {
        let hits = recall::search("how are retries bounded?", 5).unwrap();
        assert_eq!(hits.hits.len(), 3);
        assert_eq!(ids(&hits)[0], "retries");
        assert!(hits.hits.is_sorted_by(|a, b| a.score >= b.score));
        assert_eq!(hits.hits[0].metadata["file"], "errors.md");
        assert!(hits.hits[0].text.starts_with("How retries"));
        let same = recall::search("a KEY has at most 512 bytes", 1).unwrap();
        assert_eq!(ids(&same), ["keys"]);
        assert!((same.hits[0].score - 1.0).abs() < 1e-6);
        assert!(!same.degraded);
        assert_eq!(same.into_iter().map(|hit| hit.id).collect::<Vec<_>>(), ["keys"]);
    });
}

#[test]
fn a_filter_wants_all_of_its_metadata() {
    host().within(|| {
        let found = |filter: &[(&str, &str)]| {
            recall::search_with("anything", 100, filter).unwrap().into_iter().map(|hit| hit.id).collect::<Vec<_>>()
        };
        assert_eq!(found(&[("file", "memory.md")]), ["keys"]);
        assert_eq!(found(&[("file", "memory.md"), ("part", "bounds")]), ["keys"]);
        assert!(found(&[("file", "errors.md"), ("part", "bounds")]).is_empty());
        assert!(found(&[("who", "ada")]).is_empty());
    });
}

#[test]
fn an_id_remembered_again_replaces_and_a_forgotten_one_is_gone() {
    let host = host();
    host.within(|| {
        let first = recall::remember("note", "about trees").unwrap();
        let second = recall::remember_with("note", "about rivers", &[("kind", "water")]).unwrap();
        assert!(second > first);
        assert_eq!(recall::search("rivers", 1).unwrap().hits[0].text, "about rivers");
        assert_eq!(recall::forget("note"), Ok(true));
        assert_eq!(recall::forget("note"), Ok(false));
        assert_ne!(recall::search("rivers", 1).unwrap().hits[0].id, "note");
        recall::remember("note", "about stones").unwrap();
    });
    assert_eq!(host.notes().len(), 4);
}

#[test]
fn everything_is_bounded() {
    host().within(|| {
        let invalid = |told: Result<u64, Error>| assert!(matches!(told, Err(Error::Invalid(_))), "{told:?}");
        for id in ["", "a\nb", &"i".repeat(513)] {
            invalid(recall::remember(id, "text"));
            invalid(recall::forget(id).map(u64::from));
        }
        invalid(recall::remember("id", " \n"));
        invalid(recall::remember("id", &"x".repeat((64 << 10) + 1)));
        assert!(recall::remember(&"i".repeat(512), &"x".repeat(64 << 10)).is_ok());
        let names: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let long = "m".repeat(513);
        for metadata in
            [&many[..], &[("", "v")], &[(&long, "v")], &[("n", &long)], &[("n", "a\nb")], &[("n", "1"), ("n", "2")]]
        {
            invalid(recall::remember_with("id", "text", metadata));
            invalid(recall::search_with("text", 1, metadata).map(|_| 0));
        }
        assert!(recall::remember_with("id", "text", &many[..16]).is_ok());
        for (question, limit) in [("", 1), (" ", 1), (&"q".repeat((8 << 10) + 1)[..], 1), ("q", 0), ("q", 101)] {
            invalid(recall::search(question, limit).map(|_| 0));
        }
    });
}

#[test]
fn each_half_needs_its_capability() {
    Host::new().grant("recall:read").within(|| {
        let denied = Error::AccessDenied("recall:write".to_owned());
        assert!(recall::search("q", 1).is_ok());
        assert_eq!(recall::remember("id", "text"), Err(denied.clone()));
        assert_eq!(recall::forget("id"), Err(denied));
    });
    Host::new().grant("recall:write").within(|| {
        assert_eq!(recall::search("q", 1), Err(Error::AccessDenied("recall:read".to_owned())));
    });
}
