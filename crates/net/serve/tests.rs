//! Where requests lead, and which parts they want.

use proptest::prelude::*;

use super::*;

const PART: &str = "0123456789abcdfghijklmnpqrsvwxyz";

#[test]
fn only_names_of_a_cache_lead_anywhere() {
    let hash = "1".repeat(52);
    let route = |path: &str| Route::parse(path);
    assert_eq!(route("/"), Some(Route::Usage));
    assert_eq!(route("/nix-cache-info"), Some(Route::CacheInfo));
    assert_eq!(route("/nix%2Dcache-info"), Some(Route::CacheInfo));
    let narinfo = Some(Route::NarInfo(PART.to_owned()));
    assert_eq!(route(&format!("/{PART}.narinfo")), narinfo);
    assert_eq!(
        route(&format!("/{PART}.ls")),
        Some(Route::Listing(PART.to_owned()))
    );
    for (end, packing) in [("", Packing::None), (".zst", Packing::Zstd)] {
        let name = format!("nar/{PART}-{hash}.nar{end}");
        let Some(Route::Archive(archive)) = route(&format!("/{name}")) else {
            panic!("{name} is no archive");
        };
        assert_eq!((archive.packing, archive.url()), (packing, name));
    }
    let log = route(&format!("/log/{PART}-a%2bb.drv"));
    assert!(matches!(log, Some(Route::Log(drv)) if drv.name() == "a+b.drv"));
    for bad in [
        "",
        "*",
        "//",
        "nix-cache-info",
        "/nix-cache-info/",
        "/x.narinfo",
        &format!("/{PART}"),
        &format!("/{PART}.narinfo/"),
        &format!("/x/{PART}.narinfo"),
        &format!("/../{PART}.narinfo"),
        &format!("/{}.narinfo", PART.to_uppercase()),
        &format!("/{}.narinfo", &PART[1..]),
        &format!("/%00{}.narinfo", &PART[1..]),
        &format!("/nar/{PART}.nar"),
        &format!("/nar/{PART}-{hash}.nar.xz"),
        &format!("/nar/{PART}-{}.nar", &hash[1..]),
        &format!("/nar/../{PART}-{hash}.nar"),
        &format!("/nar/{PART}-{hash}.nar/.."),
        &format!("/log/{PART}-x"),
        &format!("/log/{PART}-..%2f..%2fx.drv"),
        "/log/..",
        "/log/../../../etc/passwd",
        "/etc/passwd",
        "/%ff",
    ] {
        assert_eq!(route(bad), None, "{bad}");
    }
}

#[test]
fn parts_are_those_of_the_standard() {
    let part = |from, length| Part::Bytes { from, length };
    for (header, expected) in [
        ("bytes=0-", part(0, 100)),
        ("bytes=0-0", part(0, 1)),
        ("bytes=10-19", part(10, 10)),
        ("Bytes = 10 - 19", part(10, 10)),
        ("bytes=90-1000", part(90, 10)),
        ("bytes=90-99999999999999999999999", part(90, 10)),
        ("bytes=-1", part(99, 1)),
        ("bytes=-1000", part(0, 100)),
        ("bytes=100-", Part::Beyond),
        ("bytes=100-200", Part::Beyond),
        ("bytes=99999999999999999999999-", Part::Beyond),
        ("bytes=-0", Part::Beyond),
        ("", Part::Whole),
        ("bytes", Part::Whole),
        ("bytes=", Part::Whole),
        ("bytes=-", Part::Whole),
        ("bytes=5-4", Part::Whole),
        ("bytes=0-1,3-4", Part::Whole),
        ("bytes=+1-2", Part::Whole),
        ("lines=0-1", Part::Whole),
    ] {
        assert_eq!(Part::parse(header, 100), expected, "{header}");
    }
}

proptest! {
    #[test]
    fn no_path_panics_and_names_lead_back(path in ".{0,120}") {
        if let Some(Route::Archive(name)) = Route::parse(&path) {
            let again = Route::parse(&format!("/{}", name.url()));
            prop_assert_eq!(again, Some(Route::Archive(name)));
        }
    }

    #[test]
    fn parts_lie_in_the_whole(header in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 1_u64..500) {
        if let Part::Bytes { from, length } = Part::parse(&header, size) {
            prop_assert!(length > 0 && from + length <= size);
        }
    }
}
