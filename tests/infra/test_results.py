"""Where is a job's answer, and what is said of one that went a moment ago?"""

from infra.objects import open_store
from infra.results import key_of, result_of
from models.packing import pack
from models.tables.jobs import Job

ANSWER = {"completion": {"id": "chatcmpl-1"}}


async def test_an_answer_is_in_its_row_or_where_the_row_says_or_gone(tmp_path):
    objects = open_store(f"file://{tmp_path}")
    await objects.open()
    key = key_of("job_1", 2)
    assert await result_of(objects, Job(result=ANSWER)) == ANSWER
    assert await result_of(objects, Job(result_key=key)) is None, "its row was read before it went"
    await objects.put(key, pack(ANSWER))
    assert await result_of(objects, Job(result_key=key)) == ANSWER
