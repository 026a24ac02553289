"""Keys: made without a moment in which others could read them, checked when read, and trusted by name."""

import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import zmq
import zmq.auth

from launch.keys import Keys, default_folder, load_keys, load_trusted, make_keys, trust

OTHER = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # the public key of ZeroMQ's RFC 26
ANOTHER = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine's keys."""
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(error: pytest.ExceptionInfo[ValueError]) -> str:
    """What an error says, which is one sentence."""
    said = str(error.value)
    assert "\n" not in said
    assert not re.search(r"\. [A-Z]", said)
    return said


def test_a_pair_is_made_once_and_read_again(folder):
    keys = load_keys(folder)
    assert keys == Keys(folder, keys.public, keys.secret, {})
    assert zmq.curve_public(keys.secret) == keys.public
    assert zmq.auth.load_certificate(folder / "own.key") == (keys.public, None)
    with pytest.raises(ValueError, match="is there already") as error:
        make_keys(folder)
    refused(error)
    assert load_keys(folder) == keys


def test_the_secret_shows_in_no_print(folder):
    keys = load_keys(folder)
    assert keys.secret.decode() not in repr(keys)
    assert "secret" not in repr(keys).replace(str(folder), "")


def test_nobody_else_can_read_the_secret_at_any_moment(tmp_path, monkeypatch):
    """The file has its mode, in a closed folder, before the secret is written."""
    create, seen = zmq.auth.create_certificates, []

    def look_first(where: Path, name: str):
        seen.append((mode(Path(where)), mode(Path(where) / f"{name}.key_secret")))
        return create(where, name)

    monkeypatch.setattr(zmq.auth, "create_certificates", look_first)
    before = os.umask(0)
    try:
        make_keys(tmp_path / "a" / "keys")
    finally:
        os.umask(before)
    assert set(seen) == {(0o700, 0o600)}
    assert mode(tmp_path / "a" / "keys" / "own.key_secret") == 0o600


def test_a_public_key_never_looks_like_an_option(tmp_path, monkeypatch):
    dashed = next(pair for pair in iter(zmq.curve_keypair, None) if pair[0].startswith(b"-"))
    plain = next(pair for pair in iter(zmq.curve_keypair, None) if not pair[0].startswith(b"-"))
    pairs = iter([dashed, plain])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs))
    assert make_keys(tmp_path / "keys") == plain[0].decode()
    assert load_keys(tmp_path / "keys").secret == plain[1]


def test_no_keys_are_no_keys(tmp_path):
    with pytest.raises(ValueError, match="segue keys make") as error:
        load_keys(tmp_path)
    refused(error)


def test_a_file_is_no_folder_of_keys(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "keys"):
        with pytest.raises(ValueError, match="give another folder") as error:
            make_keys(folder)
        refused(error)


@pytest.mark.parametrize("text", ["", "curve\n", "\x00\xff", 'public-key = "short"\n', f'public-key = "{OTHER}"\n'])
def test_a_damaged_pair_is_refused(folder, text):
    (folder / "own.key_secret").write_text(text)
    with pytest.raises(ValueError, match=r"own\.key_secret is (damaged|no readable key file).*segue keys") as error:
        load_keys(folder)
    refused(error)


def test_a_pair_whose_keys_do_not_belong_together_is_refused(folder):
    secret = folder / "own.key_secret"
    secret.write_text(secret.read_text().replace(load_keys(folder).public.decode(), OTHER))
    with pytest.raises(ValueError, match="damaged"):
        load_keys(folder)


@pytest.mark.parametrize(("name", "found", "remedy"), [("own.key_secret", 0o640, "600"), (".", 0o755, "700")])
def test_keys_that_others_can_reach_are_refused(folder, name, found, remedy):
    (folder / name).chmod(found)
    with pytest.raises(ValueError, match=rf"mode {found:03o}.*chmod {remedy} ") as error:
        load_keys(folder)
    refused(error)


def test_keys_are_not_made_in_a_folder_that_others_can_reach(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(ValueError, match="chmod 700"):
        make_keys(tmp_path)
    assert not list(tmp_path.iterdir())


def test_peers_are_trusted_by_name(folder):
    trust(folder, "robot-1", OTHER)
    trust(folder, "robot-1", OTHER)
    trust(folder, "Robot_2.lab", ANOTHER)
    assert load_keys(folder).trusted == {"robot-1": OTHER.encode(), "Robot_2.lab": ANOTHER.encode()}
    (folder / "trusted" / "robot-1.key").unlink()
    assert list(load_trusted(folder)) == ["Robot_2.lab"]


def test_copying_a_public_file_is_trusting_it(folder, tmp_path):
    public = make_keys(tmp_path / "there")
    (folder / "trusted").mkdir()
    shutil.copy(tmp_path / "there" / "own.key", folder / "trusted" / "there.key")
    assert load_keys(folder).trusted == {"there": public.encode()}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../own", "a/b", "/etc/x", ".hidden", "-x", "a b", "a\n", "ä", "x" * 65]
)
def test_a_name_that_is_none_is_refused(folder, name):
    with pytest.raises(ValueError, match="peer name") as error:
        trust(folder, name, OTHER)
    refused(error)
    assert sorted(path.name for path in folder.iterdir()) == ["own.key", "own.key_secret"]


@pytest.mark.parametrize(
    "key", ["", OTHER[:-1], OTHER + "0", OTHER[:-1] + "~", OTHER[:-1] + "é", "#" * 40, OTHER + "00000"]
)
def test_a_key_that_is_none_is_refused(folder, key):
    with pytest.raises(ValueError, match=r"no public key.*segue keys show") as error:
        trust(folder, "robot", key)
    refused(error)
    assert not load_trusted(folder)


def test_ones_own_key_is_refused(folder):
    with pytest.raises(ValueError, match="own") as error:
        trust(folder, "robot", load_keys(folder).public.decode())
    refused(error)


def test_another_key_or_another_name_is_no_quiet_change(folder):
    trust(folder, "robot", OTHER)
    for name, key, said in (("robot", ANOTHER, "trusts another key"), ("arm", OTHER, "already as 'robot'")):
        with pytest.raises(ValueError, match=said) as error:
            trust(folder, name, key)
        refused(error)
    assert load_trusted(folder) == {"robot": OTHER.encode()}


def test_a_damaged_peer_is_named(folder):
    trust(folder, "robot", OTHER)
    (folder / "trusted" / "robot.key").write_text("curve\n")
    with pytest.raises(ValueError, match=r"robot\.key") as error:
        load_keys(folder)
    refused(error)


def test_the_folder_follows_the_desktop_rules(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for config, expected in (("", tmp_path / ".config"), ("relative", tmp_path / ".config"), ("/cfg", Path("/cfg"))):
        monkeypatch.setenv("XDG_CONFIG_HOME", config)
        assert default_folder() == expected / "segue" / "keys"
