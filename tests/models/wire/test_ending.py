"""The end of a stream says the same to whoever reads it as to whoever wrote it."""

import pytest

from models.errors import Cancelled, Expired
from models.lifecycle import FINAL, JobState
from models.wire.ending import StreamEnd


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("error", [None, Expired("too late").as_json()])
@pytest.mark.parametrize("completion", [None, {"id": "chatcmpl-1", "choices": [{"text": "ä\u2028"}]}])
@pytest.mark.parametrize("waited_ms", [None, 0, 12])
def test_an_end_is_read_as_it_was_written(state, error, completion, waited_ms):
    end = StreamEnd(state, error, completion, waited_ms)
    assert StreamEnd.load(end.dump()) == end
    assert isinstance(StreamEnd.load(end.dump()).state, JobState)


def test_a_failure_is_an_error_again():
    failure = StreamEnd.load(StreamEnd(JobState.CANCELLED, Cancelled("stopped").as_json()).dump()).failure()
    assert isinstance(failure, Cancelled)
    assert failure.message == "stopped"
    assert failure.ended
    assert not Cancelled("stopped").ended, "only what a job's end says is final"
    assert StreamEnd(JobState.COMPLETED).failure() is None
