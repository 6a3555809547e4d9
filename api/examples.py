"""What does a request look like, for those who read the document?  One example a body; each is sent by a test.

Beside `api.contract`, which says what may be sent.
"""

from typing import Any

from pydantic import BaseModel

from models.wire.accounts import NewSubAccount, Rotation, SubAccountUpdate
from models.wire.chat import ChatRequest, JobRequest
from models.wire.completions import CompletionUpdate
from models.wire.conversations import ConversationUpdate, NewConversation
from models.wire.evals import EvalUpdate, RunRequest
from models.wire.replays import ReplayRequest
from models.wire.shapes.evals import EvalBody
from models.wire.shapes.native import NativeBody
from models.wire.shapes.texts import TextBody

_HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    ChatRequest: _HELLO,
    JobRequest: _HELLO | {"metadata": {"order": "4711"}},
    CompletionUpdate: {"metadata": {"rating": "good"}},
    NewConversation: {"name": "order-4711", "metadata": {"customer": "ada"}},
    ConversationUpdate: {"title": "A trip to Paris"},
    TextBody: {"prompt": "The capital of France is"},
    NativeBody: {"prompt": "What is the capital of France?"},
    NewSubAccount: {"name": "A customer", "rate_limit_rpm": 60, "spend_cap_cents": 500},
    SubAccountUpdate: {"spend_cap_cents": None},
    Rotation: {"grace_period": 3600},
    EvalBody: {
        "name": "Capitals",
        "data_source_config": {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        "testing_criteria": [
            {
                "type": "string_check",
                "name": "right",
                "operation": "ilike",
                "input": "{{sample.output_text}}",
                "reference": "{{item.capital}}",
            }
        ],
    },
    EvalUpdate: {"name": "Capitals of Europe"},
    RunRequest: {
        "data_source": {
            "type": "jsonl",
            "source": {
                "type": "file_content",
                "content": [{"item": {"capital": "Paris"}, "sample": {"output_text": "It is Paris."}}],
            },
        }
    },
    ReplayRequest: {"source_request_id": "job_01ja7q2v7d4m9t8b3x6k5n0w1z", "overrides": {"max_tokens": 20}},
}
