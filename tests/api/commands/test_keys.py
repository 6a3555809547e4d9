"""Can keys be made, seen and ended from a terminal?"""

from models.accounts import PREFIX


def test_a_key_is_shown_once_and_can_be_ended(tram):
    key = tram("keys", "create", "laptop", "--account", "home").stdout.strip()
    assert key.startswith(PREFIX)
    listed = tram("keys", "list").stdout
    assert key not in listed
    [line] = [line for line in listed.splitlines() if "laptop" in line]
    assert "home" in line
    [identity] = [word for word in line.split() if word.startswith("key_")]
    assert tram("keys", "revoke", identity).stdout == f"{identity} is revoked.\n"
    again = tram("keys", "revoke", identity)
    assert (again.returncode, again.stderr) == (1, f"tram: there is no key {identity} that could be revoked\n")
