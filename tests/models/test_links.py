"""A signed link is good for what it names, for as long as it says, and for nothing else."""

import pytest

from models import links
from models.errors import PermissionDenied

SALT, PATH, UNTIL = b"s" * 32, "/v1/files/signed/job_1/answer.txt", 1000
GIVEN = links.signature(SALT, PATH, UNTIL)


def test_it_is_good_until_its_time_is_over():
    links.check(SALT, PATH, UNTIL, GIVEN, UNTIL * 1000 - 1)
    with pytest.raises(PermissionDenied):
        links.check(SALT, PATH, UNTIL, GIVEN, UNTIL * 1000)


@pytest.mark.parametrize(
    ("salt", "path", "until", "given"),
    [
        (b"t" * 32, PATH, UNTIL, GIVEN),
        (SALT, PATH.replace("answer", "result"), UNTIL, GIVEN),
        (SALT, PATH, UNTIL + 1, GIVEN),
        (SALT, PATH, UNTIL, GIVEN[:-1]),
        (SALT, PATH, UNTIL, ""),
        (SALT, PATH, UNTIL, "ä"),
    ],
)
def test_nothing_of_it_can_be_changed(salt, path, until, given):
    with pytest.raises(PermissionDenied):
        links.check(salt, path, until, given, 0)
