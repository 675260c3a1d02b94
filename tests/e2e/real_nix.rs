//! Against a real Nix: the same graph built by both, at the same paths, gives the same store.
//! What both do at the same moment is in concurrent.rs.

use crate::harness::{World, layered_nix, need, skip, sorted_lines, text};

/// A graph with all kinds of outputs and references, and builders that note their names in `log`.
pub(crate) fn rich(world: &World) -> String {
    world.write("source/a", "source a\n");
    world.write("source/b/c", "source c\n");
    r#"
    let
      system = builtins.currentSystem;
      make = name: script: more: derivation ({
        inherit name system; builder = "/bin/sh";
        args = [ "-c" ("PATH=/usr/bin:/bin; echo ${name} >> LOG; sleep 0.0$(( $$ % 5 ));\n" + script) ];
      } // more);
      source = ./source;
      tree = make "tree" ''
        mkdir -p $out/bin $out/empty $out/d; echo "echo hi" > $out/bin/run; chmod 755 $out/bin/run
        ln -s ../bin/run $out/d/link; ln -s ${source}/a $out/d/to-source; printf 'a\0b' > $out/d/nul
        ln $out/bin/run $out/bin/run2; touch $out/.hidden $out/d/"name with blanks"; printf %s $out > $out/self
      '' { };
      multi = make "multi" ''
        mkdir $out $dev; echo $dev > $out/dev; echo ${tree} > $dev/tree; echo nothing > $doc
      '' { outputs = [ "out" "dev" "doc" ]; };
      flat = make "flat" "printf hello > $out" {
        outputHashMode = "flat"; outputHashAlgo = "sha256";
        outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
      };
      recursive = make "recursive" "mkdir $out; printf hello > $out/x" {
        outputHashMode = "recursive"; outputHashAlgo = "sha256";
        outputHash = "RECURSIVE";
      };
      sha1 = make "sha1" "printf hello > $out" {
        outputHashMode = "flat"; outputHashAlgo = "sha1"; outputHash = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
      };
      link = make "link" "ln -s ${multi.doc} $out" { };
      empty = make "empty" ": > $out" { };
      big = make "big" "head -c 3000000 /dev/zero > $out; printf ${flat} >> $out" { };
      disguised = make "disguised" "printf ${tree} | tr a-z b-za > $out; echo ${tree} | rev >> $out" { };
      small = i: make "small${toString i}" "echo ${toString i} > $out; cat ${flat} >> $out" { };
    in make "top" ''
      { cat ${multi} 2>&-; echo ${multi} ${multi.doc} ${flat} ${sha1} ${recursive}/x ${link} ${empty} ${big} ${disguised}
        cat ${source}/a; echo $smalls; } > $out
    '' { smalls = builtins.genList small 8; }
    "#
    .replace("LOG", world.file("runs").to_str().unwrap())
}

/// The expression of [`rich`] with the hash of its recursive output filled in.
pub(crate) fn rich_expression(world: &World) -> String {
    let dir = world.file("recursive");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("x"), "hello").unwrap();
    let hash = world
        .program("nix-hash")
        .args(["--type", "sha256"])
        .arg(&dir)
        .ok()
        .line();
    rich(world).replace("RECURSIVE", &hash)
}

/// All that the database says of every path, except when.
fn registered(world: &World) -> Vec<String> {
    let mut rows = world.sql(
        "select path, hash, narSize, ifnull(deriver, '-'), ifnull(ultimate, '-'), ifnull(sigs, '-'), ifnull(ca, '-'),
                (select group_concat(path, ' ') from
                   (select r.path from Refs join ValidPaths r on r.id = reference where referrer = v.id order by r.path)),
                (select group_concat(out, ' ') from
                   (select id || '=' || path as out from DerivationOutputs where drv = v.id order by id))
         from ValidPaths v",
    );
    rows.sort();
    rows
}

