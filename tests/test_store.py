"""The disk store of machine code: what it gives back is what this user saved, whole, or nothing."""

import os
import stat
import subprocess
import sys
import time

import pytest

from fastpoly_kernels import store

CODE = b"symbol\n" + bytes(range(64))
NO_USERS = not hasattr(os, "geteuid")
needs_users = pytest.mark.skipif(NO_USERS, reason="Windows keeps its users' folders apart itself")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "kernels"
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", str(place))
    monkeypatch.setattr(store, "_said", set())
    return place


@pytest.fixture
def file(folder):
    store.save("kernel.kernel", CODE)
    (path,) = folder.iterdir()
    return path


def test_what_was_saved_is_loaded(file):
    assert store.load("kernel.kernel") == CODE
    assert store.load("another.kernel") is None


def test_saving_again_replaces(file):
    store.save("kernel.kernel", CODE[::-1])
    assert store.load("kernel.kernel") == CODE[::-1]


@needs_users
def test_folder_and_files_are_the_users_alone(folder, file):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_flipped_bit_is_noticed(file):
    """Of the mark, the digest and the code; one of them in a folder of machine code ran as it stood."""
    whole = file.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert store.load("kernel.kernel") is None, (at, bit)
    file.write_bytes(whole)
    assert store.load("kernel.kernel") == CODE


def test_every_cut_is_noticed(file):
    """A file is written under its own name: a kill, or a full disk, leaves its beginning."""
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert store.load("kernel.kernel") is None, length
    store.save("kernel.kernel", CODE)
    assert store.load("kernel.kernel") == CODE
    assert list(file.parent.iterdir()) == [file]


def test_a_file_of_another_name_is_another_kernel(file):
    file.rename(file.with_name("other.kernel"))
    assert store.load("other.kernel") is None


@needs_users
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_others_can_write_is_not_used_and_that_is_said_once(folder, file, what, mode):
    path = folder if what == "folder" else file
    path.chmod(mode)
    with pytest.warns(RuntimeWarning, match=r"others can write to .*; remove it, or name another folder in") as said:
        assert [store.load("kernel.kernel") for _ in range(3)] == [None] * 3
    assert len(said) == 1
    assert str(path) in str(said[0].message)
    if what == "folder":
        store.save("new.kernel", CODE)
        assert list(folder.iterdir()) == [file]


@needs_users
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_what_others_can_only_read_is_used(folder, file, mode):
    folder.chmod(mode)
    assert store.load("kernel.kernel") == CODE


@needs_users
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_belongs_to_another_user_is_not_used(folder, file, what, monkeypatch):
    path = folder if what == "folder" else file
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    elif what == "folder":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        pytest.skip("only root can give a file away")
    with pytest.warns(RuntimeWarning, match="belongs to another user; name a folder of your own"):
        assert store.load("kernel.kernel") is None


@needs_users
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_read(file, kind, tmp_path):
    file.rename(tmp_path / "elsewhere")
    if kind == "link":
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(file)  # to open it would wait for a writer
    else:
        file.mkdir()
    assert store.load("kernel.kernel") is None
    store.save("kernel.kernel", CODE)
    assert store.load("kernel.kernel") == (None if kind == "folder" else CODE)
    assert store.load("elsewhere.kernel") is None


def test_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", "~/kernels")
    assert store.folder() == tmp_path / "kernels"


def test_nobodys_home_is_said_to_be_none(folder, monkeypatch):
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", "~no-such-user/kernels")
    with pytest.warns(RuntimeWarning, match="no such home; name a folder by its whole path"):
        assert store.load("kernel.kernel") is None


def test_without_being_told_it_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTPOLY_CACHE_DIR")
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert tmp_path in store.folder().parents
    if sys.platform == "linux":
        assert store.folder() == tmp_path / "chosen" / "fastpoly" / "kernels"
        monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
        assert store.folder() == tmp_path / ".cache" / "fastpoly" / "kernels"


def test_what_was_used_longest_ago_gives_way(folder, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 1000)
    for i in range(4):
        store.save(f"{i}.kernel", bytes(200))
        os.utime(folder / f"{i}.kernel", (i, i))
    assert store.load("0.kernel") is not None  # and with that it is the newest
    store.save("4.kernel", bytes(200))
    assert [store.load(f"{i}.kernel") is not None for i in range(5)] == [True, False, True, True, True]
    assert sum(file.bytes for file in store.stored()) <= 1000


def test_other_files_in_the_folder_stay(folder, file, monkeypatch):
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setattr(store, "MOST_BYTES", 0)
    store.save("new.kernel", CODE)
    assert not file.exists()
    assert store.clear() == 1
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def command(*words):
    told = subprocess.run([sys.executable, "-m", "fastpoly", "cache", *words], capture_output=True, text=True)
    return told.returncode, told.stdout, told.stderr


def test_the_command_shows_and_clears(folder, file):
    status, out, _ = command()
    assert status == 0
    assert out == f"1 kernels, 0.0 of at most 268 MB, in {folder}\n"
    assert command("--clear") == (0, f"1 kernels removed from {folder}\n", "")
    assert not file.exists()


KILLED = """
import sys
from fastpoly_kernels import store
print("ready", flush=True)
i = 0
while True:
    store.save(f"{i % 20}.kernel", bytes(300_000))
    i += 1
"""


@needs_users
def test_a_kill_leaves_nothing_that_stays(folder):
    """Eight of them, in the middle of a write as likely as not: the next one mends what was cut."""
    for i in range(8):
        with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(0.005 * i)
            child.kill()
        assert all(store.load(f"{k}.kernel") in (None, bytes(300_000)) for k in range(20))
    for k in range(20):
        store.save(f"{k}.kernel", b"whole")
        assert store.load(f"{k}.kernel") == b"whole"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{k}.kernel" for k in range(20))
