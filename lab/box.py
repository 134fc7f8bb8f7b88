"""The Vagrant lab's box: a Debian that boots, made from a mirror alone.

For places without public boxes, and as what the tests use: its virtual machines need no network
but their own, since they carry the packages that they may be asked to install. No loop device, no
mount: the file system is written from the tree, and the boot loader is put where the BIOS looks.
"""

import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab import archive, trees
from lab.errors import LabError
from lab.programs import run

TOOLS = ("mke2fs", "qemu-img", "vagrant")

DISK_GIB = 10
SECTOR = 512
START = 2048
"""The partition's first sector; the boot loader lives in those before it."""

LABEL = "kea-ha-lab"

# net.ifnames=0: cards are eth0, eth1 in the order that Vagrant plugs them in.
GRUB = f"""\
search --no-floppy --label {LABEL} --set root
linux /vmlinuz root=LABEL={LABEL} ro net.ifnames=0 console=tty0 console=ttyS0 quiet
initrd /initrd.img
boot
"""
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "search", "search_label", "linux")

INTERFACES = """\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
"""

# A box has no identity; each machine gives itself one when it first boots.
HOST_KEYS = """\
[Unit]
Description=Make this machine's ssh host keys
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""

BOX_VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
end
"""


def name(debian: str) -> str:
    """The name under which Vagrant knows the box of this Debian."""
    return f"kea-ha-lab/debian-{debian}"


def make(debian: str, report: Callable[[str], None]) -> None:
    """Build the box of `debian` ("12" or "13") unless it is there already, and give it to Vagrant.

    Raises LabError when it cannot be built.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"missing here: {', '.join(missing)}; `make setup-vagrant` installs them")
    recipe = trees.box_recipe(debian)
    trees.ensure([recipe], report)
    box = recipe.path / "vagrant.box"
    if not box.exists():
        started = time.monotonic()
        report(f"{recipe.name}: making the disk")
        with tempfile.TemporaryDirectory(dir=recipe.path) as work:
            _pack(_make_disk(recipe, Path(work)), Path(work) / "box").rename(box)
        size = box.stat().st_size >> 20
        report(f"{recipe.name}: {size} MiB in {time.monotonic() - started:.0f} s")
    run(["vagrant", "box", "add", "--force", "--name", name(debian), str(box)])
    report(f"{name(debian)} is Vagrant's now; `vagrant up` uses it")


def _make_disk(recipe: trees.Recipe, work: Path) -> Path:
    """Write the recipe's tree as a disk that a BIOS boots, in `work`; returns the qcow2 image."""
    root = work / "root"
    # The tree in the cache stays as it is: these are hard links, and what differs is replaced.
    run(["cp", "--archive", "--link", f"{recipe.path}/root", str(root)])
    run(["cp", "--archive", "--link", "-T", f"{recipe.path}/packages", f"{root}{archive.SOURCE}"])
    _make_machine(root)
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(DISK_GIB << 30)
    run(["sfdisk", "--quiet", str(raw)], given=f"label: dos\n{START},,L,*\n")
    offset = f"offset={START * SECTOR},lazy_itable_init=1"
    kib = (DISK_GIB << 20) - START * SECTOR // 1024
    fill = ["mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", str(root), "-E", offset]
    run([*fill, str(raw), f"{kib}k"])
    _make_bootable(raw, root, work)
    image = work / "box.img"
    compress = ["-c", "-o", "compression_type=zstd", "-W", "-m", "4"]
    run(["qemu-img", "convert", "-O", "qcow2", *compress, str(raw), str(image)])
    return image


def _make_machine(root: Path) -> None:
    """Make of a tree a machine that configures its cards and takes in Vagrant."""
    public = [gem / "keys/vagrant.pub" for gem in _vagrants_gems()]
    keys = [key.read_text() for key in public if key.is_file()]
    if not keys:
        raise LabError("Vagrant's own public key (keys/vagrant.pub) was not found on this machine")
    user = (root / "home/vagrant").stat()
    ssh = root / "home/vagrant/.ssh"
    ssh.mkdir(mode=0o700)
    trees.write(ssh / "authorized_keys", keys[0], 0o600)
    for path in (ssh, ssh / "authorized_keys"):
        os.chown(path, user.st_uid, user.st_gid)
    trees.write(root / "etc/fstab", f"LABEL={LABEL} / ext4 errors=remount-ro 0 1\n")
    trees.write(root / "etc/network/interfaces", INTERFACES)
    trees.write(root / "etc/machine-id", "")
    trees.write(root / "etc/hostname", "debian\n")
    trees.write(root / "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost\n")
    trees.write(root / "etc/systemd/system/ssh-host-keys.service", HOST_KEYS)
    run(["systemctl", f"--root={root}", "enable", "ssh-host-keys.service"])


def _vagrants_gems() -> list[Path]:
    """Where Vagrant's own files may be: as Debian packages it, and as its makers do."""
    debian = Path("/usr/share/rubygems-integration/all/gems").glob("vagrant-[0-9]*")
    makers = Path("/opt/vagrant/embedded/gems").glob("**/gems/vagrant-[0-9]*")
    return [*debian, *makers]


def _make_bootable(raw: Path, root: Path, work: Path) -> None:
    """Put GRUB before the partition: its first 440 bytes in the boot record, the rest behind it.

    That is what grub-install does on a real disk. The first sector loads the second from where it
    looks unless told otherwise, which is right behind it, and that one loads the rest.
    """
    (root / "grub.cfg").write_text(GRUB)
    make = ["grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", "/grub.cfg", "-o", "/core"]
    run(["chroot", str(root), *make, *GRUB_MODULES])
    core = (root / "core").read_bytes()
    if len(core) > (START - 1) * SECTOR:
        raise LabError("GRUB does not fit before the partition")
    boot = (root / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    with raw.open("r+b") as disk:
        disk.write(boot[:440])
        disk.seek(SECTOR)
        disk.write(core)


def _pack(image: Path, box: Path) -> Path:
    """Pack the disk `image` as a box file of Vagrant's for libvirt, at `box`."""
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_GIB}
    (image.parent / "metadata.json").write_text(json.dumps(metadata))
    (image.parent / "Vagrantfile").write_text(BOX_VAGRANTFILE)
    with tarfile.open(box, "w") as archive_of_box:
        for part in ("metadata.json", "Vagrantfile", image.name):
            archive_of_box.add(image.parent / part, arcname=part)
    return box