/// Builds the expression with Nix and then, at the same paths, with windrow, and compares.
#[track_caller]
fn same_store(world: &World, instantiate: impl Fn() -> String) {
    let drv = instantiate();
    let theirs = world
        .program("nix-store")
        .args(["--realise", "-j2", &drv])
        .ok()
        .lines();
    let nix = registered(world);
    world.set_aside("nix");
    let log = world.file("runs");
    let nix_runs = sorted_lines(&log);
    let _ = std::fs::remove_file(&log);

    assert_eq!(instantiate(), drv);
    let ours = world.windrow("build").arg(&drv).arg("-j2").ok().lines();
    assert_eq!(ours, theirs, "the printed outputs");
    let runs = sorted_lines(&log);
    assert_eq!(runs, nix_runs, "what was built");
    let windrow = registered(world);
    for (nix, windrow) in nix.iter().zip(&windrow) {
        assert_eq!(nix, windrow, "Nix's on the left, windrow's on the right");
    }
    assert_eq!(nix.len(), windrow.len());

    world.verifies();
    let again = world.program("nix-store").args(["--realise", &drv]).ok();
    assert_eq!(again.lines(), theirs);
    assert_eq!(sorted_lines(&log), runs, "Nix builds nothing\n{again}");
    world
        .program("nix-store")
        .args(["--realise", "--dry-run", &drv])
        .ok()
        .never_says("will be built");
    world.is_clean();
    let diff = world
        .program("diff")
        .args(["-r", "--no-dereference"])
        .arg(world.store())
        .arg(world.at("nix.store"));
    diff.args(["--exclude=.links", "--exclude=*.lock"]).ok();
}

#[test]
fn a_layered_graph_gives_the_same_store() {
    need!("nix-store", "nix-instantiate", "sqlite3", "diff");
    let Some(layered) = layered_nix() else {
        return skip("needs ../shared/bench/layered.nix");
    };
    let world = World::new();
    same_store(&world, || {
        let cmd = world.program("nix-instantiate").arg(&layered);
        cmd.args([
            "--arg", "n", "60", "--arg", "w", "20", "--arg", "d", "3", "--argstr", "salt", "t",
        ])
        .ok()
        .line()
    });
}

#[test]
fn all_kinds_of_outputs_give_the_same_store() {
    need!(
        "nix-store",
        "nix-instantiate",
        "nix-hash",
        "sqlite3",
        "diff"
    );
    let world = World::new();
    let expression = rich_expression(&world);
    same_store(&world, || world.instantiate(&expression).remove(0));
    assert!(
        sorted_lines(world.file("runs")).len() >= 18,
        "{}",
        text(world.file("runs"))
    );
}

#[test]
fn nix_may_build_a_part_and_windrow_the_rest_and_the_other_way_round() {
    need!(nix);
    let world = World::new();
    let log = world.file("runs");
    let expression = |salt: &str| {
        format!(
            r#"let make = name: deps: derivation {{ inherit name deps; system = builtins.currentSystem; builder = "/bin/sh";
                 args = [ "-c" "PATH=/usr/bin:/bin; echo ${{name}} >> {}; cat $deps > $out </dev/null; echo ${{name}} >> $out" ]; }};
               in let a = make "a{salt}" []; b = make "b{salt}" [ a ]; c = make "c{salt}" [ a b ]; in [ b c ]"#,
            log.display()
        )
    };
    for (salt, windrow_first) in [("1", true), ("2", false)] {
        let drvs = world.instantiate(&expression(salt));
        let windrow = |drv: &str| world.windrow("build").arg(drv).ok();
        let nix = |drv: &str| world.program("nix-store").args(["--realise", drv]).ok();
        if windrow_first {
            windrow(&drvs[0]);
            nix(&drvs[1]);
        } else {
            nix(&drvs[0]);
            windrow(&drvs[1]);
        }
    }
    assert_eq!(sorted_lines(&log), ["a1", "a2", "b1", "b2", "c1", "c2"]);
    world.verifies();
    world.is_clean();
}

#[test]
fn nix_reads_what_windrow_made_with_no_nix_before() {
    need!(nix);
    let world = World::new();
    let graph = crate::harness::graph_of([("x", crate::harness::sh("echo x > $out"))]);
    let drv = world.add(&graph);
    let out = world.windrow("build").arg(&drv).ok().line();
    world.verifies();
    let query = |what: &str, path: &str| {
        world
            .program("nix-store")
            .args(["--query", what, path])
            .ok()
            .line()
    };
    assert_eq!(query("--deriver", &out), drv);
    assert_eq!(query("--outputs", &drv), out);
    let hash = world
        .program("nix-hash")
        .args(["--type", "sha256", "--base32", &out])
        .ok()
        .line();
    assert_eq!(query("--hash", &out), format!("sha256:{hash}"));
    assert_eq!(
        world
            .program("nix-store")
            .args(["--realise", &drv])
            .ok()
            .line(),
        out
    );
    assert_eq!(text(world.state().join("db/schema")), "10");
}
