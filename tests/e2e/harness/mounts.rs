//! Commands in mount namespaces of their own, which end with them, so that no mount is ever left.

use super::{Cmd, Ran, World};

impl Cmd {
    /// The command in a mount namespace of its own, after a shell line that mounts something.
    pub(crate) fn after_mounting(self, line: &str) -> Cmd {
        let line = format!("{line} && exec \"$0\" \"$@\"");
        self.through("/usr/bin/unshare", &["--mount", "/bin/sh", "-c", &line])
    }

    /// The command where all that is in the world so far is the lower layer of an overlay, as in a
    /// container made from an image. Directories there can't be renamed. What the command changes
    /// is gone afterwards.
    pub(crate) fn on_image(self, world: &World) -> Cmd {
        self.after_mounting(&image_of(world))
    }
}

impl World {
    /// Runs a shell script in the world, whose store, state, logs and temporary directory are on a
    /// file system that `mount` mounts if it is given a place. `$w` is windrow there.
    #[track_caller]
    pub(crate) fn on_disk(&self, mount: &str, script: &str) -> Ran {
        let root = self.at("");
        let root = root.display();
        let line = format!(
            "set -e; mkdir -p {root}/disk; {mount} {root}/disk
             for dir in store state log tmp; do
                 mkdir -p {root}/disk/$dir {root}/$dir; mount --bind {root}/disk/$dir {root}/$dir
             done
             set +e; w={}; {script}",
            env!("CARGO_BIN_EXE_windrow")
        );
        let unshare = self.program("/usr/bin/unshare");
        unshare.args(["--mount", "/bin/sh", "-c", &line]).run()
    }

    /// What mounts a new ext4 for [`World::on_disk`], with that many inodes.
    pub(crate) fn small_ext4(&self, mebibytes: u32, inodes: u32) -> String {
        let image = self.at("ext4.img");
        format!(
            "truncate -s {mebibytes}M {0}; mkfs.ext4 -q -m 0 -N {inodes} {0}; mount -o loop {0}",
            image.display()
        )
    }
}

/// A shell line that makes the world the lower layer of an overlay.
fn image_of(world: &World) -> String {
    format!(
        "mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work && \
         mount -t overlay -o lowerdir={0},upperdir=/mnt/upper,workdir=/mnt/work,redirect_dir=off \
         none {0} && cd {0}/files",
        world.at("").display()
    )
}

/// Whether this machine lets us mount at all, which root in a container may not.
pub(crate) fn may_mount() -> bool {
    may("mount -t tmpfs none /mnt")
}

/// Whether it lets us mount an overlay.
pub(crate) fn may_overlay() -> bool {
    may(&image_of(&World::new()))
}

/// Whether it lets us mount an image of an ext4.
pub(crate) fn may_loop() -> bool {
    let world = World::new();
    may(&format!("{} /mnt", world.small_ext4(4, 64)))
}

fn may(line: &str) -> bool {
    std::process::Command::new("/usr/bin/unshare")
        .args(["--mount", "/bin/sh", "-c", line])
        .output()
        .is_ok_and(|output| output.status.success())
}

macro_rules! need_mounts {
    () => {
        $crate::harness::need!(root);
        $crate::harness::need!("unshare", "mount");
        if !$crate::harness::may_mount() {
            return $crate::harness::skip("needs the right to mount");
        }
    };
}
pub(crate) use need_mounts;

macro_rules! need_ext4 {
    () => {
        $crate::harness::need_mounts!();
        $crate::harness::need!("mkfs.ext4", "truncate");
        if !$crate::harness::may_loop() {
            return $crate::harness::skip("needs loop devices and ext4");
        }
    };
}
pub(crate) use need_ext4;

macro_rules! need_overlays {
    () => {
        $crate::harness::need_mounts!();
        if !$crate::harness::may_overlay() {
            return $crate::harness::skip("needs overlays");
        }
    };
}
pub(crate) use need_overlays;
